/* SPDX-License-Identifier: GPL-2.0-only */
/* hammer THREADS ROUNDS: every thread has a VM and a device; all add and delete one group. */
#include "steps.h"
#include <pthread.h>

static int rounds, group, kvm;

static void *hammer(void *unused)
{
	long wrong = 0;

	(void)unused;
	for (int i = 0; i < rounds; i++) {
		int vm = ioctl(kvm, KVM_CREATE_VM, 0), device = create_device(vm);

		for (int n = 0; n < 20; n++) {
			wrong += add(device, group) != 0;
			wrong += add(device, group) != -1 || errno != EEXIST;
			wrong += attribute(device, KVM_HAS_DEVICE_ATTR, 2, 0) != 0;
			wrong += del(device, group) != 0;
			wrong += del(device, group) != -1 || errno != ENOENT;
			int container = open("/dev/vfio/vfio", O_RDWR);
			wrong += ioctl(container, VFIO_GET_API_VERSION) != 0;
			wrong += close(container) != 0;
		}
		wrong += add(device, group) != 0;
		close(vm);
		close(device);
	}
	return (void *)wrong;
}

int main(int argc, char **argv)
{
	int threads = atoi(argv[1]);
	pthread_t thread[64];
	long wrong = 0;
	void *result;

	(void)argc;
	rounds = atoi(argv[2]);
	kvm = open("/dev/kvm", O_RDWR);
	group = open("/dev/vfio/1", O_RDWR);
	for (int i = 0; i < threads; i++)
		pthread_create(&thread[i], NULL, hammer, NULL);
	for (int i = 0; i < threads; i++) {
		pthread_join(thread[i], &result);
		wrong += (long)result;
	}
	close(group);
	value("wrong", wrong);
	step("open", open("/dev/vfio/1", O_RDWR));
	return 0;
}
