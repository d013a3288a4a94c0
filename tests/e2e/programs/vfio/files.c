/* SPDX-License-Identifier: GPL-2.0-only */
/* files BDF: containers, groups and devices as files. */
#include "show.h"

static void poll_it(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT | POLLPRI };
	int ready = poll(&p, 1, 0);

	show(ready, "poll");
	printf("events %#x\n", (unsigned int)p.revents);
}

static void as_file(const char *name, int fd)
{
	unsigned char bytes[64] = { 0 };
	struct iovec parts[] = { { bytes, 4 }, { bytes + 8, 4 } };
	char path[64], link[256] = "";
	int copy = dup(fd);
	volatile int few = -1;

	printf("%s\n", name);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	readlink(path, link, sizeof(link) - 1);
	show(pread(fd, bytes, 0, 0), "pread nothing");
	show(pread(fd, bytes, 4, 1ll << 50), "pread far away");
	show(pread(fd, bytes, 4, -1), "pread before the beginning");
	show(pwrite(fd, bytes, 4, 1ll << 50), "pwrite far away");
	show(preadv(fd, parts, 2, 7ll << 40), "preadv");
	show(pwritev(fd, parts, 2, 7ll << 40), "pwritev");
	show(preadv(fd, parts, few, 7ll << 40), "preadv of less");
	poll_it(fd);
	show(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK | O_APPEND), "flags");
	show(fcntl(fd, F_GETFD), "close on exec");
	show_ok(copy, "dup");
	show(ioctl(copy, VFIO_GET_API_VERSION), "API version through it");
	close(copy);
	show(ioctl(copy, VFIO_GET_API_VERSION), "API version when closed");
	show(syscall(SYS_pread64, fd, 8ul, 4ul, 7ul << 40), "pread to nowhere");
}

int main(int argc, char **argv)
{
	int device;

	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	as_file("container", container);
	as_file("group", group);
	as_file("device", device);
	return 0;
}
