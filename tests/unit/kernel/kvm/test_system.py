# SPDX-License-Identifier: GPL-2.0-only
"""/dev/kvm: what is asked before there is a VM."""

from __future__ import annotations

import struct
from errno import E2BIG, EFAULT, EINVAL, ENOMEM, ENXIO
from typing import Any

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm import (
    KVM_CAP_DEVICE_CTRL,
    KVM_CAP_MAX_VCPUS,
    KVM_CAP_NR_VCPUS,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VM,
    KVM_GET_API_VERSION,
    KVM_GET_DEVICE_ATTR,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
)
from kvm_vfio.uapi.kvm_x86 import (
    KVM_CPUID2,
    KVM_CPUID_ENTRY2,
    KVM_GET_EMULATED_CPUID,
    KVM_GET_MSR_FEATURE_INDEX_LIST,
    KVM_GET_MSR_INDEX_LIST,
    KVM_GET_MSRS,
    KVM_GET_SUPPORTED_CPUID,
    KVM_GET_SUPPORTED_HV_CPUID,
    KVM_MSR_ENTRY,
    KVM_MSR_LIST,
    KVM_MSRS,
    KVM_X86_GET_MCE_CAP_SUPPORTED,
)
from kvm_vfio.uapi.layout import Layout, Request
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
    program, kvm = opened(PROFILES["2013"])
    with pytest.raises(NotModelled, match="recorded"):
        program.ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS)


@pytest.mark.parametrize(
    ("linux", "expected"), [("5.10", 288), ("6.1", 1024), ("6.12", 4096), ("7.3", 4096)]
)
def test_a_capability_has_the_value_that_was_recorded(linux: str, expected: int) -> None:
    program, kvm = opened(PROFILES[linux])
    for fd in (kvm, program.vm()):
        assert program.ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS) == expected


# -- processors ------------------------------------------------------------------------------------

HEAD, ENTRY = KVM_CPUID2.size, KVM_CPUID_ENTRY2.size
CPUID = {
    # how many entries there are, and for how many there must be room
    KVM_GET_SUPPORTED_CPUID: (30, 30),
    KVM_GET_EMULATED_CPUID: (3, 4),
    KVM_GET_SUPPORTED_HV_CPUID: (10, 10),
}


def with_room(program: Program, head: Layout[Any], room: int, size: int) -> int:
    """The address of a count and of so many elements, all at the end of a page."""
    count = room.to_bytes(4, "little")
    return program.put_at_page_end(count + bytes(head.size - 4 + room * size))


@pytest.mark.parametrize("request_", CPUID)
def test_cpuid_comes_whole_or_not_at_all(request_: Request) -> None:
    program, kvm = opened()
    entries, room = CPUID[request_]
    short = with_room(program, KVM_CPUID2, room - 1, ENTRY)
    before = program.mm.read(short, HEAD + (room - 1) * ENTRY)
    assert program.ioctl(kvm, request_, short) == -E2BIG
    assert program.mm.read(short, len(before)) == before
    enough = with_room(program, KVM_CPUID2, room, ENTRY)
    assert program.ioctl(kvm, request_, enough) == 0
    assert program.mm.read(enough, 4) == entries.to_bytes(4, "little")
    last = KVM_CPUID_ENTRY2.unpack(program.mm.read(enough + HEAD + (entries - 1) * ENTRY, ENTRY))
    assert last.function


@pytest.mark.parametrize("request_", CPUID)
def test_cpuid_that_cannot_be_written_is_efault(request_: Request) -> None:
    program, kvm = opened()
    entries, room = CPUID[request_]
    address = with_room(program, KVM_CPUID2, entries - 1, ENTRY)
    program.mm.write(address, room.to_bytes(4, "little"))
    emulated = request_ == KVM_GET_EMULATED_CPUID  # which looks at what is there first
    assert program.ioctl(kvm, request_, address) == (-EINVAL if emulated else -EFAULT)


@pytest.mark.parametrize(("linux", "expected"), [("5.10", -EINVAL), ("6.1", 0), ("7.3", 0)])
def test_hyper_v_is_a_question_to_the_system_from_5_11_on(linux: str, expected: int) -> None:
    program, kvm = opened(PROFILES[linux])
    address = with_room(program, KVM_CPUID2, 100, ENTRY)
    assert program.ioctl(kvm, KVM_GET_SUPPORTED_HV_CPUID, address) == expected


