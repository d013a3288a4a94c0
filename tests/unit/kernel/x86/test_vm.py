# SPDX-License-Identifier: GPL-2.0-only
"""Places, clocks and filters of a VM: every answer here was measured on the kernels named."""

from __future__ import annotations

import struct
from errno import E2BIG, EBADF, EBUSY, EFAULT, EINVAL, ENOTTY

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm import KVM_CREATE_VCPU
from kvm_vfio.uapi.kvm_vm import (
    KVM_CLOCK_DATA,
    KVM_GET_CLOCK,
    KVM_GET_STATS_FD,
    KVM_GET_TSC_KHZ,
    KVM_MEMORY_ENCRYPT_OP,
    KVM_MEMORY_ENCRYPT_REG_REGION,
    KVM_MSR_FILTER,
    KVM_PMU_EVENT_FILTER,
    KVM_SET_BOOT_CPU_ID,
    KVM_SET_CLOCK,
    KVM_SET_IDENTITY_MAP_ADDR,
    KVM_SET_PMU_EVENT_FILTER,
    KVM_SET_TSC_KHZ,
    KVM_SET_TSS_ADDR,
    KVM_STATS_DESC,
    KVM_STATS_HEADER,
    KVM_X86_SET_MSR_FILTER,
)
from tests.unit.kernel.program import Program, boot


class Machine:
    """A program with a VM, on a computer whose clocks a test moves."""

    def __init__(self, profile: Profile = DEFAULT) -> None:
        self.time = 1000
        self.program: Program = boot(
            profile, now=lambda: self.time, real_time=lambda: 5_000_000 + self.time
        )
        self.fd = self.program.vm()

    def ioctl(self, request: int, data: bytes | int = 0) -> int:
        argument = self.program.put(data) if isinstance(data, bytes) else data
        return self.program.ioctl(self.fd, request, argument)

    def add_vcpu(self) -> None:
        vm = self.program.file(self.fd, VmFile).vm
        assert self.program.ioctl(self.fd, KVM_CREATE_VCPU, len(vm.vcpus)) >= 0

    def clock(self) -> tuple[int, int]:
        """The clock and the flags."""
        data = self.program.struct(KVM_CLOCK_DATA)
        assert self.program.ioctl(self.fd, KVM_GET_CLOCK, data) == 0
        return data.value.clock, data.value.flags

    def set_clock(self, clock: int, flags: int = 0, realtime: int = 0) -> int:
        return self.ioctl(
            KVM_SET_CLOCK, KVM_CLOCK_DATA.pack_fields(clock, flags, 0, realtime, 0, b"")
        )


# -- places and ids --------------------------------------------------------------------------------


def test_where_the_tss_may_be() -> None:
    answers = {
        0: 0,
        1: 0,
        0xFFFF_D000: 0,
        0xFFFF_D001: -EINVAL,
        0xFFFF_FFFF: -EINVAL,
        1 << 32: -EINVAL,
    }
    machine = Machine()
    assert {at: machine.ioctl(KVM_SET_TSS_ADDR, at) for at in answers} == answers


def test_the_identity_map() -> None:
    machine = Machine()
    for at in (0, 1, 0xFFFB_C000, 1 << 50):
        assert machine.ioctl(KVM_SET_IDENTITY_MAP_ADDR, struct.pack("=Q", at)) == 0
    assert machine.ioctl(KVM_SET_IDENTITY_MAP_ADDR, 0) == -EFAULT
    machine.add_vcpu()
    assert machine.ioctl(KVM_SET_IDENTITY_MAP_ADDR, 0) == -EINVAL


@pytest.mark.parametrize(
    ("linux", "expected"),
    [
        ("6.1", {5000: 0, 16385: 0, 1 << 32: 0}),
        ("6.12", {16384: 0, 16385: -EINVAL, 1 << 32: -EINVAL}),
    ],
)
def test_the_boot_cpu(linux: str, expected: dict[int, int]) -> None:
    machine = Machine(PROFILES[linux])
    assert {each: machine.ioctl(KVM_SET_BOOT_CPU_ID, each) for each in expected} == expected
    machine.add_vcpu()
    assert machine.ioctl(KVM_SET_BOOT_CPU_ID, 0) == -EBUSY


# -- clocks ----------------------------------------------------------------------------------------


