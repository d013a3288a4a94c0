# SPDX-License-Identifier: GPL-2.0-only
"""Interrupt controllers, routing, lines: every answer here was measured on the kernels named."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from errno import EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC, ENXIO, EPERM

import pytest

from kvm_vfio.kernel.kvm.vm import Vm, VmFile
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm import KVM_CAP_SPLIT_IRQCHIP
from kvm_vfio.uapi.kvm_vm import (
    KVM_CAP_X2APIC_API,
    KVM_COALESCED_MMIO_ZONE,
    KVM_CREATE_IRQCHIP,
    KVM_CREATE_PIT,
    KVM_CREATE_PIT2,
    KVM_ENABLE_CAP,
    KVM_ENABLE_CAP_LAYOUT,
    KVM_GET_IRQCHIP,
    KVM_GET_PIT,
    KVM_GET_PIT2,
    KVM_IOAPIC_STATE,
    KVM_IRQ_LEVEL,
    KVM_IRQ_LINE,
    KVM_IRQ_LINE_STATUS,
    KVM_IRQ_ROUTING,
    KVM_IRQ_ROUTING_ENTRY,
    KVM_IRQCHIP,
    KVM_MSI,
    KVM_PIC_STATE,
    KVM_PIT_CHANNEL_STATE,
    KVM_PIT_CONFIG,
    KVM_PIT_STATE,
    KVM_PIT_STATE2,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_REINJECT_CONTROL,
    KVM_SET_GSI_ROUTING,
    KVM_SET_IRQCHIP,
    KVM_SET_PIT,
    KVM_SET_PIT2,
    KVM_SIGNAL_MSI,
    kvm_ioapic_state,
    kvm_pic_state,
    kvm_pit_channel_state,
)
from kvm_vfio.uapi.layout import Layout
from tests.unit.kernel.program import Program, boot

IRQCHIP, MSI, HV_SINT, XEN = 1, 2, 4, 5
MASTER, SLAVE, IOAPIC = 0, 1, 2
LEVEL, REMOTE_IRR, MASKED = 1 << 15, 1 << 14, 1 << 16
MEASURED = pytest.mark.parametrize(
    "profile",
    [p for p in PROFILES.values() if p.vm],
    ids=[p.name for p in PROFILES.values() if p.vm],
)


class Board:
    """A program with a VM whose interrupt controllers are in the kernel, split, or not there."""

    def __init__(self, mode: str = "kernel", profile: Profile = DEFAULT) -> None:
        self.program: Program = boot(profile, now=lambda: 1234)
        self.fd = self.program.vm()
        if mode == "kernel":
            assert self.ioctl(KVM_CREATE_IRQCHIP) == 0
        elif mode == "split":
            assert self.enable(KVM_CAP_SPLIT_IRQCHIP, 24) == 0

    @property
    def vm(self) -> Vm:
        return self.program.file(self.fd, VmFile).vm

    def ioctl(self, request: int, data: bytes | int = 0) -> int:
        argument = self.program.put(data) if isinstance(data, bytes) else data
        return self.program.ioctl(self.fd, request, argument)

    def enable(self, cap: int, argument: int) -> int:
        wanted = self.program.struct(KVM_ENABLE_CAP_LAYOUT, cap=cap, arg0=argument)
        return self.program.ioctl(self.fd, KVM_ENABLE_CAP, wanted)

    def line(self, gsi: int, level: int) -> int:
        """The status, or -errno."""
        wanted = self.program.struct(KVM_IRQ_LEVEL, irq=gsi, level=level)
        answer = self.program.ioctl(self.fd, KVM_IRQ_LINE_STATUS, wanted)
        assert wanted.value.level == level
        return answer or struct.unpack("=i", struct.pack("=I", wanted.value.irq))[0]

    def route(self, *entries: Sequence[int], flags: int = 0, count: int | None = None) -> int:
        head = KVM_IRQ_ROUTING.pack_fields(len(entries) if count is None else count, flags)
        return self.ioctl(KVM_SET_GSI_ROUTING, head + b"".join(entry(*each) for each in entries))

    def signal(self, low: int, high: int = 0, data: int = 0x41, flags: int = 0) -> int:
        return self.ioctl(KVM_SIGNAL_MSI, KVM_MSI.pack_fields(low, high, data, flags, 0, b""))

    def chip(self, number: int) -> bytes:
        wanted = self.program.struct(KVM_IRQCHIP, chip_id=number, pad=7, chip=b"\xee" * 512)
        assert self.program.ioctl(self.fd, KVM_GET_IRQCHIP, wanted) == 0
        assert (wanted.value.chip_id, wanted.value.pad) == (number, 7)
        return wanted.value.chip

    def set_chip(self, number: int, state: bytes) -> int:
        return self.ioctl(KVM_SET_IRQCHIP, KVM_IRQCHIP.pack_fields(number, 0, state))

    def pic(self, number: int = MASTER) -> kvm_pic_state:
        return KVM_PIC_STATE.unpack(self.chip(number)[: KVM_PIC_STATE.size])

    def set_pic(self, number: int, **fields: int) -> None:
        assert (
            self.set_chip(number, KVM_PIC_STATE.pack(blank(KVM_PIC_STATE)._replace(**fields))) == 0
        )

    def ioapic(self) -> kvm_ioapic_state:
        return KVM_IOAPIC_STATE.unpack(self.chip(IOAPIC)[: KVM_IOAPIC_STATE.size])

    def entries(self) -> list[int]:
        return list(struct.unpack("=24Q", self.ioapic().redirtbl))

    def set_ioapic(self, entries: Sequence[int], irr: int = 0) -> None:
        table = struct.pack("=24Q", *entries)
        state = kvm_ioapic_state(0xFEC0_1000, 0x11, 5, irr, 0x1234, table)
        assert self.set_chip(IOAPIC, KVM_IOAPIC_STATE.pack(state)) == 0


def blank(layout: Layout[kvm_pic_state]) -> kvm_pic_state:
    return layout.unpack(bytes(layout.size))


def entry(gsi: int, kind: int, flags: int = 0, *words: int) -> bytes:
    padded = (*words, 0, 0, 0, 0)[:4]
    return KVM_IRQ_ROUTING_ENTRY.pack_fields(gsi, kind, flags, 0, *padded, b"")


# -- making them -----------------------------------------------------------------------------------


@MEASURED
def test_interrupt_controllers_are_made_once(profile: Profile) -> None:
    board = Board("none", profile)
    assert [board.ioctl(KVM_CREATE_IRQCHIP, each) for each in (0, 0, 5)] == [0, -EEXIST, -EEXIST]
    assert board.enable(KVM_CAP_SPLIT_IRQCHIP, 24) == -EEXIST
    board = Board("none", profile)
    pins = {4097: -EINVAL, 4096: 0, 24: -EEXIST}
    assert {each: board.enable(KVM_CAP_SPLIT_IRQCHIP, each) for each in pins} == pins
    assert board.ioctl(KVM_CREATE_IRQCHIP) == -EEXIST


@pytest.mark.parametrize(
    ("mode", "flags", "bus", "free"),
    [
        ("none", None, 0, 1000),
        ("none", None, 1, 1000),
        ("kernel", None, 0, 999),
        ("kernel", None, 1, 997),
        ("kernel", 0, 1, 996),
        ("kernel", 1, 1, 995),
    ],
)
def test_they_take_places_on_the_buses(mode: str, flags: int | None, bus: int, free: int) -> None:
    board = Board(mode)
    if flags is not None:
        assert board.ioctl(KVM_CREATE_PIT2, KVM_PIT_CONFIG.pack_fields(flags, b"")) == 0
    zone = KVM_COALESCED_MMIO_ZONE.pack_fields(0, 4, bus)
    answers = [board.ioctl(KVM_REGISTER_COALESCED_MMIO, zone) for _ in range(free + 1)]
    assert answers == [0] * free + [-ENOSPC]
    if mode == "none":
        assert board.ioctl(KVM_CREATE_IRQCHIP) == -ENOSPC
        assert board.line(0, 1) == -ENXIO
    elif flags is None and bus:
        assert board.ioctl(KVM_CREATE_PIT2, bytes(64)) == -ENOMEM


@pytest.mark.parametrize(("linux", "expected"), [("5.10", 0), ("6.1", 0), ("6.12", -ENOENT)])
@pytest.mark.parametrize("mode", ["none", "split"])
def test_a_pit_without_a_pic(linux: str, expected: int, mode: str) -> None:
    assert Board(mode, PROFILES[linux]).ioctl(KVM_CREATE_PIT) == expected
    assert Board(mode, PROFILES[linux]).ioctl(KVM_CREATE_PIT2, bytes(64)) == expected


# -- the PIT ---------------------------------------------------------------------------------------


def test_what_needs_a_pit() -> None:
    board = Board()
    asked = {
        KVM_GET_PIT: (bytes(72), -ENXIO, -EFAULT),
        KVM_SET_PIT: (bytes(72), -ENXIO, -EFAULT),
        KVM_GET_PIT2: (bytes(112), -ENXIO, -ENXIO),
        KVM_SET_PIT2: (bytes(112), -ENXIO, -EFAULT),
        KVM_REINJECT_CONTROL: (bytes(32), -ENXIO, -EFAULT),
    }
    for request, (data, missing, nowhere) in asked.items():
        assert (board.ioctl(request, data), board.ioctl(request, 0)) == (missing, nowhere)
    assert board.ioctl(KVM_CREATE_PIT2, 0) == -EFAULT
    assert board.ioctl(KVM_CREATE_PIT2, b"\xff" * 64) == 0
    assert board.ioctl(KVM_CREATE_PIT) == board.ioctl(KVM_CREATE_PIT2, bytes(64)) == -EEXIST
    for request, (data, _, _) in asked.items():
        assert (board.ioctl(request, data), board.ioctl(request, 0)) == (0, -EFAULT)


def channel(count: int, mode: int, gate: int = 1, load: int = 0) -> kvm_pit_channel_state:
    return kvm_pit_channel_state(count, 0, 0, 0, 0, 0, 0, 0, 0, mode, 0, gate, load)


def channels(data: bytes) -> list[kvm_pit_channel_state]:
    size = KVM_PIT_CHANNEL_STATE.size
    return [KVM_PIT_CHANNEL_STATE.unpack(data[at : at + size]) for at in range(0, 3 * size, size)]


def test_a_pit_reads_back() -> None:
    board = Board()
    board.ioctl(KVM_CREATE_PIT2, bytes(64))
    fresh = board.program.struct(KVM_PIT_STATE2)
    assert board.program.ioctl(board.fd, KVM_GET_PIT2, fresh) == 0
    full = 0x10000
    assert channels(fresh.value.channels) == [
        channel(full, 0xFF),
        channel(full, 0xFF, load=1234),
        channel(full, 0xFF, gate=0, load=1234),
    ]
    given = [channel(1000, 2, load=77), channel(0, 3, load=88), channel(70000, 0xFF, load=99)]
    data = b"".join(map(KVM_PIT_CHANNEL_STATE.pack, given))
    state = KVM_PIT_STATE2.pack_fields(data, 0xFFFF_FFFF, b"\5" * 36)
    assert board.ioctl(KVM_SET_PIT2, state) == 0
    assert board.program.ioctl(board.fd, KVM_GET_PIT2, fresh) == 0
    loaded = [given[0], given[1]._replace(count=full), given[2]]
    loaded[1:] = [each._replace(count_load_time=1234) for each in loaded[1:]]
    assert channels(fresh.value.channels) == loaded
    assert (fresh.value.flags, fresh.value.reserved) == (0xFFFF_FFFF, bytes(36))
    older = board.program.struct(KVM_PIT_STATE)
    assert board.ioctl(KVM_SET_PIT, b"\xfd" * 72) == 0
    assert board.program.ioctl(board.fd, KVM_GET_PIT, older) == 0
    assert [each.count for each in channels(older.value.channels)] == [0xFDFD_FDFD] * 3


# -- state -----------------------------------------------------------------------------------------


def test_a_fresh_state() -> None:
    board = Board()
    for number, mask in ((MASTER, 0xF8), (SLAVE, 0xDE)):
        assert board.chip(number)[:17] == bytes(15) + bytes([mask, 0xEE])
    assert board.ioapic() == kvm_ioapic_state(
        0xFEC0_0000, 0, 0, 0, 0, struct.pack("=24Q", *[MASKED] * 24)
    )
    assert board.chip(IOAPIC)[216:] == b"\xee" * 296


def test_which_chips_there_are() -> None:
    for mode in ("none", "split"):
        board = Board(mode)
        for request in (KVM_GET_IRQCHIP, KVM_SET_IRQCHIP):
            assert (board.ioctl(request, b"\7" * 520), board.ioctl(request, 0)) == (-ENXIO, -EFAULT)
    assert Board().ioctl(KVM_GET_IRQCHIP, KVM_IRQCHIP.pack_fields(3, 0, b"")) == -EINVAL
    assert Board().set_chip(3, b"") == -EINVAL


def test_state_that_is_set_reads_back() -> None:
    board = Board()
    for number in (MASTER, SLAVE):
        board.set_pic(number, elcr_mask=1)
    board.set_chip(MASTER, bytes(range(16)))
    assert board.chip(MASTER)[:16] == bytes(range(16))
    entries = [0x1000_0000_0000_0000 + (i << 8) for i in range(24)]
    board.set_ioapic(entries)
    assert board.entries() == entries
    assert board.ioapic()[:5] == (0xFEC0_1000, 0x11, 5, 0, 0x1234)
    board.set_ioapic([(1 << 64) - 1] * 24, irr=0xFFFF_FFFF)
    assert board.ioapic().irr == 0xFF_FFFF


# -- lines -----------------------------------------------------------------------------------------

LINES = {
    **{gsi: [1, 1, 2, 2, 0, 2] for gsi in (0, 1, 2, 3, 8, 9, 15)},
    **{gsi: [-1, 0, 1, 1, -1, 1] for gsi in (16, 23)},
    **{gsi: [-1] * 6 for gsi in (24, 25, 100, 4096, 0xFFFF_FFFF)},
}


@MEASURED
@pytest.mark.parametrize(("gsi", "expected"), LINES.items())
def test_a_line_goes_up_and_down(profile: Profile, gsi: int, expected: list[int]) -> None:
    board = Board(profile=profile)
    assert [board.line(gsi, level) for level in (1, 1, 0, 0, 2, 0)] == expected


def test_a_line_without_a_controller() -> None:
    board = Board("none")
    assert board.line(0, 1) == -ENXIO
    assert board.ioctl(KVM_IRQ_LINE, bytes(8)) == -ENXIO
    assert Board("split").line(5, 1) == -1
    assert Board().ioctl(KVM_IRQ_LINE, bytes(8)) == 0


def test_an_edge_is_remembered_by_both() -> None:
    board = Board()
    assert [board.line(5, 1), board.line(20, 1)] == [1, -1]
    assert (board.pic().last_irr, board.pic().irr) == (0x20, 0x20)
    assert board.ioapic().irr == 1 << 20 | 1 << 5
    board.line(5, 0)
    assert (board.pic().last_irr, board.pic().irr) == (0, 0x20)
    assert board.ioapic().irr == 1 << 20


def test_the_second_pic_is_on_pin_2_of_the_first() -> None:
    board = Board()
    board.line(12, 1)
    assert (board.pic().irr, board.pic(SLAVE).irr) == (1 << 2, 1 << 4)


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"imr": 0x10}, 0),
        ({"isr": 1}, 0),  # pin 0 is in service, and comes before pin 4
        ({"isr": 1, "priority_add": 3}, 1 << 2),  # pin 3 comes first, 4 next, and 0 at last but two
        ({"irr": 1}, 1 << 2),
    ],
)
def test_when_the_second_pic_interrupts_the_first(fields: dict[str, int], first: int) -> None:
    board = Board()
    board.set_pic(SLAVE, elcr_mask=0xDE, **fields)
    board.set_pic(MASTER, elcr_mask=0xF8)
    board.line(12, 1)
    assert board.pic().irr == first


def test_a_level_triggered_pin_of_a_pic() -> None:
    board = Board()
    board.set_pic(MASTER, elcr=0xFF, elcr_mask=0xF8)
    assert [board.line(5, 1), board.line(5, 1)] == [1, 0]
    assert board.pic().irr == 0x20
    assert (board.line(5, 0), board.pic().irr) == (2, 0)


def test_a_masked_pin_of_a_pic_takes_nothing() -> None:
    board = Board()
    board.set_pic(MASTER, imr=0xFF, elcr_mask=0xF8)
    assert [board.line(5, 1), board.line(5, 1), board.line(5, 0)] == [-1, 0, 1]


IOAPIC_LINES: dict[str, tuple[int, int, list[int], int, int]] = {
    # an entry, irr as set; what raising, raising, lowering says; then irr raised, and the entry
    "edge": (0x30, 0, [-1, 0, 1], 0, 0x30),
    "level": (0x30 | LEVEL, 0, [-1, -1, 1], 1 << 17, 0x30 | LEVEL | REMOTE_IRR),
    "masked level": (0x30 | LEVEL | MASKED, 0, [-1, -1, 1], 1 << 17, 0x30 | LEVEL | MASKED),
    "pending edge": (0x30, 1 << 17, [0, 0, 1], 0, 0x30),
    "in service": (
        0x30 | LEVEL | REMOTE_IRR,
        0,
        [-1, -1, 1],
        1 << 17,
        0x30 | LEVEL | REMOTE_IRR,
    ),
}


@pytest.mark.parametrize(
    ("entry_", "irr", "said", "pending", "after"), IOAPIC_LINES.values(), ids=IOAPIC_LINES
)
def test_a_pin_of_the_ioapic_without_vcpus(
    entry_: int, irr: int, said: list[int], pending: int, after: int
) -> None:
    board = Board()
    board.set_ioapic([entry_] * 24, irr)
    assert board.line(17, 1) == said[0]
    assert board.entries()[17] == after
    if not irr:
        assert board.ioapic().irr == pending
    assert [board.line(17, 1), board.line(17, 0)] == said[1:]
    assert board.ioapic().irr == 0


# -- routing ---------------------------------------------------------------------------------------

ROUTES: dict[str, tuple[Sequence[Sequence[int]], int]] = {
    "none": ([], 0),
    "4096 of them": ([(gsi, MSI) for gsi in range(4096)], 0),
    "4097 of them": ([(gsi % 4096, MSI) for gsi in range(4097)], -EINVAL),
    "the last GSI": ([(4095, MSI)], 0),
    "beyond": ([(4096, MSI)], -EINVAL),
    **{f"type {kind}": ([(0, kind)], 0 if kind in (1, 2, 4) else -EINVAL) for kind in range(7)},
    **{
        f"chip {chip} pin {pin}": ([(0, IRQCHIP, 0, chip, pin)], 0 if pin < pins else -EINVAL)
        for chip, pins in ((MASTER, 8), (SLAVE, 8), (IOAPIC, 24), (3, 0))
        for pin in (0, 7, 8, 23, 24)
    },
    "MSI of a device": ([(0, MSI, 1)], 0),
    "MSI, unknown flag": ([(0, MSI, 2)], -EINVAL),
    "a pin has no flags": ([(0, IRQCHIP, 1)], -EINVAL),
    "no synthetic one either": ([(0, HV_SINT, 1)], -EINVAL),
    "one chip twice": ([(0, IRQCHIP, 0, 0, 0), (0, IRQCHIP, 0, 0, 1)], -EINVAL),
    "two chips": ([(0, IRQCHIP, 0, 0, 0), (0, IRQCHIP, 0, 1, 1)], 0),
    "three chips": ([(0, IRQCHIP, 0, chip, 0) for chip in (0, 1, 2)], 0),
    "two MSIs": ([(0, MSI), (0, MSI)], -EINVAL),
    "a pin, then an MSI": ([(0, IRQCHIP), (0, MSI)], -EINVAL),
    "an MSI, then a pin": ([(0, MSI), (0, IRQCHIP)], -EINVAL),
    "a pin for two GSIs": ([(0, IRQCHIP, 0, 0, 0), (1, IRQCHIP, 0, 0, 0)], 0),
}


@pytest.mark.parametrize(("routes", "expected"), ROUTES.values(), ids=ROUTES)
def test_routes(routes: Sequence[Sequence[int]], expected: int) -> None:
    board = Board()
    before = board.vm.irqchip.routes
    assert board.route(*routes) == expected
    if expected:
        assert board.vm.irqchip.routes is before


def test_what_is_refused_before_the_routes_are_read() -> None:
    board = Board()
    assert board.ioctl(KVM_SET_GSI_ROUTING, 0) == -EFAULT
    assert board.route(flags=1) == -EINVAL
    short = board.program.put_at_page_end(KVM_IRQ_ROUTING.pack_fields(1, 0))
    assert board.ioctl(KVM_SET_GSI_ROUTING, short) == -EFAULT
    assert Board("none").route() == -EINVAL
    split = Board("split")
    assert [split.route((0, IRQCHIP)), split.route((0, MSI)), split.route()] == [-EINVAL, 0, 0]


def test_a_line_goes_where_its_routes_lead() -> None:
    board = Board()
    assert board.route((3, IRQCHIP, 0, IOAPIC, 20)) == 0
    assert [board.line(3, 1), board.line(4, 1)] == [-1, -1]
    assert board.ioapic().irr == 1 << 20
    routes = [(3, MSI, 0, 0xFEE0_0000, 0, 0x41), (4, IRQCHIP, 0, MASTER, 1)]
    assert board.route(*routes, (4, IRQCHIP, 0, IOAPIC, 4)) == 0
    assert [board.line(3, 1), board.line(3, 0)] == [-1, -1]
    assert [board.line(4, 1), board.line(4, 0)] == [1, 2]


# -- messages --------------------------------------------------------------------------------------


def test_a_message_without_anybody_to_take_it() -> None:
    assert Board("none").signal(0xFEE0_0000) == -EINVAL
    for mode in ("kernel", "split"):
        board = Board(mode)
        assert board.signal(0xFEE0_0000) == -EPERM
        assert [board.signal(0, flags=flags) for flags in (1, 2)] == [-EPERM, -EINVAL]


def test_32_bit_destinations_leave_8_bits_of_the_address_free() -> None:
    board = Board()
    assert board.signal(0xFEE0_0000, 0x1FF) == -EPERM
    assert board.route((0, MSI, 0, 0xFEE0_0000, 0xFF)) == 0
    assert board.enable(KVM_CAP_X2APIC_API, 1) == 0
    assert [board.signal(0xFEE0_0000, high) for high in (0x1FF, 0x100)] == [-EINVAL, -EPERM]
    routes = [board.route((0, MSI, 0, 0xFEE0_0000, high)) for high in (0x1FF, 0x100)]
    assert routes == [-EINVAL, 0]
