/* SPDX-License-Identifier: GPL-2.0-only */
/* What the programs here have in common: each call is printed as "name: its result or errno". */
#ifndef STEPS_H
#define STEPS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Print a call whose number matters. */
__attribute__((unused)) static int value(const char *name, long result)
{
	if (result < 0)
		printf("%s: %s\n", name, strerrorname_np(errno));
	else
		printf("%s: %ld\n", name, result);
	fflush(stdout);
	return result;
}

/* Print a call of which only success matters. */
__attribute__((unused)) static int step(const char *name, int result)
{
	value(name, result < 0 ? result : 0);
	return result;
}

__attribute__((unused)) static int create_device(int vm)
{
	struct kvm_create_device create = { .type = KVM_DEV_TYPE_VFIO };

	return ioctl(vm, KVM_CREATE_DEVICE, &create) ? -1 : (int)create.fd;
}

__attribute__((unused)) static int attribute(int device, unsigned long request, uint64_t attr, int32_t fd)
{
	struct kvm_device_attr a = { .group = KVM_DEV_VFIO_GROUP, .attr = attr, .addr = (uintptr_t)&fd };

	return ioctl(device, request, &a);
}

__attribute__((unused)) static int add(int device, int group)
{
	return attribute(device, KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_GROUP_ADD, group);
}

__attribute__((unused)) static int del(int device, int group)
{
	return attribute(device, KVM_SET_DEVICE_ATTR, KVM_DEV_VFIO_GROUP_DEL, group);
}

#endif
