# SPDX-License-Identifier: GPL-2.0-only
"""A VM: how long it lives, and how it gets devices."""

from __future__ import annotations

from errno import EBUSY, EFAULT, EIO, ENODEV, ENOMEM, ENOTTY

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.profiles import Profile
from kvm_vfio.uapi.kvm import (
    KVM_ASSIGN_PCI_DEVICE,
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_LAYOUT,
    KVM_CREATE_DEVICE_TEST,
    KVM_DEASSIGN_PCI_DEVICE,
    KVM_DEV_TYPE_VFIO,
    KVM_HAS_DEVICE_ATTR,
    kvm_create_device,
)
from tests.unit.kernel.program import Program, boot, failing, profiles, since, start_vmm

TEST = KVM_CREATE_DEVICE_TEST
UNTOUCHED = 0xDEAD_BEEF


def creating(kind: int = KVM_DEV_TYPE_VFIO, flags: int = 0) -> bytes:
    return KVM_CREATE_DEVICE_LAYOUT.pack(kvm_create_device(kind, UNTOUCHED, flags))


@pytest.fixture
def program() -> Program:
    return boot()


# -- creating a device -----------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, 2, 0x8000_0000, 0xFFFF_FFFE])
def test_a_device_is_created_and_its_fd_comes_back_in_the_structure(
    program: Program, flags: int
) -> None:
    vm = program.vm()
    device = program.create_device(vm, flags=flags)
    assert device in program.files.numbers()
    assert program.has_attr(device, 1, 1) == 0
    assert program.task.fget(device).link == "anon_inode:kvm-vfio"


@pytest.mark.parametrize("flags", [TEST, TEST | 2, 0xFFFF_FFFF])
@pytest.mark.parametrize("there", [False, True])
def test_a_test_creates_nothing_and_leaves_the_fd_field_alone(
    program: Program, flags: int, there: bool
) -> None:
    vm = program.vm()
    if there:
        program.create_device(vm)
    before = program.kernel.snapshot()
    address = program.put(creating(flags=flags))
    assert program.ioctl(vm, KVM_CREATE_DEVICE, address) == 0
    assert program.mm.read(address, 12) == creating(flags=flags)
    assert program.kernel.snapshot() == before


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 100, 0xFFFF_FFFF])
@pytest.mark.parametrize("flags", [0, 2, TEST])
def test_a_type_that_x86_does_not_have_is_enodev(program: Program, kind: int, flags: int) -> None:
    assert program.create_device(program.vm(), kind, flags) == -ENODEV


@pytest.mark.parametrize("flags", [0, TEST])
def test_an_architecture_without_kvm_vfio_is_enodev(flags: int) -> None:
    program = boot(selects_kvm_vfio=False)
    assert program.create_device(program.vm(), flags=flags) == -ENODEV


def test_a_vm_has_at_most_one_and_another_vm_its_own(program: Program) -> None:
    vm = program.vm()
    assert program.create_device(vm) >= 0
    assert program.create_device(vm) == -EBUSY
    assert program.create_device(program.vm()) >= 0


@since({"2013": 0, "4.19": -EBUSY, "6.1": 0})
def test_whether_a_closed_device_can_be_created_again(profile: Profile, expected: int) -> None:
    program = boot(profile)
    vm = program.vm()
    device = program.create_device(vm)
    duplicate = program.dup(device)
    program.close(device)
    assert program.create_device(vm) == -EBUSY
    program.close(duplicate)
    assert min(program.create_device(vm), 0) == expected


def test_a_structure_that_cannot_be_read_is_efault(program: Program) -> None:
    vm = program.vm()
    for address in (0, program.hole(), program.put_at_page_end(creating(), cut=1)):
        assert program.ioctl(vm, KVM_CREATE_DEVICE, address) == -EFAULT


def test_there_is_no_memory_before_there_is_one_already() -> None:
    program = boot(allocate=failing([2, 3], KernelError(ENOMEM, "no memory")))
    vm = program.vm()
    assert program.create_device(vm) >= 0
    assert program.create_device(vm) == -ENOMEM
    assert program.create_device(vm, 9) == -ENODEV
    assert program.create_device(vm, flags=TEST) == 0
    assert program.create_device(vm) == -ENOMEM
    assert program.create_device(vm) == -EBUSY


