# SPDX-License-Identifier: GPL-2.0-only
"""/dev/kvm: what is asked before there is a VM."""

from __future__ import annotations

from errno import EFAULT, EINVAL, ENOMEM, ENXIO

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.profiles import DEFAULT, Profile
from kvm_vfio.uapi.kvm import (
    KVM_CAP_DEVICE_CTRL,
    KVM_CAP_NR_VCPUS,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VM,
    KVM_GET_API_VERSION,
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
)
from tests.unit.kernel.program import Program, Recorder, boot, failing, profiles, since


def opened(profile: Profile = DEFAULT) -> tuple[Program, int]:
    program = boot(profile)
    return program, program.open("/dev/kvm")


def test_the_api_version_is_12_and_takes_no_argument() -> None:
    program, kvm = opened()
    assert program.ioctl(kvm, KVM_GET_API_VERSION) == 12
    assert program.ioctl(kvm, KVM_GET_API_VERSION, 1) == -EINVAL


@since({"2013": 0, "6.12": 1})
def test_device_control_is_a_capability_of_x86_from_6_12_on(
    profile: Profile, expected: int
) -> None:
    program, kvm = opened(profile)
    for fd in (kvm, program.vm()):
        assert program.ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_DEVICE_CTRL) == expected


@pytest.mark.parametrize("capability", [0x7FFF_FFFF, 1 << 32, KVM_CAP_DEVICE_CTRL | 1 << 32])
def test_a_capability_that_no_kernel_has_is_0(capability: int) -> None:
    program, kvm = opened()
    assert program.ioctl(kvm, KVM_CHECK_EXTENSION, capability) == 0


def test_a_capability_whose_value_is_not_known_is_not_made_up() -> None:
    program, kvm = opened()
    with pytest.raises(NotModelled, match="9"):
        program.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS)


def test_closing_it_changes_nothing_for_its_vms() -> None:
    program, kvm = opened()
    vm = program.ioctl(kvm, KVM_CREATE_VM)
    before = program.kernel.snapshot()
    program.close(kvm)
    assert program.kernel.snapshot() == before
    assert program.create_device(vm) >= 0


@pytest.mark.parametrize("kind", [1, 2, 0xFFFF_FFFF, 1 << 32])
def test_a_vm_of_an_unknown_type_is_einval_and_leaves_nothing(kind: int) -> None:
    recorder = Recorder()
    program = boot(observer=recorder)
    kvm = program.open("/dev/kvm")
    assert program.ioctl(kvm, KVM_CREATE_VM, kind) == -EINVAL
    assert recorder.heard() == "vmnew"
    assert program.kernel.snapshot().vms == ()


def test_a_vm_for_which_there_is_no_memory_is_enomem_whatever_its_type() -> None:
    program = boot(allocate=failing(range(9), KernelError(ENOMEM, "no memory")))
    kvm = program.open("/dev/kvm")
    assert program.ioctl(kvm, KVM_CREATE_VM, 0) == -ENOMEM
    assert program.ioctl(kvm, KVM_CREATE_VM, 1) == -ENOMEM
    assert program.kernel.snapshot().vms == ()


@since({"2013": -EINVAL, "6.1": -ENXIO, "7.3": 0})
def test_the_system_has_attributes_of_its_own(profile: Profile, expected: int) -> None:
    program, kvm = opened(profile)
    none = -EINVAL if expected == -EINVAL else -ENXIO
    unreadable = -EINVAL if expected == -EINVAL else -EFAULT
    assert program.has_attr(kvm, 1, 1) == expected
    assert program.has_attr(kvm, 1, 2) == expected
    assert program.has_attr(kvm, 2, 1) == none
    assert program.attr(KVM_GET_DEVICE_ATTR, kvm, 2, 1) == none
    assert program.ioctl(kvm, KVM_HAS_DEVICE_ATTR, program.hole()) == unreadable
    assert program.ioctl(kvm, KVM_GET_DEVICE_ATTR, program.hole()) == unreadable


def test_the_processor_features_of_a_guest_are_an_attribute_without_a_value_here() -> None:
    program, kvm = opened()
    assert program.has_attr(kvm, 0, 0) == 0
    assert program.attr(KVM_GET_DEVICE_ATTR, kvm, 0, 0) == -EFAULT
    room = program.mm.map(4096).start
    with pytest.raises(NotModelled, match="processor"):
        program.attr(KVM_GET_DEVICE_ATTR, kvm, 0, 0, room)


@profiles()
def test_what_it_does_not_know_is_einval_before_memory_is_looked_at(profile: Profile) -> None:
    program, kvm = opened(profile)
    assert program.ioctl(kvm, KVM_SET_DEVICE_ATTR, program.hole()) == -EINVAL
    assert program.ioctl(kvm, 0) == -EINVAL
