/* SPDX-License-Identifier: GPL-2.0-only */
/* The whole sequence; whole.go and whole.py make the same calls. */
#include "steps.h"

int main(void)
{
	struct vfio_group_status status = { .argsz = sizeof(status) };
	int kvm = step("open kvm", open("/dev/kvm", O_RDWR));
	int vm = step("create vm", ioctl(kvm, KVM_CREATE_VM, 0));
	int container = step("open container", open("/dev/vfio/vfio", O_RDWR));
	int group = step("open group", open("/dev/vfio/1", O_RDWR));

	step("open group again", open("/dev/vfio/1", O_RDWR));
	value("api version", ioctl(container, VFIO_GET_API_VERSION));
	value("type1v2", ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU));
	step("status", ioctl(group, VFIO_GROUP_GET_STATUS, &status));
	value("flags", status.flags);
	step("set iommu too early", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	step("set container", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
	step("set iommu", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
	int device = step("create device", create_device(vm));
	step("create device again", create_device(vm));
	step("has add", attribute(device, KVM_HAS_DEVICE_ATTR, KVM_DEV_VFIO_GROUP_ADD, 0));
	step("has 9", attribute(device, KVM_HAS_DEVICE_ATTR, 9, 0));
	step("add", add(device, group));
	step("add again", add(device, group));
	step("add container", add(device, container));
	step("add closed", add(device, 999));
	close(group);
	step("open member", open("/dev/vfio/1", O_RDWR));
	group = step("open other group", open("/dev/vfio/2", O_RDWR));
	step("add other", add(device, group));
	step("del other", del(device, group));
	step("del other again", del(device, group));
	close(device);
	close(container);
	step("reopen group", open("/dev/vfio/1", O_RDWR));
	step("create device anew", create_device(vm));
	return 0;
}
