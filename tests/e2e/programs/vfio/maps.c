/* SPDX-License-Identifier: GPL-2.0-only */
/* maps BDF: mapping and unmapping DMA at the limits, with type1 and type1v2. */
#include "show.h"

#define PAGE 4096ull

static char *memory;

static long map(const char *name, uint64_t vaddr, uint64_t iova, uint64_t size, uint32_t flags, uint32_t argsz)
{
	struct vfio_iommu_type1_dma_map dma = {
		.argsz = argsz, .flags = flags, .vaddr = vaddr, .iova = iova, .size = size,
	};

	return show(ioctl(container, VFIO_IOMMU_MAP_DMA, &dma), "map %s", name);
}

static long put(const char *name, uint64_t iova, uint64_t size)
{
	return map(name, (uintptr_t)memory, iova, size, 3, sizeof(struct vfio_iommu_type1_dma_map));
}

static long unmap(const char *name, uint64_t iova, uint64_t size, uint32_t flags, uint32_t argsz)
{
	struct vfio_iommu_type1_dma_unmap dma = { .argsz = argsz, .flags = flags, .iova = iova, .size = size };
	long result = show(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &dma), "unmap %s", name);

	printf("size %#llx\n", (unsigned long long)dma.size);
	return result;
}

static void take(const char *name, uint64_t iova, uint64_t size)
{
	unmap(name, iova, size, 0, 24);
}

static void info(unsigned int argsz)
{
	struct { struct vfio_iommu_type1_info info; unsigned char more[232]; } r;

	memset(&r, 0xee, sizeof(r));
	r.info.argsz = argsz;
	show(ioctl(container, VFIO_IOMMU_GET_INFO, &r), "info, argsz %u", argsz);
	show_bytes("info", &r, 128);
}

static void arguments(void)
{
	const uint64_t at = (uintptr_t)memory;

	for (unsigned int argsz = 0; argsz < 48; argsz += 8)
		map("argsz", at, 16 * PAGE, PAGE, 3, argsz);
	for (unsigned int flags = 0; flags < 16; flags++) {
		map("flags", at, (32 + flags) * PAGE, PAGE, flags, 32);
		unmap("flags", (32 + flags) * PAGE, PAGE, flags, 24);
	}
	for (unsigned int argsz = 0; argsz < 40; argsz += 8)
		unmap("argsz", 16 * PAGE, PAGE, 0, argsz);
	map("nothing", at, 0, 0, 3, 32);
	map("a byte", at, 0, 1, 3, 32);
	map("half a page", at, 0, PAGE / 2, 3, 32);
	map("misaligned memory", at + 8, 0, PAGE, 3, 32);
	map("misaligned iova", at, 8, PAGE, 3, 32);
	map("misaligned alike", at + 8, 8, PAGE, 3, 32);
	map("no memory", 0, 0, PAGE, 3, 32);
	map("memory that is not there", 0x10000, 0, PAGE, 3, 32);
	map("the kernel", 0xffffffff81000000, 0, PAGE, 3, 32);
	map("the end of memory", 0x7ffffffff000, 0, PAGE, 3, 32);
	map("memory that wraps", -PAGE, 0, 2 * PAGE, 3, 32);
	show(ioctl(container, VFIO_IOMMU_MAP_DMA, NULL), "map without structure");
	show(ioctl(container, VFIO_IOMMU_UNMAP_DMA, NULL), "unmap without structure");
	show(ioctl(container, VFIO_IOMMU_GET_INFO, NULL), "info without structure");
	for (unsigned int argsz = 0; argsz < 32; argsz += 4)
		info(argsz);
	info(108);
	info(240);
}

