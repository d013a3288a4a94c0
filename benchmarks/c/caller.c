/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * caller SETUP: the program that is measured, the same one under every supervisor and under none.
 *
 *   caller files          device and group are two unnamed files; only a supervisor can answer
 *   caller kvm            a real KVM-VFIO device of /dev/kvm; the group is /dev/null, so ADD is EINVAL
 *   caller vfio /dev/vfio/N [BDF]
 *                         everything: VM, device, container, group, IOMMU; and a PCI device
 *
 * Then, for each line "OP BATCHES" on standard input, one line "NANOSECONDS ERRNO": the time of one
 * call, as the median of batches of 100 calls, and the errno of the last. OP is `has`, `add`
 * (repeated, so EEXIST from the second on), `cycle` (ADD and DEL in turn), `config` (four bytes of a
 * device's configuration space), `bar` (a thousand reads of a mapped BAR) or `memory` (of memory). Asked like this, several
 * callers take turns, and a comparison sees the same moment of the same computer. A batch is shorter
 * than a time slice, so that another program's turn spoils some batches and not their median.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { CALLS = 100, MOST_BATCHES = 1000 }; /* CALLS is even: `cycle` ends with DEL */

static int checked(const char *what, int result)
{
	if (result < 0) {
		fprintf(stderr, "caller: %s: %s\n", what, strerror(errno));
		exit(2);
	}
	return result;
}

static int unnamed_file(void)
{
	return checked("/dev/shm", open("/dev/shm", O_TMPFILE | O_RDWR, 0600));
}

static int kvm_vfio(void)
{
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };
	int kvm = checked("/dev/kvm", open("/dev/kvm", O_RDWR));
	int vm = checked("KVM_CREATE_VM", ioctl(kvm, KVM_CREATE_VM, 0));

	checked("KVM_CREATE_DEVICE", ioctl(vm, KVM_CREATE_DEVICE, &create));
	return create.fd;
}

static int assigned_group(const char *path)
{
	int container = checked("/dev/vfio/vfio", open("/dev/vfio/vfio", O_RDWR));
	int group = checked(path, open(path, O_RDWR));

	checked("VFIO_GROUP_SET_CONTAINER", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	checked("VFIO_SET_IOMMU", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	return group;
}

static int device, group, pci;
static off_t config = 7ll << 40;
static volatile uint32_t *bar, memory[1024];

static struct vfio_region_info region(int index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	checked("VFIO_DEVICE_GET_REGION_INFO", ioctl(pci, VFIO_DEVICE_GET_REGION_INFO, &info));
	return info;
}

static void open_pci(const char *name)
{
	struct vfio_region_info info;
	void *p;

	pci = checked(name, ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name));
	config = region(VFIO_PCI_CONFIG_REGION_INDEX).offset;
	info = region(0);
	p = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, pci, info.offset);
	checked("mmap", p == MAP_FAILED ? -1 : 0);
	bar = p;
}

static int read_config(void)
{
	char bytes[4];

	return pread(pci, bytes, 4, config) == 4 ? 0 : errno;
}

static int read_all(volatile uint32_t *from)
{
	uint32_t sum = 0;

	for (int i = 0; i < 1000; i++)
		sum += from[i];
	return sum == 1; /* it is not */
}

static int read_bar(void)
{
	return read_all(bar);
}

static int read_memory(void)
{
	return read_all(memory);
}

static int call(unsigned long request, uint64_t attribute)
{
	struct kvm_device_attr attr = {
		.group = KVM_DEV_VFIO_GROUP,
		.attr = attribute,
		.addr = (uintptr_t)&group,
	};

	return ioctl(device, request, &attr) ? errno : 0;
}

static int has(void)
{
	return call(KVM_HAS_DEVICE_ATTR, KVM_DEV_VFIO_GROUP_ADD);
}

static int add(void)
{
	return call(KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_GROUP_ADD);
}

static int cycle(void)
{
	static int member;

	member = !member;
	return call(KVM_SET_DEVICE_ATTR, member ? KVM_DEV_VFIO_GROUP_ADD : KVM_DEV_VFIO_GROUP_DEL);
}

static double nanoseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void set_up(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "files")) {
		device = unnamed_file();
		group = unnamed_file();
		pci = device;
	} else if (argc == 2 && !strcmp(argv[1], "kvm")) {
		device = kvm_vfio();
		group = checked("/dev/null", open("/dev/null", O_RDWR));
	} else if (argc >= 3 && !strcmp(argv[1], "vfio")) {
		device = kvm_vfio();
		group = assigned_group(argv[2]);
		if (argc > 3)
			open_pci(argv[3]);
	} else {
		fprintf(stderr, "usage: caller files | kvm | vfio /dev/vfio/N\n");
		exit(2);
	}
}

static int by_value(const void *a, const void *b)
{
	return (*(double *)a > *(double *)b) - (*(double *)a < *(double *)b);
}

static void measure(int (*once)(void), int batches)
{
	double times[MOST_BATCHES];
	int error = 0;

	for (int i = 0; i < batches; i++) {
		double start = nanoseconds();

		for (int n = 0; n < CALLS; n++)
			error = once();
		times[i] = (nanoseconds() - start) / CALLS;
	}
	qsort(times, batches, sizeof(*times), by_value);
	printf("%.1f %d\n", times[batches / 2], error);
	fflush(stdout);
}

static int (*operation(const char *name))(void)
{
	static const struct { const char *name; int (*once)(void); } operations[] = {
		{ "has", has }, { "add", add }, { "cycle", cycle },
		{ "config", read_config }, { "bar", read_bar }, { "memory", read_memory },
	};

	for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++)
		if (!strcmp(name, operations[i].name))
			return operations[i].once;
	return NULL;
}

int main(int argc, char **argv)
{
	char name[16];
	int batches;

	set_up(argc, argv);
	while (scanf("%15s %d", name, &batches) == 2) {
		int (*once)(void) = operation(name);

		if (!once || batches < 1 || batches > MOST_BATCHES) {
			fprintf(stderr, "caller: no such request: %s %d\n", name, batches);
			return 2;
		}
		measure(once, batches);
	}
	return 0;
}
