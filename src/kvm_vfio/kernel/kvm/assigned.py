# SPDX-License-Identifier: GPL-2.0-only
"""Legacy device assignment (virt/kvm/assigned-dev.c, virt/kvm/iommu.c; gone in 4.12).

Rule of this file: only what it means for noncoherent DMA. It is the other registrar: a VM that uses
both needs WBINVD emulated until both are gone, which is why the VM keeps a count. Interrupts of
assigned devices are not modelled.

The VM registers once, with its first assigned device, when the IOMMU does not enforce coherency,
and unregisters when the last is gone.
"""

from __future__ import annotations

from errno import EEXIST, EINVAL, ENODEV
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.uapi.kvm import (
    KVM_ASSIGNED_PCI_DEV,
    KVM_DEV_ASSIGN_ENABLE_IOMMU,
    kvm_assigned_pci_dev,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import PciFunction
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Task


class AssignedDevice:
    """One device that the VM has by KVM_ASSIGN_PCI_DEVICE."""

    __slots__ = ("function", "number", "vm")

    def __init__(self, vm: Vm, number: int, function: PciFunction) -> None:
        self.vm = vm
        self.number = number
        self.function = function

    def release(self) -> None:
        """Give the device back; with the last one the VM's noncoherent DMA ends."""
        del self.vm.assigned[self.number]
        self.vm.end_assignment()
        if not self.vm.assigned and self.vm.assigned_noncoherent:
            self.vm.assigned_noncoherent = False
            self.vm.unregister_noncoherent_dma()


def assign_pci_device(vm: Vm, task: Task, arg: int) -> int:
    """KVM_ASSIGN_PCI_DEVICE. EFAULT; EINVAL: no ENABLE_IOMMU; EEXIST; EINVAL: no such device."""
    wanted = _read(task, arg)
    if not wanted.flags & KVM_DEV_ASSIGN_ENABLE_IOMMU:
        raise KernelError(EINVAL, "a device is assigned with an IOMMU or not at all")
    if wanted.assigned_dev_id in vm.assigned:
        raise KernelError(EEXIST, f"assigned device {wanted.assigned_dev_id} is there already")
    address = (
        f"{wanted.segnr:04x}:{wanted.busnr:02x}:{wanted.devfn >> 3 & 0x1F:02x}.{wanted.devfn & 7}"
    )
    try:
        function = vm.kernel.function(address)
    except KeyError:
        raise KernelError(EINVAL, f"there is no device {address}") from None
    vm.kernel.allocate("kvm_assigned_dev_kernel")
    vm.assigned[wanted.assigned_dev_id] = AssignedDevice(vm, wanted.assigned_dev_id, function)
    vm.start_assignment()
    if not vm.assigned_noncoherent and not vm.kernel.every_unit_snoops():
        vm.assigned_noncoherent = True
        vm.register_noncoherent_dma()
    return 0


def deassign_pci_device(vm: Vm, task: Task, arg: int) -> int:
    """KVM_DEASSIGN_PCI_DEVICE. EFAULT; ENODEV for an id that is not assigned."""
    wanted = _read(task, arg)
    assigned = vm.assigned.get(wanted.assigned_dev_id)
    if assigned is None:
        raise KernelError(ENODEV, f"assigned device {wanted.assigned_dev_id} is not there")
    assigned.release()
    return 0


def _read(task: Task, arg: int) -> kvm_assigned_pci_dev:
    return KVM_ASSIGNED_PCI_DEV.unpack(task.copy_from_user(arg, KVM_ASSIGNED_PCI_DEV.size))
