/* SPDX-License-Identifier: GPL-2.0-only */
/* regions BDF: what each region says of itself, and reading, writing and mapping at its edges. */
#include "show.h"

static int device;
static unsigned char bytes[8192];

static void describe(unsigned int index, unsigned int argsz)
{
	struct { struct vfio_region_info info; unsigned char more[64]; } r;

	memset(&r, 0xee, sizeof(r));
	r.info.argsz = argsz;
	r.info.index = index;
	r.info.flags = 0;
	show(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &r), "region %u, argsz %u", index, argsz);
	show_bytes("info", &r, 56);
}

static void at_the_edges(struct vfio_region_info *info)
{
	static const int sizes[] = { 0, 1, 2, 3, 4, 8, 9 };

	for (unsigned int i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		show(pread(device, bytes, sizes[i], info->offset), "first %d", sizes[i]);
		show(pread(device, bytes, sizes[i], info->offset + 1), "second %d", sizes[i]);
		show(pread(device, bytes, sizes[i], info->offset + info->size - 2), "last but one %d", sizes[i]);
		show(pread(device, bytes, sizes[i], info->offset + info->size), "beyond %d", sizes[i]);
		show(pread(device, bytes, sizes[i], info->offset + (1ll << 40) - 1), "last of the space %d", sizes[i]);
		show(pwrite(device, bytes, sizes[i], info->offset + info->size), "write beyond %d", sizes[i]);
	}
	show(pread(device, nowhere, 4, info->offset), "to nowhere");
	show(pwrite(device, nowhere, 4, info->offset), "from nowhere");
}

static void map(struct vfio_region_info *info, const char *name, long long offset, size_t size, int protection, int flags)
{
	void *p = mmap(NULL, size, protection, flags, device, info->offset + offset);

	show(p == MAP_FAILED ? -1 : 0, "map %s", name);
	if (p != MAP_FAILED)
		munmap(p, size);
}

static void map_all(struct vfio_region_info *info)
{
	const int rw = PROT_READ | PROT_WRITE;

	map(info, "a page", 0, 4096, rw, MAP_SHARED);
	map(info, "a byte", 0, 1, rw, MAP_SHARED);
	map(info, "all", 0, info->size, rw, MAP_SHARED);
	map(info, "all and a page", 0, info->size + 4096, rw, MAP_SHARED);
	map(info, "the second page", 4096, 4096, rw, MAP_SHARED);
	map(info, "beyond", info->size, 4096, rw, MAP_SHARED);
	map(info, "the last page and one", info->size - 4096, 8192, rw, MAP_SHARED);
	map(info, "misaligned", 512, 4096, rw, MAP_SHARED);
	map(info, "private", 0, 4096, rw, MAP_PRIVATE);
	map(info, "private to read", 0, 4096, PROT_READ, MAP_PRIVATE);
	map(info, "to read", 0, 4096, PROT_READ, MAP_SHARED);
	map(info, "to write", 0, 4096, PROT_WRITE, MAP_SHARED);
	map(info, "for nothing", 0, 4096, PROT_NONE, MAP_SHARED);
	map(info, "to execute", 0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED);
	map(info, "no bytes", 0, 0, rw, MAP_SHARED);
	map(info, "with no kind", 0, 4096, rw, 0);
	map(info, "validated", 0, 4096, rw, MAP_SHARED_VALIDATE);
	map(info, "synchronous", 0, 4096, rw, MAP_SHARED_VALIDATE | MAP_SYNC);
	map(info, "of huge pages", 0, 2 << 20, rw, MAP_SHARED | MAP_HUGETLB);
	map(info, "populated", 0, 4096, rw, MAP_SHARED | MAP_POPULATE);
	map(info, "the end of the space", (1ll << 40) - 4096, 4096, rw, MAP_SHARED);
	map(info, "across the end of the space", (1ll << 40) - 4096, 8192, rw, MAP_SHARED);
}

static void without_memory(struct vfio_region_info *info, off_t config)
{
	uint16_t command = 0, off;

	pread(device, &command, 2, config + PCI_COMMAND);
	off = command & ~(PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
	show(pwrite(device, &off, 2, config + PCI_COMMAND), "decoding off");
	show(pread(device, bytes, 4, info->offset), "read");
	show(pwrite(device, bytes, 4, info->offset), "write");
	show(pread(device, bytes, 4, info->offset + info->size), "read beyond");
	map(info, "a page", 0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
	pwrite(device, &command, 2, config + PCI_COMMAND);
	show(pread(device, bytes, 4, info->offset), "read again");
}

int main(int argc, char **argv)
{
	off_t config;

	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	config = config_at(device);
	for (unsigned int index = 0; index < 12; index++) {
		struct vfio_region_info info = region(device, index);

		describe(index, sizeof(info));
		describe(index, sizeof(info) - 1);
		describe(index, sizeof(info) + 8);
		describe(index, sizeof(info) + 16);
		describe(index, 4096);
		describe(index, 0);
		info.offset = (uint64_t)index << 40;
		info.offset += region(device, 0).offset;
		if (index != VFIO_PCI_CONFIG_REGION_INDEX)
			at_the_edges(&info);
		map_all(&info);
		if (index < VFIO_PCI_ROM_REGION_INDEX && info.size)
			without_memory(&info, config);
	}
	describe(~0u, 32);
	show(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, NULL), "no structure");
	show(pread(device, bytes, 4, region(device, 0).offset + (100ll << 40)), "region 100");
	return 0;
}
