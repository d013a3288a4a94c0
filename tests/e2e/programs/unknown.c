/* SPDX-License-Identifier: GPL-2.0-only */
/* A call that Linux knows and the model does not. */
#include "steps.h"

int main(void)
{
	int vm = ioctl(open("/dev/kvm", O_RDONLY), KVM_CREATE_VM, 0);

	step("vcpu", ioctl(vm, KVM_CREATE_VCPU, 0));
	return 0;
}
