/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a VMM does with two groups, with three mistakes planted: group 1 is added before SET_IOMMU;
 * the KVM-VFIO device is closed while it has group 1; the fd of group 2 is kept open.
 */
#include "steps.h"

static int in_container(int group, int container)
{
	return ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
}

int main(void)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.size = 1 << 20,
	};
	int kvm = open("/dev/kvm", O_RDWR);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	int device = create_device(vm);
	int container = open("/dev/vfio/vfio", O_RDWR);
	int first = open("/dev/vfio/1", O_RDWR), second = open("/dev/vfio/2", O_RDWR);

	step("first in container", in_container(first, container));
	step("add first", add(device, first));
	step("set iommu", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	step("second in container", in_container(second, container));
	step("add second", add(device, second));

	map.vaddr = (uintptr_t)mmap(NULL, map.size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	step("map", ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
	int first_device = ioctl(first, VFIO_GROUP_GET_DEVICE_FD, "0000:00:10.0");
	int second_device = ioctl(second, VFIO_GROUP_GET_DEVICE_FD, "0000:00:11.0");

	step("devices", first_device < 0 || second_device < 0 ? -1 : 0);
	close(first_device);
	close(second_device);

	step("del second", del(device, second));
	close(device);
	step("del first", del(device, first));
	close(vm);
	close(first);
	close(container);
	close(kvm);
	return 0;
}