@pytest.mark.parametrize(
    ("kind", "flags", "expected", "made"),
    [(9, 0, -ENODEV, 0), (KVM_DEV_TYPE_VFIO, TEST, -EFAULT, 0), (KVM_DEV_TYPE_VFIO, 0, -EFAULT, 1)],
)
def test_a_structure_that_cannot_be_written_is_efault_at_last_and_the_fd_stays(
    program: Program, kind: int, flags: int, expected: int, made: int
) -> None:
    vm = program.vm()
    address = program.put_at_page_end(creating(kind, flags), writable=False)
    numbers = len(program.files.numbers())
    assert program.ioctl(vm, KVM_CREATE_DEVICE, address) == expected
    assert len(program.files.numbers()) == numbers + made
    assert min(program.create_device(vm), 0) == (-EBUSY if made else 0)


# -- the VM's other requests -----------------------------------------------------------------------


def test_attributes_belong_to_devices_and_not_to_the_vm(program: Program) -> None:
    assert program.attr(KVM_HAS_DEVICE_ATTR, program.vm(), 1, 1) == -ENOTTY


@profiles("5.10", "6.1", "6.12", "6.18", "7.3")
def test_legacy_assignment_is_gone_with_4_12_whatever_the_argument(profile: Profile) -> None:
    program = boot(profile)
    vm = program.vm()
    assert program.ioctl(vm, KVM_ASSIGN_PCI_DEVICE, program.hole()) == -ENOTTY
    assert program.ioctl(vm, KVM_DEASSIGN_PCI_DEVICE, program.hole()) == -ENOTTY


@profiles()
def test_from_another_mm_than_its_creators_a_vm_says_eio_to_everything(profile: Profile) -> None:
    program = boot(profile)
    vm = program.vm()
    child = program.fork()
    assert child.ioctl(vm, KVM_CREATE_DEVICE, child.hole()) == -EIO
    assert child.create_device(vm) == -EIO
    assert child.ioctl(vm, 0) == -EIO
    assert program.create_device(vm) >= 0


def test_a_thread_of_its_creator_may_use_a_vm(program: Program) -> None:
    vm = program.vm()
    thread = Program(program.kernel, program.files, program.mm)
    assert thread.create_device(vm) >= 0


# -- how long it lives -----------------------------------------------------------------------------


def test_a_vm_lives_until_its_own_fd_and_its_devices_fd_are_closed() -> None:
    for first, second in (("vm", "device"), ("device", "vm")):
        vmm = start_vmm()
        vmm.program.close(getattr(vmm, first))
        assert "vmdel" not in vmm.heard()
        vmm.program.close(getattr(vmm, second))
        assert vmm.heard().endswith("vmdel")
        assert vmm.program.kernel.snapshot().vms == ()


@since({"2013": 0, "6.12": 1})
def test_whether_an_open_vfio_device_keeps_the_vm_its_group_was_told(
    profile: Profile, expected: int
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    device = program.device_fd(vmm.group, "0000:00:10.0")
    again = program.device_fd(vmm.group, "0000:00:10.0")
    program.close(vmm.device, vmm.vm, vmm.group, vmm.container)
    assert len(program.kernel.snapshot().vms) == expected
    program.close(device)
    assert len(program.kernel.snapshot().vms) == expected
    program.close(again)
    assert program.kernel.snapshot().vms == ()


def test_only_the_first_open_of_a_vfio_device_looks_for_a_vm() -> None:
    vmm = start_vmm()
    program = vmm.program
    early = program.device_fd(vmm.group, "0000:00:10.0")
    program.add(vmm.device, vmm.group)
    program.device_fd(vmm.group, "0000:00:10.0")
    program.close(vmm.device, vmm.vm)
    assert program.kernel.snapshot().vms == ()
    program.close(early)


def test_vms_are_numbered_in_the_order_they_came(program: Program) -> None:
    first, second = program.vm(), program.vm()
    program.close(first)
    assert [vm.number for vm in program.kernel.snapshot().vms] == [2]
    third = program.vm()
    assert [vm.number for vm in program.kernel.snapshot().vms] == [2, 3]
    program.close(second, third)


def test_a_request_it_does_not_have_is_enotty(program: Program) -> None:
    assert program.ioctl(program.vm(), 0) == -ENOTTY
