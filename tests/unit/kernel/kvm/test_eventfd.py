# SPDX-License-Identifier: GPL-2.0-only
"""irqfd, ioeventfd, coalesced MMIO: every answer here was measured on the kernels named."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from errno import EAGAIN, EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOSPC

import pytest

from kvm_vfio.kernel.file import EventFile
from kvm_vfio.kernel.kvm.io_bus import Bus
from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm_vm import (
    KVM_COALESCED_MMIO_ZONE,
    KVM_GET_STATS_FD,
    KVM_HYPERV_EVENTFD,
    KVM_HYPERV_EVENTFD_LAYOUT,
    KVM_IOEVENTFD,
    KVM_IOEVENTFD_LAYOUT,
    KVM_IRQFD,
    KVM_IRQFD_LAYOUT,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_UNREGISTER_COALESCED_MMIO,
)
from tests.unit.kernel.kvm.test_irqchip import MEASURED, Board

DEASSIGN, RESAMPLE = 1, 2
DATAMATCH, PIO, IO_DEASSIGN, CCW, FAST = 1, 2, 4, 8, 16
ONE = struct.pack("=Q", 1)


class Events(Board):
    """A VM, some eventfds (`a`, `b`), and fds that are none."""

    def __init__(self, mode: str = "kernel", profile: Profile = DEFAULT) -> None:
        super().__init__(mode, profile)
        program = self.program
        self.a, self.b = program.eventfd(), program.eventfd()
        self.null = program.other()
        self.closed = 999

    def irqfd(self, fd: int, gsi: int, flags: int = 0, resample: int = 0, vm: int = -1) -> int:
        data = KVM_IRQFD_LAYOUT.pack_fields(
            fd & 0xFFFF_FFFF, gsi, flags, resample & 0xFFFF_FFFF, b"\7" * 16
        )
        return self.program.ioctl(self.fd if vm < 0 else vm, KVM_IRQFD, self.program.put(data))

    def ioeventfd(self, match: int, address: int, length: int, fd: int, flags: int) -> int:
        data = KVM_IOEVENTFD_LAYOUT.pack_fields(match, address, length, fd, flags, b"\7" * 36)
        return self.ioctl(KVM_IOEVENTFD, data)

    def holders(self, fd: int) -> int:
        return self.program.file(fd, EventFile).holders

    def count(self, fd: int) -> int | bytes:
        return self.program.read(fd, 8)


# -- irqfd -----------------------------------------------------------------------------------------


@MEASURED
def test_an_eventfd_is_one_irqfd_of_a_vm(profile: Profile) -> None:
    events = Events(profile=profile)
    a, b = events.a, events.b
    assert [events.irqfd(a, gsi) for gsi in (5, 5, 6)] == [0, -EBUSY, -EBUSY]
    assert events.irqfd(events.program.dup(a), 7) == -EBUSY
    assert [events.irqfd(b, 5, flags) for flags in (4, 8)] == [-EINVAL, -EINVAL]
    others = (events.closed, -1, events.null)
    assert [events.irqfd(fd, 5) for fd in others] == [-EBADF, -EBADF, -EINVAL]
    assert [events.irqfd(b, gsi) for gsi in (100_000, 5)] == [0, -EBUSY]


def test_taking_away_what_is_not_there_is_no_error() -> None:
    events = Events()
    a = events.a
    events.irqfd(a, 5)
    assert [events.irqfd(a, gsi, DEASSIGN) for gsi in (6, 5, 5)] == [0, 0, 0]
    assert events.holders(a) == 0
    others = (events.closed, events.null)
    assert [events.irqfd(fd, 5, DEASSIGN) for fd in others] == [-EBADF, -EINVAL]
    assert events.irqfd(a, 5, DEASSIGN | RESAMPLE, events.closed) == 0
    assert events.irqfd(a, 5, DEASSIGN | 4) == -EINVAL
    assert events.irqfd(a, 5) == 0


def test_which_interrupt_controller_an_irqfd_needs() -> None:
    none, split = Events("none"), Events("split")
    assert none.irqfd(none.a, 5) == none.irqfd(none.closed, 5) == -EINVAL
    assert none.irqfd(none.a, 5, DEASSIGN) == 0
    assert none.ioctl(KVM_IRQFD, 0) == -EFAULT
    assert split.irqfd(split.a, 5) == 0
    assert split.irqfd(split.b, 5, RESAMPLE, split.a) == -EINVAL


def test_a_resampling_irqfd_has_two_eventfds() -> None:
    events = Events()
    others = {events.closed: -EBADF, -1: -EBADF, events.null: -EINVAL}
    assert {fd: events.irqfd(events.a, 5, RESAMPLE, fd) for fd in others} == others
    assert events.holders(events.a) == 0
    assert events.irqfd(events.a, 5, RESAMPLE, events.a) == 0
    assert events.irqfd(events.b, 5, RESAMPLE, events.a) == 0
    assert [events.holders(events.a), events.holders(events.b)] == [3, 1]


@pytest.mark.parametrize(("linux", "expected"), [("6.12", 0), ("6.18", -EBUSY), ("7.3", -EBUSY)])
def test_an_eventfd_for_two_vms(linux: str, expected: int) -> None:
    events = Events(profile=PROFILES[linux])
    other = Board(profile=PROFILES[linux])
    other.program = events.program
    other.fd = events.program.vm()
    other.ioctl(0xAE60)
    assert events.irqfd(events.a, 5) == 0
    assert events.irqfd(events.a, 5, vm=other.fd) == expected
    assert events.irqfd(events.b, 5, vm=other.fd) == 0


@pytest.mark.parametrize(("linux", "left"), [("5.10", struct.pack("=Q", 3)), ("6.1", -EAGAIN)])
def test_a_signal_raises_the_interrupt_and_is_taken(linux: str, left: int | bytes) -> None:
    events = Events(profile=PROFILES[linux])
    assert events.irqfd(events.a, 5) == 0
    assert events.pic().irr == 0
    assert events.program.write(events.a, struct.pack("=Q", 3)) == 8
    assert (events.pic().irr, events.pic().last_irr, events.ioapic().irr) == (0x20, 0, 0)
    assert events.count(events.a) == left


def test_what_was_signalled_before_raises_it_and_stays() -> None:
    events = Events()
    events.program.write(events.a, ONE)
    events.irqfd(events.a, 5)
    assert events.pic().irr == 0x20
    assert events.count(events.a) == ONE


def test_a_resampling_irqfd_keeps_the_line_up_until_it_is_taken_away() -> None:
    events = Events()
    events.irqfd(events.a, 7, RESAMPLE, events.b)
    c = events.program.eventfd()
    events.irqfd(c, 7, RESAMPLE, events.b)
    events.program.write(events.a, ONE)
    assert (events.pic().last_irr, events.ioapic().irr) == (0x80, 0x80)
    assert [events.count(fd) for fd in (events.a, events.b)] == [-EAGAIN, -EAGAIN]
    events.irqfd(events.a, 7, DEASSIGN)
    assert events.pic().last_irr == 0x80  # another one resamples it
    events.irqfd(c, 7, DEASSIGN)
    assert (events.pic().last_irr, events.pic().irr, events.ioapic().irr) == (0, 0x80, 0)
    assert events.holders(events.b) == 0


def test_two_sources_hold_a_line_each() -> None:
    events = Events()
    events.irqfd(events.a, 7, RESAMPLE, events.b)
    events.program.write(events.a, ONE)
    events.line(7, 1)
    events.line(7, 0)
    assert events.pic().last_irr == 0x80
    events.irqfd(events.a, 7, DEASSIGN)
    assert events.pic().last_irr == 0


@pytest.mark.parametrize("how", ["deassigned", "the VM's last fd"])
def test_an_irqfd_that_ends_takes_the_count(how: str) -> None:
    events = Events()
    events.program.write(events.a, ONE)
    events.irqfd(events.a, 5)
    if how == "deassigned":
        events.irqfd(events.a, 5, DEASSIGN)
    else:
        events.ioctl(KVM_GET_STATS_FD)  # which keeps the VM, and no irqfd
        events.program.close(events.fd)
        assert len(events.program.kernel.vms) == 1
    assert events.count(events.a) == -EAGAIN
    assert events.holders(events.a) == 0


def test_the_last_close_of_the_eventfd_ends_an_irqfd() -> None:
    events = Events()
    other = events.program.dup(events.a)
    events.irqfd(events.a, 5)
    events.program.close(events.a)
    assert events.irqfd(other, 6) == -EBUSY
    file = events.program.file(other, EventFile)
    events.program.close(other)
    assert (file.holders, file.waiters, events.vm.events.irqfds) == (0, [], {})


def test_the_end_of_the_vm_lets_every_eventfd_go() -> None:
    events = Events()
    events.irqfd(events.a, 5, RESAMPLE, events.b)
    events.ioeventfd(0, 0, 4, events.a, 0)
    hyperv(events, 1, events.b)
    assert [events.holders(events.a), events.holders(events.b)] == [2, 2]
    events.program.close(events.fd)
    assert [events.holders(events.a), events.holders(events.b)] == [0, 0]
    assert events.program.file(events.a, EventFile).waiters == []


class Heard(Observer):
    def __init__(self) -> None:
        self.events: list[tuple[int, ...]] = []

    def irqfd_injected(self, vm: Vm, gsi: int) -> None:
        self.events.append((vm.number, gsi))

    def irq_set(self, vm: Vm, gsi: int, *, level: bool, answer: int) -> None:
        self.events.append((gsi, level, answer))


def test_an_observer_hears_of_interrupts() -> None:
    events = Events()
    events.program.kernel.observer = heard = Heard()
    events.irqfd(events.a, 20)
    events.program.write(events.a, ONE)
    assert heard.events == [(1, 20), (20, True, -1), (20, False, 1)]


# -- ioeventfd -------------------------------------------------------------------------------------


def test_which_ioeventfds_there_can_be() -> None:
    events = Events("none")
    a = events.a
    assert events.ioctl(KVM_IOEVENTFD, 0) == -EFAULT
    for length in (0, 1, 2, 3, 4, 5, 8, 16):
        fine = length in (0, 1, 2, 4, 8)
        expected = [0, 0, 0, -EINVAL] if fine else [-EINVAL] * 4
        flags = (0, PIO, CCW, 32)
        answers = [events.ioeventfd(0, 0x1000 * length, length, a, each) for each in flags]
        assert answers == expected
    assert events.ioeventfd(0, 0x9000, 0, a, DATAMATCH) == -EINVAL
    others = (events.closed, -1, events.null)
    assert [events.ioeventfd(0, 0x9000, 4, fd, 0) for fd in others] == [-EBADF, -EBADF, -EINVAL]
    end = (1 << 64) - 4
    wrapping = [events.ioeventfd(0, end, length, a, 0) for length in (0, 2, 4, 8)]
    assert wrapping == [0, -EEXIST, -EINVAL, -EINVAL]
    assert events.ioeventfd(0, 0x9000, 3, events.closed, 0) == -EINVAL


Wanted = tuple[int, int, int, int]  # datamatch, address, length, flags

COLLISIONS: dict[str, tuple[Wanted, Wanted, int]] = {
    "the same": ((0, 0, 4, 0), (0, 0, 4, 0), -EEXIST),
    "other data": ((1, 0, 4, DATAMATCH), (2, 0, 4, DATAMATCH), 0),
    "the same data": ((1, 0, 4, DATAMATCH), (1, 0, 4, DATAMATCH), -EEXIST),
    "data, then any": ((1, 0, 4, DATAMATCH), (1, 0, 4, 0), -EEXIST),
    "any, then data": ((1, 0, 4, 0), (1, 0, 4, DATAMATCH), -EEXIST),
    "the low half of other data": ((1 << 32 | 1, 0, 4, DATAMATCH), (1, 0, 4, DATAMATCH), 0),
    "another length": ((0, 0, 4, 0), (0, 0, 2, 0), 0),
    "then any length": ((0, 0, 4, 0), (0, 0, 0, 0), -EEXIST),
    "any length, then one": ((0, 0, 0, 0), (5, 0, 8, DATAMATCH), -EEXIST),
    "an overlap": ((0, 0, 8, 0), (0, 4, 4, 0), 0),
    "another bus": ((0, 0, 4, 0), (0, 0, 4, PIO), 0),
    "a third bus": ((0, 0, 4, 0), (0, 0, 4, CCW), 0),
    "ports win": ((0, 0, 4, PIO), (0, 0, 4, PIO | CCW), -EEXIST),
    "a flag of the kernel's own": ((0, 0, 4, 0), (0, 0, 4, FAST), -EEXIST),
}


@pytest.mark.parametrize(("first", "second", "expected"), COLLISIONS.values(), ids=COLLISIONS)
def test_two_ioeventfds(first: Wanted, second: Wanted, expected: int) -> None:
    events = Events("none")
    assert events.ioeventfd(*first[:3], events.a, first[3]) == 0
    assert events.ioeventfd(*second[:3], events.b, second[3]) == expected


TAKEN_AWAY: dict[str, tuple[Wanted, Wanted, str, int]] = {
    "just this": ((0, 0, 4, 0), (9, 0, 4, 0), "a", 0),
    "another fd": ((0, 0, 4, 0), (0, 0, 4, 0), "b", -ENOENT),
    "no eventfd": ((0, 0, 4, 0), (0, 0, 4, 0), "null", -EINVAL),
    "no fd": ((0, 0, 4, 0), (0, 0, 3, 32), "closed", -EBADF),
    "another length": ((0, 0, 4, 0), (0, 0, 2, 0), "a", -ENOENT),
    "a length that is none": ((0, 0, 4, 0), (0, 0, 3, 0), "a", -ENOENT),
    "an unknown flag": ((0, 0, 4, 0), (0, 0, 4, 32), "a", 0),
    "other data": ((5, 0, 4, DATAMATCH), (6, 0, 4, DATAMATCH), "a", -ENOENT),
    "data as any": ((5, 0, 4, DATAMATCH), (5, 0, 4, 0), "a", -ENOENT),
    "any as data": ((0, 0, 4, 0), (0, 0, 4, DATAMATCH), "a", -ENOENT),
    "another bus": ((0, 0, 4, PIO), (0, 0, 4, 0), "a", -ENOENT),
}


@pytest.mark.parametrize(("there", "meant", "who", "expected"), TAKEN_AWAY.values(), ids=TAKEN_AWAY)
def test_taking_an_ioeventfd_away(there: Wanted, meant: Wanted, who: str, expected: int) -> None:
    events = Events("none")
    assert events.ioeventfd(*there[:3], events.a, there[3]) == 0
    fd = getattr(events, who)
    assert events.ioeventfd(*meant[:3], fd, meant[3] | IO_DEASSIGN) == expected
    assert events.holders(events.a) == (1 if expected else 0)


@pytest.mark.parametrize(
    ("wanted", "written", "heard"),
    [
        ((0, 0x10, 4, 0), (Bus.MMIO, 0x10, b"abcd"), True),
        ((0, 0x10, 4, 0), (Bus.MMIO, 0x10, b"ab"), False),
        ((0, 0x10, 0, 0), (Bus.MMIO, 0x10, b"ab"), True),
        ((0, 0x10, 4, 0), (Bus.MMIO, 0x11, b"abcd"), False),
        ((0, 0x10, 4, 0), (Bus.PIO, 0x10, b"abcd"), False),
        ((7, 0x10, 2, PIO | DATAMATCH), (Bus.PIO, 0x10, b"\7\0"), True),
        ((7, 0x10, 2, PIO | DATAMATCH), (Bus.PIO, 0x10, b"\7\1"), False),
    ],
)
def test_a_guests_write_signals_it(
    wanted: Wanted, written: tuple[Bus, int, bytes], heard: bool
) -> None:
    events = Events("none")
    events.ioeventfd(*wanted[:3], events.a, wanted[3])
    assert events.vm.buses.write(*written) == heard
    assert events.count(events.a) == (ONE if heard else -EAGAIN)


def test_a_guests_write_goes_through_an_irqfd_to_an_interrupt() -> None:
    events = Events()
    events.ioeventfd(0, 0xFEB0_0000, 4, events.a, 0)
    events.irqfd(events.a, 5)
    assert events.vm.buses.write(Bus.MMIO, 0xFEB0_0000, b"ring")
    assert events.pic().irr == 0x20


# -- Hyper-V ---------------------------------------------------------------------------------------


def hyperv(events: Events, connection: int, fd: int, flags: int = 0) -> int:
    data = KVM_HYPERV_EVENTFD_LAYOUT.pack_fields(connection, fd, flags, b"")
    return events.ioctl(KVM_HYPERV_EVENTFD, data)


def test_a_connection_has_one_eventfd() -> None:
    events = Events("none")
    assert [hyperv(events, 1, events.a) for _ in range(2)] == [0, -EEXIST]
    assert [hyperv(events, 1, 0, DEASSIGN) for _ in range(2)] == [0, -ENOENT]
    assert [hyperv(events, 1 << 24, events.a), hyperv(events, 1, events.a, 2)] == [-EINVAL] * 2
    assert [hyperv(events, 1, fd) for fd in (-1, events.null)] == [-EBADF, -EINVAL]
    assert events.holders(events.a) == 0


# -- coalesced MMIO --------------------------------------------------------------------------------


def zones(events: Events, request: int, *wanted: Sequence[int]) -> list[int]:
    packed = (KVM_COALESCED_MMIO_ZONE.pack_fields(*each) for each in wanted)
    return [events.ioctl(request, each) for each in packed]


def test_zones_of_coalesced_mmio() -> None:
    events = Events("none")
    register, unregister = KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO
    assert events.ioctl(register, 0) == events.ioctl(unregister, 0) == -EFAULT
    wanted = [(0, 4096, 0), (0, 4096, 0), (0, 4096, 1), (0, 4096, 2), (2**64 - 1, 4096, 0)]
    assert zones(events, register, *wanted) == [0, 0, 0, -EINVAL, 0]
    assert zones(events, unregister, (0, 5000, 0), (5, 1, 2)) == [0, -EINVAL]
    assert len(events.vm.events.zones) == 4
    assert zones(events, unregister, (5, 1, 0), (5, 1, 0)) == [0, 0]
    assert [zone.bus for zone in events.vm.events.zones] == [Bus.PIO, Bus.MMIO]


def test_ioeventfds_do_not_count_towards_a_full_bus_but_hit_it() -> None:
    events = Events("none")
    for address in range(1100):
        assert events.ioeventfd(0, address * 8, 4, events.a, 0) == 0
    zone = (0, 4, 0)
    filled = zones(events, KVM_REGISTER_COALESCED_MMIO, *[zone] * 1001)
    assert filled == [0] * 1000 + [-ENOSPC]
    assert events.ioeventfd(0, 0x10_0000, 4, events.a, 0) == -ENOSPC
    assert events.ioeventfd(0, 0, 4, events.a, IO_DEASSIGN) == 0
    assert events.ioeventfd(0, 0, 4, events.a, 0) == -ENOSPC