static void limits(void)
{
	put("the first page", 0, PAGE);
	put("the first page again", 0, PAGE);
	put("two pages there", 0, 2 * PAGE);
	put("the page behind", PAGE, PAGE);
	take("both", 0, 2 * PAGE);
	put("below the interrupts", 0xfedff000, PAGE);
	put("the interrupts", 0xfee00000, PAGE);
	put("into the interrupts", 0xfedfe000, 4 * PAGE);
	put("the interrupts' end", 0xfeeff000, PAGE);
	put("behind the interrupts", 0xfef00000, PAGE);
	take("all below 4 GiB", 0, 1ull << 32);
	put("the last page", (1ull << 39) - PAGE, PAGE);
	put("the page after it", 1ull << 39, PAGE);
	put("across the end", (1ull << 39) - PAGE, 2 * PAGE);
	put("48 bits", (1ull << 48) - PAGE, PAGE);
	put("2 to the 63rd", 1ull << 63, PAGE);
	put("the last page of all", -PAGE, PAGE);
	put("past the end of all", -PAGE, 2 * PAGE);
	put("everything", 0, -PAGE);
	take("the last page", (1ull << 39) - PAGE, PAGE);
	take("the last page of all", -PAGE, PAGE);
	take("past the end of all", -PAGE, 2 * PAGE);
	take("nothing", 0, 0);
	take("a byte", 0, 1);
	take("misaligned", 8, PAGE);
	take("everything", 0, -PAGE);
	take("all but a page", PAGE, -PAGE);
}

static void parts(void)
{
	put("four pages", 16 * PAGE, 4 * PAGE);
	take("the first", 16 * PAGE, PAGE);
	take("the last", 19 * PAGE, PAGE);
	take("the middle", 17 * PAGE, 2 * PAGE);
	take("around it", 15 * PAGE, 6 * PAGE);
	put("four pages again", 16 * PAGE, 4 * PAGE);
	take("beginning before", 15 * PAGE, 3 * PAGE);
	take("ending behind", 18 * PAGE, 3 * PAGE);
	take("exactly", 16 * PAGE, 4 * PAGE);
	put("one", 16 * PAGE, PAGE);
	put("its neighbour", 17 * PAGE, PAGE);
	put("one apart", 20 * PAGE, PAGE);
	take("all three", 16 * PAGE, 5 * PAGE);
	put("one", 16 * PAGE, PAGE);
	put("another", 18 * PAGE, PAGE);
	unmap("all", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, 24);
	put("one", 16 * PAGE, PAGE);
	unmap("all, of a size", 0, PAGE, VFIO_DMA_UNMAP_FLAG_ALL, 24);
	unmap("all, from somewhere", PAGE, 0, VFIO_DMA_UNMAP_FLAG_ALL, 24);
	unmap("all", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, 24);
	unmap("all again", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, 24);
}

static void kinds_of_memory(int device)
{
	struct vfio_region_info bar = region(device, 0);
	char *only_read = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *none = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *registers = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar.offset);

	map("memory to read, for reading", (uintptr_t)only_read, 0, PAGE, 1, 32);
	map("memory to read, for writing", (uintptr_t)only_read, PAGE, PAGE, 3, 32);
	map("memory of no use", (uintptr_t)none, 2 * PAGE, PAGE, 1, 32);
	map("shared memory", (uintptr_t)shared, 3 * PAGE, PAGE, 3, 32);
	map("a BAR", (uintptr_t)registers, 4 * PAGE, PAGE, 3, 32);
	munmap(shared, PAGE);
	unmap("all", 0, 0, VFIO_DMA_UNMAP_FLAG_ALL, 24);
	map("what is unmapped", (uintptr_t)shared, 3 * PAGE, PAGE, 3, 32);
	take("all", 0, 1ull << 32);
}

int main(int argc, char **argv)
{
	int device;

	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	memory = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int extension = 0; extension < 13; extension++)
		show(ioctl(container, VFIO_CHECK_EXTENSION, extension), "extension %d", extension);
	arguments();
	limits();
	parts();
	kinds_of_memory(device);
	close(device);
	close(group);
	close(container);
	printf("type1\n");
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open_group(argv[1]);
	show_ok(ioctl(container, VFIO_IOMMU_MAP_DMA, NULL), "map without IOMMU");
	show_ok(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), "SET_IOMMU without group");
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "SET_CONTAINER");
	show_ok(ioctl(container, VFIO_SET_IOMMU, 0), "SET_IOMMU 0");
	show_ok(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), "SET_IOMMU");
	show_ok(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1_IOMMU), "SET_IOMMU again");
	limits();
	parts();
	return 0;
}
