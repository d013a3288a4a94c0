/* SPDX-License-Identifier: GPL-2.0-only */
/* A call that Linux knows and the model does not. */
#include "steps.h"

int main(void)
{
	int vm = ioctl(open("/dev/kvm", O_RDONLY), KVM_CREATE_VM, 0);

	step("xen", ioctl(vm, KVM_XEN_HVM_CONFIG, NULL));
	return 0;
}
