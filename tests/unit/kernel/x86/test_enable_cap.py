# SPDX-License-Identifier: GPL-2.0-only
"""KVM_ENABLE_CAP on a VM: every answer here was measured on the kernels named."""

from __future__ import annotations

from errno import EBADF, EFAULT, EINVAL, ENXIO

import pytest

from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.kernel.x86.enable_cap import CAPABILITIES
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm import KVM_CREATE_VCPU
from kvm_vfio.uapi.kvm_vm import KVM_CREATE_IRQCHIP, KVM_ENABLE_CAP, KVM_ENABLE_CAP_LAYOUT
from tests.unit.kernel.program import Program, boot

VALUES: tuple[int, ...] = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    32,
    64,
    0x80,
    0xFF,
    0x100,
    0x1000,
    0x10000,
    1 << 31,
)
VALUES += (1 << 32, 1 << 33, (1 << 64) - 1)
EVERYTHING = frozenset(VALUES)

DISABLE_QUIRKS, SPLIT, X2APIC, DISABLE_EXITS, PLATFORM_INFO, PAYLOAD = 116, 121, 129, 143, 159, 164
MANUAL, HALT_POLL, USER_MSR, MAX_ID, RING, BUS_LOCK = 168, 182, 188, 128, 192, 193
COPY_ENC, HYPERCALL, EMULATION, MOVE_ENC, QUIRKS2, TRIPLE = 197, 201, 204, 206, 213, 218
NX, RING_ACQ_REL, BUS_CYCLES = 220, 223, 237


def upto(limit: int) -> frozenset[int]:
    return frozenset(value for value in VALUES if value <= limit)


# What a fresh VM takes of VALUES, by the kernel from which on it does.
TAKES: dict[int, dict[str, frozenset[int]]] = {
    DISABLE_QUIRKS: {"5.10": EVERYTHING},
    SPLIT: {"5.10": upto(0x1000)},
    X2APIC: {"5.10": upto(3), "7.3": upto(3) | {8}},
    DISABLE_EXITS: {"5.10": upto(15)},
    PLATFORM_INFO: {"5.10": EVERYTHING},
    PAYLOAD: {"5.10": EVERYTHING},
    MANUAL: {"5.10": frozenset({0, 1, 3})},
    HALT_POLL: {"5.10": upto(1 << 31)},
    USER_MSR: {"5.10": upto(7)},
    MAX_ID: {"6.1": upto(0x1000)},
    RING: {"6.1": frozenset({0x1000, 0x10000})},
    BUS_LOCK: {"6.1": upto(2)},
    HYPERCALL: {"6.1": frozenset({0, 0x1000})},
    EMULATION: {"6.1": upto(1)},
    QUIRKS2: {"6.1": upto(64), "6.12": upto(0x100), "6.18": upto(0x100)},
    TRIPLE: {"6.1": EVERYTHING},
    NX: {"6.1": upto(0)},
    RING_ACQ_REL: {"6.1": frozenset({0x1000, 0x10000})},
}
MEASURED = [profile for profile in PROFILES.values() if profile.vm]


def enable(program: Program, vm: int, cap: int, argument: int, flags: int = 0) -> int:
    wanted = program.struct(KVM_ENABLE_CAP_LAYOUT, cap=cap, flags=flags, arg0=argument)
    return program.ioctl(vm, KVM_ENABLE_CAP, wanted)


@pytest.mark.parametrize("cap", TAKES)
@pytest.mark.parametrize("profile", MEASURED, ids=[p.name for p in MEASURED])
def test_what_a_fresh_vm_takes(profile: Profile, cap: int) -> None:
    names = [p.name for p in MEASURED]
    since = [name for name in names[: names.index(profile.name) + 1] if name in TAKES[cap]]
    expected = TAKES[cap][since[-1]] if since else frozenset()
    program = boot(profile)
    taken = {value for value in VALUES if enable(program, program.vm(), cap, value) == 0}
    assert taken == expected
    for value in expected:
        ignored = cap in (RING, RING_ACQ_REL)
        assert enable(program, program.vm(), cap, value, flags=1) == (0 if ignored else -EINVAL)


