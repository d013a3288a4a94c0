/* SPDX-License-Identifier: GPL-2.0-only */
/* A VFIO device without a VM: opened, its regions read and written, its interrupts heard. */
#ifndef OPENED_H
#define OPENED_H

#include "steps.h"
#include <sys/eventfd.h>

struct opened {
	int container, group, device;
	uint64_t offset[VFIO_PCI_NUM_REGIONS];
};

/* Open device `name` of the group at `path`, as a bus master. */
__attribute__((unused)) static struct opened open_device(const char *path, const char *name)
{
	struct opened o = { .container = open("/dev/vfio/vfio", O_RDWR), .group = open(path, O_RDWR) };
	uint16_t command = 6;

	ioctl(o.group, VFIO_GROUP_SET_CONTAINER, &o.container);
	ioctl(o.container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
	o.device = step("device", ioctl(o.group, VFIO_GROUP_GET_DEVICE_FD, name));
	for (int i = 0; i < VFIO_PCI_VGA_REGION_INDEX; i++) {
		struct vfio_region_info info = { .argsz = sizeof(info), .index = i };

		ioctl(o.device, VFIO_DEVICE_GET_REGION_INFO, &info);
		o.offset[i] = info.offset;
	}
	pwrite(o.device, &command, 2, o.offset[VFIO_PCI_CONFIG_REGION_INDEX] + 4);
	return o;
}

__attribute__((unused)) static uint64_t get(struct opened *o, uint64_t at, int width)
{
	uint64_t v = 0;

	if (pread(o->device, &v, width, o->offset[0] + at) != width)
		perror("read of a register");
	return v;
}

__attribute__((unused)) static void put(struct opened *o, uint64_t at, uint64_t v, int width)
{
	if (pwrite(o->device, &v, width, o->offset[0] + at) != width)
		perror("write of a register");
}

__attribute__((unused)) static int map(struct opened *o, void *p, uint64_t iova, uint64_t size, int flags)
{
	struct vfio_iommu_type1_dma_map m = { .argsz = sizeof(m), .flags = flags,
		.vaddr = (uintptr_t)p, .iova = iova, .size = size };

	return ioctl(o->container, VFIO_IOMMU_MAP_DMA, &m);
}

__attribute__((unused)) static void *pages(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* Hear vector 0 of one kind of interrupt. */
__attribute__((unused)) static int hear(struct opened *o, int index)
{
	struct { struct vfio_irq_set set; int fd; } irq = {
		.set = { .argsz = sizeof(irq), .flags = VFIO_IRQ_SET_DATA_EVENTFD |
			 VFIO_IRQ_SET_ACTION_TRIGGER, .index = index, .count = 1 },
		.fd = eventfd(0, EFD_NONBLOCK),
	};

	step("hear", ioctl(o->device, VFIO_DEVICE_SET_IRQS, &irq));
	return irq.fd;
}

__attribute__((unused)) static void heard(const char *name, int event)
{
	uint64_t count = 0;

	value(name, read(event, &count, 8) == 8 ? (long)count : -1);
}

#endif
