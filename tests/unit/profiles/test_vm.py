# SPDX-License-Identifier: GPL-2.0-only
"""Each field of a VM's behaviour: something a caller sees, which flips where the field does."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import fields, replace
from errno import EAGAIN, EBUSY, EEXIST, EINVAL, ENOENT, ENOTTY
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.profiles.vm import VM_BEHAVIOURS, VmBehaviour
from kvm_vfio.uapi import kvm, kvm_vm
from tests.unit.kernel.program import Program, boot


class Machine:
    """A VM of a kernel that behaves so."""

    def __init__(self, behaviour: VmBehaviour) -> None:
        self.program: Program = boot(replace(PROFILES["6.12"], vm=behaviour))
        self.fd = self.program.vm()

    def ioctl(self, request: int, data: bytes | int = 0) -> int:
        argument = self.program.put(data) if isinstance(data, bytes) else data
        return self.program.ioctl(self.fd, request, argument)

    def enable(self, cap: int, argument: int) -> int:
        data = kvm_vm.KVM_ENABLE_CAP_LAYOUT.pack_fields(cap, 0, argument, 0, 0, 0, b"")
        return self.ioctl(kvm_vm.KVM_ENABLE_CAP, data)

    def slot(self, number: int, guest_address: int = 0, address: int = 0) -> int:
        data = kvm_vm.KVM_USERSPACE_MEMORY_REGION.pack_fields(
            number, 0, guest_address, 0x1000, address
        )
        return self.ioctl(kvm_vm.KVM_SET_USER_MEMORY_REGION, data)

    def irqfd(self, event: int) -> int:
        self.ioctl(kvm_vm.KVM_CREATE_IRQCHIP)
        data = kvm_vm.KVM_IRQFD_LAYOUT.pack_fields(event, 5, 0, 0, b"")
        return self.ioctl(kvm_vm.KVM_IRQFD, data)

    def with_vcpu(self) -> Machine:
        assert self.program.ioctl(self.fd, kvm.KVM_CREATE_VCPU, 0) >= 0
        return self


Run = Callable[[Machine], Any]


def lacking(machine: Machine) -> int:
    asked = kvm_vm.VM_REQUESTS.keys() - {int(kvm_vm.KVM_GET_STATS_FD)}
    missing = machine.program.file(machine.fd, VmFile).vm.behaviour.requests_lacking
    return sum(machine.ioctl(each) == -ENOTTY for each in asked & missing)


def private(machine: Machine) -> int:
    """A slot of private memory, where another is."""
    machine.slot(1)
    layout = kvm_vm.KVM_USERSPACE_MEMORY_REGION2
    blank = layout.unpack(bytes(layout.size))
    data = layout.pack(blank._replace(flags=kvm_vm.KVM_MEM_GUEST_MEMFD, memory_size=0x1000))
    return machine.ioctl(kvm_vm.KVM_SET_USER_MEMORY_REGION2, data)


def drained(machine: Machine) -> int:
    event = machine.program.eventfd()
    machine.irqfd(event)
    machine.program.write(event, struct.pack("=Q", 1))
    answer = machine.program.read(event, 8)
    return answer if isinstance(answer, int) else len(answer)


def shared(machine: Machine) -> int:
    event = machine.program.eventfd()
    machine.irqfd(event)
    machine.fd = machine.program.vm()
    return machine.irqfd(event)


def boot_cpu(machine: Machine) -> int:
    return machine.ioctl(kvm_vm.KVM_SET_BOOT_CPU_ID, 1 << 20)


def clock(machine: Machine) -> int:
    data = kvm_vm.KVM_CLOCK_DATA.pack_fields(0, kvm_vm.KVM_CLOCK_HOST_TSC, 0, 0, 0, b"")
    return machine.ioctl(kvm_vm.KVM_SET_CLOCK, data)


def masked_events(machine: Machine) -> int:
    data = kvm_vm.KVM_PMU_EVENT_FILTER.pack_fields(0, 0, 0, 1, b"")
    return machine.ioctl(kvm_vm.KVM_SET_PMU_EVENT_FILTER, data)


def quirks(machine: Machine) -> int:
    return sum(machine.enable(213, 1 << bit) == 0 for bit in range(64))


class Scenario(NamedTuple):
    """What is asked, and the answers, given where they change."""

    run: Run
    answers: dict[str, Any]


SCENARIOS = {
    "requests_lacking": Scenario(lacking, {"5.10": 8, "6.1": 6, "6.12": 1}),
    "capabilities": Scenario(
        lambda m: [m.enable(cap, 1) == -EINVAL for cap in (164, 218, 237)],
        {
            "5.10": [False, True, True],
            "6.1": [False, False, True],
            "6.12": [False, False, False],
        },
    ),
    "user_mem_slots": Scenario(lambda m: m.slot(509), {"5.10": -EINVAL, "6.1": 0}),
    "guest_memfd": Scenario(private, {"5.10": -ENOTTY, "6.12": -EINVAL, "6.18": -EEXIST}),
    "largest_gfn": Scenario(lambda m: m.slot(0, 1 << 40), {"5.10": 0, "6.1": -EINVAL}),
    "user_address_end": Scenario(lambda m: m.slot(0, 0, 1 << 47), {"5.10": -EINVAL, "6.12": 0}),
    "irqfd_drains": Scenario(drained, {"5.10": 8, "6.1": -EAGAIN}),
    "irqfd_exclusive": Scenario(shared, {"5.10": 0, "6.18": -EBUSY}),
    "pit_needs_pic": Scenario(
        lambda m: m.ioctl(kvm_vm.KVM_CREATE_PIT), {"5.10": 0, "6.12": -ENOENT}
    ),
    "max_vcpu_ids": Scenario(lambda m: m.enable(128, 10_000), {"5.10": -EINVAL, "6.12": 0}),
    "boot_cpu_id_limited": Scenario(boot_cpu, {"5.10": 0, "6.12": -EINVAL}),
    "disable_exits_before_vcpus": Scenario(
        lambda m: m.with_vcpu().enable(143, 0), {"5.10": 0, "6.18": -EINVAL}
    ),
    "tsc_khz_before_vcpus": Scenario(
        lambda m: m.with_vcpu().ioctl(kvm_vm.KVM_SET_TSC_KHZ, 1),
        {"5.10": -ENOTTY, "6.1": 0, "6.18": -EINVAL},
    ),
    "clock_flags": Scenario(clock, {"5.10": -EINVAL, "6.1": 0}),
    "pmu_filter_flags": Scenario(masked_events, {"5.10": -EINVAL, "6.12": 0}),
    "quirks": Scenario(quirks, {"5.10": 0, "6.1": 7, "6.12": 11, "6.18": 10, "7.3": 12}),
    "x2apic_suppress_eoi": Scenario(lambda m: m.enable(129, 8), {"5.10": -EINVAL, "7.3": 0}),
}
THE_SAME_EVERYWHERE = {"host_tsc_khz"}

# Where more than this field changes the answer in the same kernel.
DECIDED_BY_ANOTHER = {
    ("max_vcpu_ids", "6.1"): "the capability is new, and the number is what it was with it",
    ("tsc_khz_before_vcpus", "6.1"): "requests_lacking",
}
FIELDS = [f.name for f in fields(VmBehaviour) if f.name not in THE_SAME_EVERYWHERE]
CHANGES = [
    (field, before, after)
    for before, after in pairwise(VM_BEHAVIOURS)
    for field in FIELDS
    if getattr(VM_BEHAVIOURS[before], field) != getattr(VM_BEHAVIOURS[after], field)
]


def expected(answers: dict[str, Any], linux: str) -> Any:  # noqa: ANN401  # any answer
    names = list(VM_BEHAVIOURS)
    return [answers[name] for name in names[: names.index(linux) + 1] if name in answers][-1]


def test_every_field_has_a_scenario_and_changes_somewhere() -> None:
    assert list(SCENARIOS) == FIELDS
    assert {field for field, _, _ in CHANGES} == set(FIELDS)
    same = {f: {getattr(each, f) for each in VM_BEHAVIOURS.values()} for f in THE_SAME_EVERYWHERE}
    assert all(len(values) == 1 for values in same.values())


@pytest.mark.parametrize("linux", VM_BEHAVIOURS)
@pytest.mark.parametrize("field", SCENARIOS)
def test_the_scenario_answers_as_measured(field: str, linux: str) -> None:
    run, answers = SCENARIOS[field]
    assert run(Machine(VM_BEHAVIOURS[linux])) == expected(answers, linux)


@pytest.mark.parametrize(("field", "before", "after"), CHANGES)
def test_it_is_this_field_that_changes_the_answer(field: str, before: str, after: str) -> None:
    run, answers = SCENARIOS[field]
    old, new = VM_BEHAVIOURS[before], VM_BEHAVIOURS[after]
    mixed = replace(new, **{field: getattr(old, field)})
    same = run(Machine(mixed)) == expected(answers, after)
    assert same == ((field, after) in DECIDED_BY_ANOTHER)


def test_they_are_those_of_the_measured_kernels() -> None:
    measured: list[Profile] = [profile for profile in PROFILES.values() if profile.measured]
    assert {profile.name: profile.vm for profile in measured} == dict(VM_BEHAVIOURS)
    assert [p.vm for p in PROFILES.values() if not p.measured] == [None, None]