def test_every_capability_is_somebodys() -> None:
    known = set().union(*(profile.vm.capabilities for profile in MEASURED if profile.vm))
    assert known == CAPABILITIES.keys()
    assert known == TAKES.keys() | {COPY_ENC, MOVE_ENC, BUS_CYCLES}


@pytest.mark.parametrize("cap", [0, 1, 9, 66, 89, 120, 196, 212, 219, 236, 0xFFFF_FFFF])
def test_others_are_einval(cap: int) -> None:
    program = boot()
    vm = program.vm()
    assert [enable(program, vm, cap, value) for value in (0, 1)] == [-EINVAL, -EINVAL]
    assert program.ioctl(vm, KVM_ENABLE_CAP, 0) == -EFAULT


@pytest.mark.parametrize("cap", [COPY_ENC, MOVE_ENC])
def test_no_vm_is_encrypted(cap: int) -> None:
    program = boot()
    vm, other, kvm = program.vm(), program.vm(), program.open("/dev/kvm")
    expected = {other: -EINVAL, vm: -EINVAL, kvm: -EBADF, 999: -EBADF, program.eventfd(): -EBADF}
    assert {fd: enable(program, vm, cap, fd) for fd in expected} == expected


def test_the_apics_clock() -> None:
    program = boot()
    vm = program.vm()
    limits = {0: -EINVAL, 1 << 25: -ENXIO, (1 << 25) + 1: -EINVAL}
    assert {value: enable(program, vm, BUS_CYCLES, value) for value in limits} == limits
    program.ioctl(vm, KVM_CREATE_IRQCHIP)
    assert enable(program, vm, BUS_CYCLES, 1 << 25) == 0


@pytest.mark.parametrize(
    ("linux", "split", "expected"),
    [
        ("7.3", False, {4: -EINVAL, 8: 0, 11: 0, 12: -EINVAL}),
        ("7.3", True, {4: 0, 7: 0, 8: 0, 11: 0, 12: -EINVAL, 16: -EINVAL}),
        ("6.18", True, {3: 0, 4: -EINVAL, 8: -EINVAL}),
    ],
)
def test_suppressed_eoi_broadcasts(linux: str, split: bool, expected: dict[int, int]) -> None:
    program = boot(PROFILES[linux])
    vm = program.vm()
    if split:
        assert enable(program, vm, SPLIT, 24) == 0
    assert {value: enable(program, vm, X2APIC, value) for value in expected} == expected


def test_the_largest_id_is_settled_once() -> None:
    program = boot()
    vm = program.vm()
    assert [enable(program, vm, MAX_ID, value) for value in (0, 10, 10, 11, 0)] == [
        0,
        0,
        0,
        -EINVAL,
        -EINVAL,
    ]
    for linux, most in (("6.1", 4096), ("6.12", 16384)):
        program = boot(PROFILES[linux])
        vm = program.vm()
        assert [enable(program, vm, MAX_ID, most + more) for more in (1, 0)] == [-EINVAL, 0]


@pytest.mark.parametrize(
    ("linux", "cap", "arguments", "with_vcpu"),
    [
        ("6.12", DISABLE_EXITS, (0, 15), 0),
        ("6.18", DISABLE_EXITS, (0, 15), -EINVAL),
        ("6.12", RING, (0x1000,), -EINVAL),
        ("6.12", NX, (0,), -EINVAL),
        ("6.1", MAX_ID, (4096,), 0),
        ("6.1", MAX_ID, (4095,), -EINVAL),
        ("6.12", MAX_ID, (16384,), 0),
        ("6.12", MANUAL, (0, 1, 3), 0),
        ("6.12", PLATFORM_INFO, VALUES, 0),
    ],
)
def test_once_there_is_a_vcpu(
    linux: str, cap: int, arguments: tuple[int, ...], with_vcpu: int
) -> None:
    for argument in arguments:
        program = boot(PROFILES[linux])
        vm = program.vm()
        assert program.ioctl(vm, KVM_CREATE_VCPU, 0) >= 0
        assert enable(program, vm, cap, argument) == with_vcpu


def test_what_was_enabled_is_remembered() -> None:
    program = boot(DEFAULT)
    vm = program.vm()
    enable(program, vm, PAYLOAD, 1)
    enable(program, vm, EMULATION, 2)
    assert program.file(vm, VmFile).vm.enabled == {PAYLOAD: 1}