def test_the_padding_of_an_emulated_entry_must_be_0() -> None:
    program, kvm = opened()
    address = with_room(program, KVM_CPUID2, 8, ENTRY)
    program.mm.write(address + HEAD + ENTRY + 27, b"\1")
    assert program.ioctl(kvm, KVM_GET_EMULATED_CPUID, address) == 0
    program.mm.write(address + HEAD + 2 * ENTRY - 1, b"\1")
    assert program.ioctl(kvm, KVM_GET_EMULATED_CPUID, address) == -EINVAL


@pytest.mark.parametrize("request_", [KVM_GET_MSR_INDEX_LIST, KVM_GET_MSR_FEATURE_INDEX_LIST])
def test_a_list_of_msrs_says_how_long_it_is(request_: int) -> None:
    program, kvm = opened()
    address = with_room(program, KVM_MSR_LIST, 0, 4)
    assert program.ioctl(kvm, request_, address) == -E2BIG
    count = int.from_bytes(program.mm.read(address, 4), "little")
    address = with_room(program, KVM_MSR_LIST, count, 4)
    assert program.ioctl(kvm, request_, address) == 0
    listed = struct.unpack(f"<{count}I", program.mm.read(address + 4, 4 * count))
    assert len(set(listed)) == count
    program.mm.write(address, (count - 1).to_bytes(4, "little"))
    assert program.ioctl(kvm, request_, address) == -E2BIG


def msrs(*indices: int) -> bytes:
    entries = (KVM_MSR_ENTRY.pack_fields(index, 7, 0x55) for index in indices)
    return KVM_MSRS.pack_fields(len(indices), 0) + b"".join(entries)


def test_feature_msrs_are_read_up_to_the_first_that_is_none() -> None:
    program, kvm = opened()
    address = program.put_at_page_end(msrs(0x8B, 0x1234, 0x8B))
    assert program.ioctl(kvm, KVM_GET_MSRS, address) == 1
    read = program.mm.read(address + 8, 48)
    data = [KVM_MSR_ENTRY.unpack(read[at : at + 16]).data for at in (0, 16, 32)]
    assert data == [0x0100_0065, 0, 0x55]
    assert program.ioctl(kvm, KVM_GET_MSRS, program.put_at_page_end(msrs(0x8B), cut=1)) == -EFAULT


@pytest.mark.parametrize(("count", "expected"), [(0, 0), (255, 255), (256, -E2BIG)])
def test_at_most_255_msrs_at_a_time(count: int, expected: int) -> None:
    program, kvm = opened()
    address = program.put(msrs(*[0x8B] * count))
    assert program.ioctl(kvm, KVM_GET_MSRS, address) == expected


def test_machine_checks_that_are_supported() -> None:
    program, kvm = opened()
    address = program.put(bytes(8))
    assert program.ioctl(kvm, KVM_X86_GET_MCE_CAP_SUPPORTED, address) == 0
    assert program.mm.read(address, 8) == (0x0100_0100).to_bytes(8, "little")


def test_the_memory_of_a_vcpu_is_three_pages_and_takes_no_argument() -> None:
    program, kvm = opened()
    assert program.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE) == 3 * 4096
    assert program.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 1) == -EINVAL


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


def test_the_processor_features_of_a_guest_are_an_attribute() -> None:
    program, kvm = opened()
    assert program.has_attr(kvm, 0, 0) == 0
    assert program.attr(KVM_GET_DEVICE_ATTR, kvm, 0, 0) == -EFAULT
    room = program.put(bytes(8))
    assert program.attr(KVM_GET_DEVICE_ATTR, kvm, 0, 0, room) == 0
    assert program.mm.read(room, 8) == (0x207).to_bytes(8, "little")


@profiles()
def test_what_it_does_not_know_is_einval_before_memory_is_looked_at(profile: Profile) -> None:
    program, kvm = opened(profile)
    assert program.ioctl(kvm, KVM_SET_DEVICE_ATTR, program.hole()) == -EINVAL
    assert program.ioctl(kvm, 0) == -EINVAL


@pytest.mark.parametrize(
    ("linux", "cpus", "expected"),
    [("5.10", 4, 240), ("6.1", 4, 4), ("6.1", 2000, 1024), ("7.3", 1, 1), ("7.3", 5000, 4096)],
)
def test_how_many_vcpus_are_recommended(linux: str, cpus: int, expected: int) -> None:
    program = boot(PROFILES[linux], online_cpus=cpus)
    for fd in (program.open("/dev/kvm"), program.vm()):
        assert program.ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_NR_VCPUS) == expected
