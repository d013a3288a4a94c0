// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a VMM does to give a PCI device to a VM, and to take it back: the calls of QEMU's vfio-pci,
 * in QEMU's order, without a guest. vmm GROUP BDF
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <linux/vfio.h>

#define MEMORY (16UL << 20)

static int must(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static void tell_kvm(int device, uint64_t attr, int32_t group, const char *what)
{
	struct kvm_device_attr a = {
		.group = KVM_DEV_VFIO_GROUP, .attr = attr, .addr = (uintptr_t)&group,
	};

	must(ioctl(device, KVM_SET_DEVICE_ATTR, &a), what);
}

int main(int argc, char **argv)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };
	struct vfio_region_info region = {
		.argsz = sizeof(region), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	int kvm, vm, container, group, device;
	uint16_t vendor;
	char path[64];

	if (argc != 3)
		errx(2, "usage: %s GROUP BDF", argv[0]);
	snprintf(path, sizeof(path), "/dev/vfio/%s", argv[1]);

	kvm = must(open("/dev/kvm", O_RDWR), "/dev/kvm");
	vm = must(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");

	group = must(open(path, O_RDWR), path);
	must(ioctl(group, VFIO_GROUP_GET_STATUS, &status), "VFIO_GROUP_GET_STATUS");
	if (!(status.flags & VFIO_GROUP_FLAGS_VIABLE))
		errx(1, "%s is not viable", path);
	container = must(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
	must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "VFIO_GROUP_SET_CONTAINER");
	must(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
	must(ioctl(container, VFIO_IOMMU_GET_INFO, &info), "VFIO_IOMMU_GET_INFO");

	must(ioctl(vm, KVM_CREATE_DEVICE, &create), "KVM_CREATE_DEVICE");
	tell_kvm(create.fd, KVM_DEV_VFIO_GROUP_ADD, group, "KVM_DEV_VFIO_GROUP_ADD");

	void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map), .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)memory, .iova = 0, .size = MEMORY,
	};
	must(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "VFIO_IOMMU_MAP_DMA");

	device = must(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]), "VFIO_GROUP_GET_DEVICE_FD");
	must(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region), "VFIO_DEVICE_GET_REGION_INFO");
	if (pread(device, &vendor, sizeof(vendor), region.offset) != sizeof(vendor))
		err(1, "configuration space");
	printf("device %s has vendor %04x\n", argv[2], vendor);

	close(device);
	tell_kvm(create.fd, KVM_DEV_VFIO_GROUP_DEL, group, "KVM_DEV_VFIO_GROUP_DEL");
	return 0;
}
