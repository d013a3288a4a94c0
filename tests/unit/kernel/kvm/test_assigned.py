# SPDX-License-Identifier: GPL-2.0-only
"""Legacy device assignment, the other registrar of noncoherent DMA (until 4.12)."""

from __future__ import annotations

from errno import EEXIST, EFAULT, EINVAL, ENODEV, ENOMEM

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.x86.wbinvd import why_wbinvd
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles import PROFILES
from kvm_vfio.uapi.kvm import (
    KVM_ASSIGN_PCI_DEVICE,
    KVM_ASSIGNED_PCI_DEV,
    KVM_DEASSIGN_PCI_DEVICE,
    KVM_DEV_ASSIGN_ENABLE_IOMMU,
)
from tests.unit.kernel.program import MACHINE, SNOOPING, Vmm, failing, must, start_vmm


def start(machine: Machine = MACHINE) -> Vmm:
    return start_vmm(PROFILES["2013"], machine)


@pytest.fixture
def vmm() -> Vmm:
    return start()


def assign(vmm: Vmm, number: int, slot: int, *, flags: int = KVM_DEV_ASSIGN_ENABLE_IOMMU) -> int:
    """Assign 0000:00:SLOT.0 as `number`."""
    wanted = vmm.program.struct(
        KVM_ASSIGNED_PCI_DEV, assigned_dev_id=number, devfn=slot << 3, flags=flags
    )
    return vmm.program.ioctl(vmm.vm, KVM_ASSIGN_PCI_DEVICE, wanted)


def deassign(vmm: Vmm, number: int) -> int:
    wanted = vmm.program.struct(KVM_ASSIGNED_PCI_DEV, assigned_dev_id=number)
    return vmm.program.ioctl(vmm.vm, KVM_DEASSIGN_PCI_DEVICE, wanted)


def test_the_first_assigned_device_registers_and_the_last_unregisters(vmm: Vmm) -> None:
    must(assign(vmm, 1, 0x10), assign(vmm, 2, 0x11))
    assert vmm.heard() == "reg"
    must(deassign(vmm, 1))
    assert vmm.heard() == ""
    must(deassign(vmm, 2))
    assert vmm.heard() == "unreg"


def test_with_snoop_control_everywhere_nothing_is_registered() -> None:
    vmm = start(SNOOPING)
    must(assign(vmm, 1, 0x10), deassign(vmm, 1))
    assert vmm.heard() == ""


def test_both_registrars_count_and_wbinvd_is_a_no_op_when_both_are_gone(vmm: Vmm) -> None:
    program, vm = vmm.program, vmm.model_vm()
    must(program.add(vmm.device, vmm.group), assign(vmm, 1, 0x11))
    assert vm.noncoherent_dma_count == 2
    must(program.delete(vmm.device, vmm.group))
    assert vm.has_noncoherent_dma()
    (reason,) = why_wbinvd(vm)
    assert "0000:00:11.0" in reason
    must(deassign(vmm, 1))
    assert not vm.has_noncoherent_dma()
    assert why_wbinvd(vm) == []


def test_the_end_of_the_vm_gives_every_device_back(vmm: Vmm) -> None:
    must(assign(vmm, 1, 0x10), assign(vmm, 2, 0x11))
    vmm.heard()
    vmm.program.close(vmm.vm, vmm.device)
    assert vmm.heard() == "devdtor vmdel unreg"


def test_an_id_is_used_once_and_free_again(vmm: Vmm) -> None:
    must(assign(vmm, 7, 0x10))
    assert assign(vmm, 7, 0x11) == -EEXIST
    assert deassign(vmm, 8) == -ENODEV
    must(deassign(vmm, 7))
    assert deassign(vmm, 7) == -ENODEV
    must(assign(vmm, 7, 0x11))
    assert vmm.program.kernel.snapshot().vms[0].assigned_devices == 1


@pytest.mark.parametrize(
    ("number", "slot", "flags", "expected"),
    [
        (1, 0x1E, 0, -EINVAL),
        (1, 0x10, 0, -EINVAL),
        (1, 0x1E, KVM_DEV_ASSIGN_ENABLE_IOMMU, -EEXIST),
        (2, 0x1E, KVM_DEV_ASSIGN_ENABLE_IOMMU, -EINVAL),
        (2, 0x11, KVM_DEV_ASSIGN_ENABLE_IOMMU, -ENOMEM),
    ],
)
def test_the_order_of_checks(vmm: Vmm, number: int, slot: int, flags: int, expected: int) -> None:
    must(assign(vmm, 1, 0x10))
    before = vmm.program.kernel.snapshot()
    vmm.program.kernel.allocate = failing([0], KernelError(ENOMEM, "no memory"))
    assert assign(vmm, number, slot, flags=flags) == expected
    assert vmm.program.kernel.snapshot() == before


@pytest.mark.parametrize("request_", [KVM_ASSIGN_PCI_DEVICE, KVM_DEASSIGN_PCI_DEVICE])
def test_a_structure_that_cannot_be_read_is_efault(vmm: Vmm, request_: int) -> None:
    address = vmm.program.put_at_page_end(bytes(KVM_ASSIGNED_PCI_DEV.size), cut=1)
    assert vmm.program.ioctl(vmm.vm, request_, address) == -EFAULT