def test_a_clock_begins_with_its_vm_and_goes_with_the_computers() -> None:
    machine = Machine()
    assert machine.clock() == (0, 0)
    machine.time += 50
    assert machine.clock() == (50, 0)
    assert machine.set_clock(1 << 40) == 0
    machine.time += 7
    assert machine.clock() == ((1 << 40) + 7, 0)
    machine.set_clock((1 << 64) - 5)
    machine.time += 9
    assert machine.clock() == (4, 0)
    assert machine.ioctl(KVM_GET_CLOCK) == machine.ioctl(KVM_SET_CLOCK) == -EFAULT


@pytest.mark.parametrize(
    ("linux", "taken"), [("5.10", {0}), ("6.1", {0, 2, 4, 6, 8, 14}), ("7.3", {0, 2, 4, 6, 8, 14})]
)
def test_flags_of_a_clock(linux: str, taken: set[int]) -> None:
    asked = (0, 1, 2, 4, 6, 8, 14, 16, 0xFFFF_FFFF)
    answers = {flags: Machine(PROFILES[linux]).set_clock(1 << 40, flags) for flags in asked}
    assert answers == {flags: 0 if flags in taken else -EINVAL for flags in asked}


def test_a_clock_that_was_right_at_some_time() -> None:
    machine = Machine()
    for when, later in ((5_000_900, 100), (6_000_000, 0)):
        machine.set_clock(1 << 40, 4, realtime=when)
        assert machine.clock() == ((1 << 40) + later, 0)


@pytest.mark.parametrize(("linux", "flags"), [("5.10", 2), ("6.1", 14), ("7.3", 14)])
def test_a_clock_that_is_set_when_there_is_a_vcpu_is_the_master_clock(
    linux: str, flags: int
) -> None:
    machine = Machine(PROFILES[linux])
    machine.set_clock(0)
    machine.add_vcpu()
    assert machine.clock()[1] == 0
    machine.set_clock(0)
    assert machine.clock()[1] == flags
    data = machine.program.struct(KVM_CLOCK_DATA)
    machine.program.ioctl(machine.fd, KVM_GET_CLOCK, data)
    realtime = 5_000_000 + machine.time if linux != "5.10" else 0
    assert (data.value.realtime, data.value.host_tsc > 0) == (realtime, linux != "5.10")


def test_the_rate_of_the_tsc() -> None:
    assert Machine(PROFILES["5.10"]).ioctl(KVM_GET_TSC_KHZ) == -ENOTTY
    machine = Machine()
    host = machine.ioctl(KVM_GET_TSC_KHZ)
    assert host > 100_000
    for asked, told in ((1, 1), (10_000_000, 10_000_000), (0, host), ((1 << 32) + 1000, 1000)):
        assert machine.ioctl(KVM_SET_TSC_KHZ, asked) == 0
        assert machine.ioctl(KVM_GET_TSC_KHZ) == told
    for linux, expected in (("6.12", 0), ("6.18", -EINVAL)):
        machine = Machine(PROFILES[linux])
        machine.add_vcpu()
        assert machine.ioctl(KVM_SET_TSC_KHZ, 1_000_000) == expected


# -- filters ---------------------------------------------------------------------------------------

Range = tuple[int, int, int, int]  # flags, nmsrs, base, bitmap: 1 for one that is there


