/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the programs here have in common. Each is told the address of a PCI device, does to it what
 * users of VFIO do, and prints every answer: the whole output is compared with a real kernel's.
 */
#ifndef SHOW_H
#define SHOW_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* "words: result" or the errno; returns the result. */
__attribute__((unused, format(printf, 2, 3)))
static long show(long result, const char *format, ...)
{
	int error = errno;
	va_list words;

	va_start(words, format);
	vprintf(format, words);
	va_end(words);
	if (result < 0)
		printf(": %s\n", strerrorname_np(error));
	else
		printf(": %ld\n", result);
	return result;
}

/* The same of a call whose number says nothing: an fd, an address. */
#define show_ok(call, ...) ({ long r_ = (long)(call); show(r_ < 0 ? r_ : 0, __VA_ARGS__); r_; })

__attribute__((unused)) static void show_bytes(const char *name, const void *data, size_t size)
{
	const unsigned char *bytes = data;

	printf("%s:", name);
	for (size_t i = 0; i < size; i++)
		printf("%s%02x", i % 4 ? "" : " ", bytes[i]);
	printf("\n");
}

__attribute__((unused)) static int group_of(const char *address)
{
	char path[128], link[256];
	ssize_t length;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group", address);
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		return -1;
	link[length] = 0;
	return atoi(strrchr(link, '/') + 1);
}

__attribute__((unused)) static int open_group(const char *address)
{
	char path[64];

	snprintf(path, sizeof(path), "/dev/vfio/%d", group_of(address));
	return open(path, O_RDWR);
}

__attribute__((unused)) static void *volatile nowhere = (void *)8;

static int container, group;	/* of the device that open_device has opened */

__attribute__((unused)) static int open_device(const char *address)
{
	int device;

	setvbuf(stdout, NULL, _IOLBF, 0);
	container = open("/dev/vfio/vfio", O_RDWR);
	group = open_group(address);
	show_ok(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "SET_CONTAINER");
	show_ok(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "SET_IOMMU");
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	show_ok(device, "GET_DEVICE_FD");
	if (device < 0)
		exit(1);
	return device;
}

__attribute__((unused)) static struct vfio_region_info region(int device, int index)
{
	struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

	ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info);
	return info;
}

__attribute__((unused)) static off_t config_at(int device)
{
	return region(device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
}

#endif
