# SPDX-License-Identifier: GPL-2.0-only
"""What every device of a VM does, whichever it is."""

from __future__ import annotations

from errno import EFAULT, EINVAL, EIO, ENODEV, ENOTTY, ENXIO, EPERM, ESPIPE

import pytest

from kvm_vfio.kernel.kvm.device import KvmDevice, KvmDeviceFile
from kvm_vfio.profiles import Profile
from kvm_vfio.uapi.kvm import (
    KVM_CREATE_VM,
    KVM_DEVICE_ATTR,
    KVM_GET_API_VERSION,
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
    kvm_device_attr,
)
from tests.unit.kernel.program import Vmm, since, start_vmm


@pytest.fixture
def vmm() -> Vmm:
    return start_vmm()


@pytest.mark.parametrize("request_", [KVM_SET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR])
def test_a_structure_that_cannot_be_read_is_efault(vmm: Vmm, request_: int) -> None:
    program = vmm.program
    attr = KVM_DEVICE_ATTR.pack(kvm_device_attr(0, 9, 9, 0))
    for address in (0, program.hole(), program.put_at_page_end(attr, cut=1)):
        assert program.ioctl(vmm.device, request_, address) == -EFAULT
    assert program.ioctl(vmm.device, request_, program.put_at_page_end(attr)) == -ENXIO


def test_no_attribute_can_be_read_and_nobody_looks_at_the_argument(vmm: Vmm) -> None:
    program = vmm.program
    for address in (0, program.hole(), program.struct(KVM_DEVICE_ATTR, group=1, attr=1).address):
        assert program.ioctl(vmm.device, KVM_GET_DEVICE_ATTR, address) == -EPERM


@pytest.mark.parametrize("flags", [1, 0xFFFF_FFFF])
def test_the_flags_of_an_attribute_are_ignored(vmm: Vmm, flags: int) -> None:
    program = vmm.program
    assert program.attr(KVM_HAS_DEVICE_ATTR, vmm.device, 1, 1, flags=flags) == 0
    assert program.attr(KVM_HAS_DEVICE_ATTR, vmm.device, 1, 9, flags=flags) == -ENXIO


def test_what_a_device_file_does_not_have(vmm: Vmm) -> None:
    program = vmm.program
    file = program.task.fget(vmm.device)
    for request in (KVM_GET_API_VERSION, KVM_CREATE_VM, 0):
        assert program.ioctl(vmm.device, request) == -ENOTTY
    assert program.read(vmm.device, 16) == -EINVAL
    assert program.write(vmm.device, b"x") == -EINVAL
    assert program.number(file.lseek, 0) == -ESPIPE
    assert program.call(lambda: file.mmap(program.task, 4096, 0, writable=True)) == -ENODEV


@since({"2013": False, "5.10": True})
def test_from_another_mm_than_the_vms_creator_a_device_says_eio(
    profile: Profile, expected: bool
) -> None:
    vmm = start_vmm(profile)
    child = vmm.program.fork()
    answers = [
        child.has_attr(vmm.device, 1, 1),
        child.ioctl(vmm.device, KVM_GET_DEVICE_ATTR),
        child.ioctl(vmm.device, KVM_SET_DEVICE_ATTR, child.hole()),
        child.ioctl(vmm.device, 0),
    ]
    assert answers == ([-EIO] * 4 if expected else [0, -EPERM, -EFAULT, -ENOTTY])


def test_an_operation_that_a_device_does_not_define_is_eperm(vmm: Vmm) -> None:
    class Bare(KvmDevice):
        name = "bare"

    program, vm = vmm.program, vmm.model_vm()
    bare = Bare(vm)
    vm.devices.append(bare)
    vm.get()
    fd = program.files.install(KvmDeviceFile(bare))
    assert program.set_attr(fd, 1, 1, 0) == -EPERM
    assert program.has_attr(fd, 1, 1) == -EPERM
    assert program.ioctl(fd, 0) == -ENOTTY
    assert bare.noncoherent_because() == []
    program.close(fd)
    assert bare not in vm.devices
    bare.destroy()
    assert vmm.heard() == ""
