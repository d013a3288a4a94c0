/* SPDX-License-Identifier: GPL-2.0-only */
/* regions BDF GROUP: a device's configuration space, its BARs read, written and mapped, an eventfd. */
#include "steps.h"
#include <sys/eventfd.h>
#include <sys/uio.h>

static struct vfio_region_info region(int device, int index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	return info;
}

static int map(const char *name, int fd, size_t size, off_t offset, int flags, char **where)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, offset);

	*where = p;
	return step(name, p == MAP_FAILED ? -1 : 0);
}

static int memfd(void)
{
	int fd = memfd_create("file", 0);

	ftruncate(fd, 4096);
	return fd;
}

int main(int argc, char **argv)
{
	struct { struct vfio_irq_set set; int fd; } irq = {
		.set = { .argsz = sizeof(irq), .flags = VFIO_IRQ_SET_DATA_EVENTFD |
			 VFIO_IRQ_SET_ACTION_TRIGGER, .index = VFIO_PCI_MSI_IRQ_INDEX, .count = 1 },
	};
	int container = open("/dev/vfio/vfio", O_RDWR), group = open(argv[2], O_RDWR), event;
	char bytes[16] = { 0 }, *bar;
	uint64_t count = 0;

	(void)argc;
	ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
	step("set iommu", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	int device = step("device", ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[1]));
	struct vfio_region_info config = region(device, VFIO_PCI_CONFIG_REGION_INDEX);
	struct vfio_region_info bar0 = region(device, 0);

	value("config", pread(device, bytes, 4, config.offset));
	printf("id: %02x%02x %02x%02x\n", bytes[1] & 255, bytes[0] & 255, bytes[3] & 255, bytes[2] & 255);
	value("sizing", pwrite(device, "\xff\xff\xff\xff", 4, config.offset + 0x10));
	struct iovec two[] = { { bytes, 2 }, { bytes + 2, 2 } };
	value("preadv", preadv(device, two, 2, config.offset + 0x10));
	printf("bar: %02x%02x%02x%02x\n", bytes[3] & 255, bytes[2] & 255, bytes[1] & 255, bytes[0] & 255);
	value("beyond", pread(device, bytes, 4, config.offset + config.size));
	value("to a bad address", syscall(SYS_pread64, device, 8, 4, config.offset));

	map("map", device, bar0.size, bar0.offset, MAP_SHARED, &bar);
	strcpy(bar + 0x100, "mapped");
	value("read what is mapped", pread(device, bytes, 8, bar0.offset + 0x100));
	printf("bytes read: %s\n", bytes);
	value("write what is mapped", pwrite(device, "written", 8, bar0.offset + 0x200));
	printf("bytes written: %s\n", bar + 0x200);
	char *unused;
	map("map too much", device, bar0.size + 4096, bar0.offset, MAP_SHARED, &unused);
	map("map privately", device, 4096, bar0.offset, MAP_PRIVATE, &unused);
	map("map configuration", device, 4096, config.offset, MAP_SHARED, &unused);
	map("map a group", group, 4096, 0, MAP_SHARED, &unused);
	map("map a file", memfd(), 4096, 0, MAP_SHARED, &unused);

	irq.fd = event = eventfd(0, EFD_NONBLOCK);
	step("enable", ioctl(device, VFIO_DEVICE_SET_IRQS, &irq));
	irq.set.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
	step("trigger", ioctl(device, VFIO_DEVICE_SET_IRQS, &irq));
	value("read", read(event, &count, 8));
	value("count", count);

	struct vfio_iommu_type1_dma_map dma = {
		.argsz = sizeof(dma), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)bar, .iova = 0x10000, .size = 4096,
	};
	step("dma to a bar", ioctl(container, VFIO_IOMMU_MAP_DMA, &dma));
	dma.iova += 4096;
	dma.vaddr = (uintptr_t)mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	step("dma to no memory", ioctl(container, VFIO_IOMMU_MAP_DMA, &dma));

	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vfio_group_status *status = (void *)page;
	status->argsz = sizeof(*status);
	mprotect(page, 4096, PROT_READ);
	step("answer to read-only memory", ioctl(group, VFIO_GROUP_GET_STATUS, status));
	mprotect(page, 4096, PROT_NONE);
	step("question in no memory", ioctl(group, VFIO_GROUP_GET_STATUS, status));

	close(device);
	close(group);
	step("mapping holds the device", open(argv[2], O_RDWR));
	munmap(bar, bar0.size);
	step("nothing holds it", open(argv[2], O_RDWR));
	return 0;
}
