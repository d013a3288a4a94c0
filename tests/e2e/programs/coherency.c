/* SPDX-License-Identifier: GPL-2.0-only */
/* coherency BDF GROUP: a VMM that tells KVM of its group, or not: what the device then reads. */
#include "opened.h"

enum { IOVA = 0x100000, OLD = 0, NEW = 1024, BUFFER = 0x40000 };

static struct opened o;
static char *page;

static void copy(uint64_t source, uint64_t destination, int command)
{
	put(&o, 0x80, source, 8);
	put(&o, 0x88, destination, 8);
	put(&o, 0x90, 16, 8);
	put(&o, 0x98, command | 1, 8);
}

/* Store `text`, and let the device read it; it gives back what it has read. */
static void reads(const char *name, const char *text)
{
	strcpy(page + OLD, text);
	copy(IOVA + OLD, BUFFER, 0);
	copy(BUFFER, IOVA + NEW, 2);
	printf("%s: %s\n", name, page[NEW] ? page + NEW : "old");
}

int main(int argc, char **argv)
{
	int vm = ioctl(open("/dev/kvm", O_RDWR), KVM_CREATE_VM, 0), device = create_device(vm);

	(void)argc;
	o = open_device(argv[2], argv[1]);
	page = pages(4096);
	map(&o, page, IOVA, 4096, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
	reads("not registered", "first");
	add(device, o.group);
	reads("registered", "second");
	del(device, o.group);
	reads("given up", "third");
	return 0;
}
