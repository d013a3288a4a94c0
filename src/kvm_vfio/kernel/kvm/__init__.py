# SPDX-License-Identifier: GPL-2.0-only
"""KVM: /dev/kvm, VMs, and the devices a VM has; read `vfio` beside virt/kvm/vfio.c."""
