/* SPDX-License-Identifier: GPL-2.0-only */
/* device BDF: what is said of a device and its group, features, resets, and what is refused. */
#include "show.h"

static int device;

static void info(unsigned int argsz)
{
	struct { struct vfio_device_info info; unsigned char more[40]; } r;

	memset(&r, 0xee, sizeof(r));
	r.info.argsz = argsz;
	show(ioctl(device, VFIO_DEVICE_GET_INFO, &r), "info, argsz %u", argsz);
	show_bytes("info", &r, 40);
}

static void feature(unsigned int number, unsigned int how, unsigned int argsz)
{
	struct { struct vfio_device_feature feature; unsigned char data[64]; } r = {
		.feature = { .argsz = argsz, .flags = how | number },
	};

	show(ioctl(device, VFIO_DEVICE_FEATURE, &r), "feature %u, %#x, argsz %u", number, how, argsz);
}

static void features(void)
{
	const unsigned int probe = VFIO_DEVICE_FEATURE_PROBE, get = VFIO_DEVICE_FEATURE_GET, set = VFIO_DEVICE_FEATURE_SET;

	for (unsigned int number = 0; number < 13; number++) {
		feature(number, probe, 8);
		feature(number, probe | get, 8);
		feature(number, probe | set, 8);
		feature(number, get, 8);
		feature(number, 0, 8);
		feature(number, get | set, 8);
		feature(number, probe | get | set, 8);
	}
	feature(0xffff, probe, 8);
	feature(0, probe, 7);
	feature(0, 1 << 19, 8);
	show(ioctl(device, VFIO_DEVICE_FEATURE, NULL), "feature without structure");
}

static void low_power(void)
{
	struct vfio_device_feature feature = { .argsz = sizeof(feature) };
	struct { struct vfio_device_feature feature; struct vfio_device_low_power_entry_with_wakeup entry; } wake = {
		.feature = { .argsz = sizeof(wake) },
	};
	uint32_t value;
	uint64_t count;

	for (int round = 0; round < 2; round++) {
		feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
		show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "leave low power");
		feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
		show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "enter low power");
		show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "enter it again");
		feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
		show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "leave it");
		show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "leave it again");
	}
	wake.feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP;
	wake.entry.wakeup_eventfd = -1;
	show(ioctl(device, VFIO_DEVICE_FEATURE, &wake), "with wake-up, no eventfd");
	wake.entry.wakeup_eventfd = 0;
	show(ioctl(device, VFIO_DEVICE_FEATURE, &wake), "with wake-up, a wrong file");
	wake.entry.wakeup_eventfd = eventfd(0, EFD_NONBLOCK);
	wake.feature.argsz = 8;
	show(ioctl(device, VFIO_DEVICE_FEATURE, &wake), "with wake-up, argsz");
	wake.feature.argsz = sizeof(wake);
	show(ioctl(device, VFIO_DEVICE_FEATURE, &wake), "with wake-up");
	usleep(100000);		/* it happens by and by */
	show(pread(device, &value, 4, config_at(device)), "read configuration space meanwhile");
	show(read(wake.entry.wakeup_eventfd, &count, 8), "woken up");
	feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
	show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "leave it");
	feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY;
	show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "enter low power");
	usleep(100000);
	show(pread(device, &value, 4, region(device, 0).offset), "read a BAR meanwhile");
	show(pread(device, &value, 4, config_at(device)), "read configuration space meanwhile");
	show(pread(device, &value, 4, region(device, 0).offset), "read a BAR again");
	show(ioctl(device, VFIO_DEVICE_RESET, NULL), "reset meanwhile");
	feature.flags = VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_LOW_POWER_EXIT;
	show(ioctl(device, VFIO_DEVICE_FEATURE, &feature), "leave it");
	show(pread(device, &value, 4, region(device, 0).offset), "read a BAR");
}

