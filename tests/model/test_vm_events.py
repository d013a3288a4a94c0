# SPDX-License-Identifier: GPL-2.0-only
"""Random uses of eventfds by VMs: whatever comes and goes, the books are right."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from kvm_vfio.kernel.file import EventFile
from kvm_vfio.kernel.kvm.io_bus import Bus
from kvm_vfio.kernel.kvm.vm import Vm, VmFile
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.uapi import kvm_vm
from tests.unit.kernel.program import MACHINE, Program, boot

NAMES = st.integers(0, 2)
GSIS = st.sampled_from([5, 7, 20])
FLAGS = st.sampled_from([0, 0, 1, 2])
ADDRESSES = st.sampled_from([0x1000, 0x2000])
SIZES = st.sampled_from([0, 2, 4])


class Events(RuleBasedStateMachine):
    """Two VMs with interrupt controllers and three eventfds, each of which comes and goes."""

    profile: Profile

    def __init__(self) -> None:
        super().__init__()
        self.program: Program = boot(self.profile, MACHINE)
        self.vms: dict[int, int] = {}
        self.events: dict[int, int] = {}
        self.ever: set[EventFile] = set()

    def vm(self, name: int) -> int:
        if name not in self.vms:
            fd = self.vms[name] = self.program.vm()
            assert self.program.ioctl(fd, kvm_vm.KVM_CREATE_IRQCHIP) == 0
        return self.vms[name]

    def event(self, name: int) -> int:
        if name not in self.events:
            fd = self.events[name] = self.program.eventfd()
            self.ever.add(self.program.file(fd, EventFile))
        return self.events[name]

    def ioctl(self, vm: int, request: int, data: bytes) -> int:
        return self.program.ioctl(self.vm(vm), request, self.program.put(data))

    @rule(vm=NAMES, event=NAMES, other=NAMES, gsi=GSIS, flags=FLAGS)
    def irqfd(self, vm: int, event: int, other: int, gsi: int, flags: int) -> None:
        words = (self.event(event), gsi, flags, self.event(other), b"")
        self.ioctl(vm, kvm_vm.KVM_IRQFD, kvm_vm.KVM_IRQFD_LAYOUT.pack_fields(*words))

    @rule(
        vm=NAMES,
        event=NAMES,
        at=ADDRESSES,
        size=SIZES,
        match=st.integers(0, 1),
        flags=st.integers(0, 7),
    )
    def ioeventfd(self, vm: int, event: int, at: int, size: int, match: int, flags: int) -> None:
        words = (match, at, size, self.event(event), flags, b"")
        self.ioctl(vm, kvm_vm.KVM_IOEVENTFD, kvm_vm.KVM_IOEVENTFD_LAYOUT.pack_fields(*words))

    @rule(vm=NAMES, event=NAMES, connection=st.integers(0, 1), flags=st.integers(0, 1))
    def hyperv(self, vm: int, event: int, connection: int, flags: int) -> None:
        words = (connection, self.event(event), flags, b"")
        layout = kvm_vm.KVM_HYPERV_EVENTFD_LAYOUT
        self.ioctl(vm, kvm_vm.KVM_HYPERV_EVENTFD, layout.pack_fields(*words))

    @rule(vm=NAMES, request=st.sampled_from([67, 68]), at=ADDRESSES, pio=st.integers(0, 1))
    def zone(self, vm: int, request: int, at: int, pio: int) -> None:
        register = kvm_vm.KVM_REGISTER_COALESCED_MMIO
        other = kvm_vm.KVM_UNREGISTER_COALESCED_MMIO
        data = kvm_vm.KVM_COALESCED_MMIO_ZONE.pack_fields(at, 0x1000, pio)
        self.ioctl(vm, register if request == 67 else other, data)

    @rule(event=NAMES)
    def signal(self, event: int) -> None:
        assert self.program.write(self.event(event), (1).to_bytes(8, "little")) == 8

    @rule(vm=NAMES, at=ADDRESSES, size=st.sampled_from([2, 4]))
    def guest_writes(self, vm: int, at: int, size: int) -> None:
        file = self.program.file(self.vm(vm), VmFile)
        file.vm.buses.write(Bus.MMIO, at, bytes(size))

    @rule(event=NAMES)
    def close_event(self, event: int) -> None:
        if event in self.events:
            self.program.close(self.events.pop(event))

    @rule(vm=NAMES)
    def close_vm(self, vm: int) -> None:
        if vm in self.vms:
            self.program.close(self.vms.pop(vm))

    @rule(vm=NAMES)
    def statistics_keep_a_vm(self, vm: int) -> None:
        if self.profile.name != "5.10":
            assert self.program.ioctl(self.vm(vm), kvm_vm.KVM_GET_STATS_FD) >= 0

    # -- the books ---------------------------------------------------------------------------------

    @invariant()
    def every_eventfd_is_held_as_often_as_somebody_has_it(self) -> None:
        held: Counter[EventFile] = Counter()
        waited: Counter[EventFile] = Counter()
        for vm in self.program.kernel.vms.values():
            for event, irqfd in vm.events.irqfds.items():
                assert irqfd.event is event
                held[event] += 1
                waited[event] += 1
                held.update([irqfd.resample] if irqfd.resample else [])
            held.update(each.event for there in vm.events.ioeventfds.values() for each in there)
            held.update(vm.events.hyperv.values())
        assert {each: each.holders for each in self.ever if each.holders} == dict(held)
        assert {each: len(each.waiters) for each in self.ever if each.waiters} == dict(waited)

    @invariant()
    def only_open_eventfds_and_vms_have_irqfds(self) -> None:
        files = {self.program.file(fd, EventFile) for fd in self.events.values()}
        open_vms = {self.program.file(fd, VmFile).vm for fd in self.vms.values()}
        for vm in self.program.kernel.vms.values():
            assert vm.events.irqfds.keys() <= files
            assert vm in open_vms or not vm.events.irqfds

    @invariant()
    def a_line_is_up_for_a_resampling_irqfd_at_most(self) -> None:
        for vm in self.program.kernel.vms.values():
            resampled = {each.gsi for each in vm.events.irqfds.values() if each.resample}
            assert {gsi for gsi in (5, 7, 20) if self._is_up(vm, gsi)} <= resampled

    @staticmethod
    def _is_up(vm: Vm, gsi: int) -> bool:
        assert vm.irqchip.ioapic is not None
        return vm.irqchip.ioapic.sources[gsi] != 0

    @invariant()
    def no_eventfd_of_two_vms_where_one_may_have_it(self) -> None:
        if self.profile.name == "7.3":
            assert all(len(each.waiters) <= 1 for each in self.ever)

    def teardown(self) -> None:
        self.program.exit()
        assert not self.program.kernel.vms
        assert all(not each.holders and not each.waiters for each in self.ever)


@pytest.mark.parametrize("linux", ["5.10", "6.12", "7.3"])
def test_the_books_are_right(linux: str) -> None:
    machine = type("EventsOf", (Events,), {"profile": PROFILES[linux]})
    run_state_machine_as_test(machine, settings=settings(max_examples=40, stateful_step_count=40))