@pytest.mark.parametrize(
    ("flags", "ranges", "expected"),
    [
        (0, [], 0),
        (1, [], -EINVAL),
        (2, [], -EINVAL),
        (0, [(1, 8, 0, 1)], 0),
        (0, [(2, 8, 0, 1)], 0),
        (1, [(3, 8, 0, 1)], 0),
        (0, [(4, 8, 0, 1)], -EINVAL),
        (0, [(0, 8, 0, 1)], -EINVAL),
        (0, [(1, 8, 0, 0)], -EFAULT),
        (0, [(1, 0x3000, 0, 1)], 0),
        (0, [(1, 0x3001, 0, 0)], -EINVAL),
        (0, [(1, 0xFFFF_FFFF, 0, 0)], -EINVAL),
        (0, [(8, 0, 0, 0), (1, 8, 0xFFFF_FFFF, 1)], 0),
        (1, [(1, 0, 0, 0)], -EINVAL),
        (0, [(1, 8, 0, 1), (1, 8, 0, 0)], -EFAULT),
    ],
)
def test_an_msr_filter(flags: int, ranges: list[Range], expected: int) -> None:
    machine = Machine()
    bitmap = machine.program.put(b"\xff" * 0x700)
    packed = b"".join(struct.pack("=IIIIQ", *r[:3], 0, bitmap if r[3] else 0) for r in ranges)
    assert (
        machine.ioctl(KVM_X86_SET_MSR_FILTER, KVM_MSR_FILTER.pack_fields(flags, 9, packed))
        == expected
    )
    kept = machine.program.file(machine.fd, VmFile).vm.msr_filter
    assert (kept is None) == bool(expected)
    assert kept is None or [len(bits) for _, bits in kept[1]] == [
        -(-r[1] // 64) * 8 for r in ranges if r[1]
    ]


def pmu_filter(machine: Machine, action: int, count: int, flags: int, *events: int) -> int:
    head = KVM_PMU_EVENT_FILTER.pack_fields(action, count, 0, flags, b"\1" * 16)
    return machine.ioctl(KVM_SET_PMU_EVENT_FILTER, head + struct.pack(f"={len(events)}Q", *events))


def test_a_pmu_filter() -> None:
    machine = Machine()
    assert [pmu_filter(machine, action, 0, 0) for action in (0, 1, 2)] == [0, 0, -EINVAL]
    assert pmu_filter(machine, 0, 300, 0, *[1] * 300) == 0
    assert [pmu_filter(machine, action, 301, 0) for action in (0, 2)] == [-E2BIG, -EINVAL]
    assert pmu_filter(machine, 0, 301, 8) == -EINVAL
    short = machine.program.put_at_page_end(KVM_PMU_EVENT_FILTER.pack_fields(0, 1, 0, 0, b""))
    assert machine.ioctl(KVM_SET_PMU_EVENT_FILTER, short) == -EFAULT


def test_events_under_a_mask_have_reserved_bits() -> None:
    older, newer = Machine(PROFILES["6.1"]), Machine(PROFILES["6.12"])
    assert pmu_filter(older, 0, 0, 1) == -EINVAL
    refused = [bit for bit in range(64) if pmu_filter(newer, 0, 1, 1, 1 << bit)]
    assert refused == [*range(16, 32), *range(36, 55)]
    assert pmu_filter(newer, 0, 1, 0, (1 << 64) - 1) == 0


# -- what there is not -----------------------------------------------------------------------------


def test_a_vm_is_not_encrypted() -> None:
    machine = Machine()
    assert machine.ioctl(KVM_MEMORY_ENCRYPT_OP, 0) == -ENOTTY
    assert machine.ioctl(KVM_MEMORY_ENCRYPT_REG_REGION, 0) == -EFAULT
    assert machine.ioctl(KVM_MEMORY_ENCRYPT_REG_REGION, bytes(16)) == -ENOTTY


def test_nobody_has_measured_the_vms_of_the_oldest_kernel() -> None:
    with pytest.raises(NotModelled, match="2013"):
        Machine(PROFILES["2013"]).ioctl(KVM_SET_TSS_ADDR, 0)


# -- statistics ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("linux", "count", "size"), [("6.1", 15, 1152), ("6.12", 15, 1152), ("7.3", 16, 1224)]
)
def test_statistics(linux: str, count: int, size: int) -> None:
    machine = Machine(PROFILES[linux])
    program = machine.program
    fd = machine.ioctl(KVM_GET_STATS_FD)
    assert program.task.fget(fd).link == "anon_inode:kvm-vm-stats"
    program.close(machine.fd)
    data = program.read(fd, 65536)
    assert isinstance(data, bytes)
    assert (len(data), program.read(fd, 10)) == (size, b"")
    head = KVM_STATS_HEADER.unpack(data[:24])
    assert head == (0, 48, count, 24, 72, size - 8 * count)
    assert data[24:72] == b"kvm-1".ljust(48, b"\0")
    first = KVM_STATS_DESC.unpack(data[72:88])
    assert (first, data[88:105]) == ((0, 0, 1, 0, 0), b"remote_tlb_flush\0")
    assert data[head.data_offset :] == bytes(8 * count)
    assert program.read(fd, 8, 24) == b"kvm-1\0\0\0"
    assert program.write(fd, b"x") == -EBADF
    assert program.kernel.vms
    program.close(fd)
    assert not program.kernel.vms


def test_older_kernels_have_no_statistics() -> None:
    assert Machine(PROFILES["5.10"]).ioctl(KVM_GET_STATS_FD) == -ENOTTY