static void hot_reset(void)
{
	struct { struct vfio_pci_hot_reset_info info; struct vfio_pci_dependent_device devices[8]; } who = { 0 };
	struct { struct vfio_pci_hot_reset reset; int fds[8]; } reset = { 0 };

	for (unsigned int argsz = 0; argsz < 64; argsz += 12) {
		who.info.argsz = argsz;
		who.info.flags = 0;
		show(ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, &who), "hot reset info, argsz %u", argsz);
	}
	for (unsigned int count = 0; count < 3; count++)
		for (unsigned int argsz = 8; argsz < 24; argsz += 4) {
			reset.reset.argsz = argsz;
			reset.reset.count = count;
			reset.fds[0] = group;
			reset.fds[1] = device;
			show(ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, &reset), "hot reset, %u fds, argsz %u", count, argsz);
		}
	reset.reset.argsz = sizeof(reset);
	reset.reset.flags = 1;
	show(ioctl(device, VFIO_DEVICE_PCI_HOT_RESET, &reset), "hot reset, flags");
	show(ioctl(device, VFIO_DEVICE_RESET, NULL), "reset");
}

static void requests(int fd, const char *name)
{
	for (unsigned int number = 100; number < 125; number++)
		show(ioctl(fd, _IO(VFIO_TYPE, number), NULL), "%s, request %u", name, number);
	show(ioctl(fd, 0xdeadbeef, NULL), "%s, no request", name);
}

static void names(const char *address)
{
	static const char *const after[] = {
		"", " ", "x", " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3", " vf_token=", " vf_token=no",
		" something=else", " vf_token=bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3 more", "\n",
	};
	char name[256];

	for (unsigned int i = 0; i < sizeof(after) / sizeof(*after); i++) {
		snprintf(name, sizeof(name), "%s%s", address, after[i]);
		show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name), "device \"BDF%s\"", *after[i] == '\n' ? "\\n" : after[i]);
	}
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, ""), "device without a name");
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address + 5), "device without a domain");
	memset(name, 'a', sizeof(name));
	name[255] = 0;
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name), "device with a long name");
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, NULL), "device at no address");
}

static void refusals(const char *address)
{
	int other = open_group(address), another, minus = -1, wrong = 0;

	show_ok(other, "the group again");
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "SET_CONTAINER again");
	show_ok(ioctl(group, VFIO_GROUP_UNSET_CONTAINER), "UNSET_CONTAINER with a device open");
	close(device);
	show_ok(ioctl(group, VFIO_GROUP_UNSET_CONTAINER), "UNSET_CONTAINER");
	show_ok(ioctl(group, VFIO_GROUP_UNSET_CONTAINER), "UNSET_CONTAINER again");
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address), "GET_DEVICE_FD without container");
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &minus), "SET_CONTAINER of -1");
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &wrong), "SET_CONTAINER of no container");
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, NULL), "SET_CONTAINER at no address");
	another = open("/dev/vfio/vfio", O_RDWR);
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &another), "SET_CONTAINER of another");
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address), "GET_DEVICE_FD without IOMMU");
	show_ok(ioctl(another, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "SET_IOMMU");
	show_ok(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address), "GET_DEVICE_FD");
	show_ok(open("/dev/vfio/99", O_RDWR), "a group that is not there");
	show_ok(open("/dev/vfio/noiommu-0", O_RDWR), "a group without IOMMU");
	show_ok(open("/dev/iommu", O_RDWR), "iommufd");
	show_ok(open("/dev/vfio/devices/vfio0", O_RDWR), "a device's own node");
}

int main(int argc, char **argv)
{
	struct vfio_group_status status = { 0 };

	if (argc < 2)
		return 2;
	device = open_device(argv[1]);
	for (unsigned int argsz = 0; argsz < 40; argsz += 4)
		info(argsz);
	show(ioctl(device, VFIO_DEVICE_GET_INFO, NULL), "info without structure");
	for (status.argsz = 0; status.argsz < 16; status.argsz += 4)
		show(ioctl(group, VFIO_GROUP_GET_STATUS, &status) ?: (int)status.flags, "status, argsz %u", status.argsz);
	show(ioctl(container, VFIO_GET_API_VERSION), "API version");
	features();
	low_power();
	hot_reset();
	requests(container, "container");
	requests(group, "group");
	requests(device, "device");
	names(argv[1]);
	refusals(argv[1]);
	return 0;
}
