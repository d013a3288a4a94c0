# SPDX-License-Identifier: GPL-2.0-only
"""Interrupts of a VFIO device: which eventfd hears which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from errno import EAGAIN, EBADF, EBUSY, EFAULT, EINVAL, ENOTTY, ERANGE

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.file import EventFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.profiles import Profile
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_SET_IRQS,
    VFIO_IRQ_SET,
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE,
    vfio_irq_set,
)
from tests.unit.kernel.program import ADDRESS, Program, since, start_vmm

NONE, BOOL, EVENTFD = VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_DATA_BOOL, VFIO_IRQ_SET_DATA_EVENTFD
MASK, UNMASK = VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_UNMASK
TRIGGER = VFIO_IRQ_SET_ACTION_TRIGGER
INTX, MSI, MSIX, ERR, REQ = range(5)


@dataclass
class Card:
    """An open network card: INTx, 1 MSI, 5 MSI-X, error and request interrupt."""

    program: Program
    fd: int

    def set(
        self,
        index: int,
        data: Sequence[int] | bool | bytes | None,
        *,
        start: int = 0,
        count: int = 1,
        action: int = TRIGGER,
    ) -> int:
        """SET_IRQS with eventfds (a list), bools (bytes), or no data."""
        if data is None:
            kind, tail = NONE, b""
        elif isinstance(data, bytes):
            kind, tail, count = BOOL, data, len(data)
        else:
            assert isinstance(data, Sequence)
            kind, count = EVENTFD, len(data)
            tail = b"".join(fd.to_bytes(4, "little", signed=True) for fd in data)
        head = vfio_irq_set(20 + len(tail), kind | action, index, start, count)
        return self.raw(head, tail)

    def raw(self, head: vfio_irq_set, tail: bytes = b"") -> int:
        address = self.program.put_at_page_end(VFIO_IRQ_SET.pack(head) + tail)
        return self.program.ioctl(self.fd, VFIO_DEVICE_SET_IRQS, address)

    def events(self, count: int) -> list[int]:
        return [self.program.eventfd() for _ in range(count)]

    def heard(self, *events: int) -> list[int]:
        """How often each eventfd was signalled since the last time."""
        counts = []
        for event in events:
            answer = self.program.read(event, 8)
            counts.append(0 if answer == -EAGAIN else int.from_bytes(bytes_of(answer), "little"))
        return counts

    def references(self, event: int) -> int:
        file = self.program.file(event, EventFile)
        return file.references + file.holders

    def unmasked(self) -> bool:
        return not self.program.file(self.fd, VfioDeviceFile).device.irqs.masked


def bytes_of(answer: bytes | int) -> bytes:
    assert isinstance(answer, bytes)
    return answer


@pytest.fixture
def card() -> Card:
    vmm = start_vmm(group=4)
    return Card(vmm.program, vmm.program.device_fd(vmm.group, ADDRESS[4]))


# -- the structure ---------------------------------------------------------------------------------

GOOD = vfio_irq_set(20, NONE | TRIGGER, MSIX, 0, 5)


@pytest.mark.parametrize(
    "head",
    [
        GOOD._replace(argsz=19),
        GOOD._replace(index=5),
        GOOD._replace(flags=GOOD.flags | 1 << 6),
        GOOD._replace(start=1),
        GOOD._replace(start=5, count=0),
        GOOD._replace(count=6),
        GOOD._replace(start=1, count=0xFFFF_FFFE),
        GOOD._replace(count=0xFFFF_FFFF),
        GOOD._replace(flags=TRIGGER),
        GOOD._replace(flags=NONE | BOOL | TRIGGER),
        GOOD._replace(flags=BOOL | TRIGGER, argsz=24),
        GOOD._replace(flags=EVENTFD | TRIGGER, argsz=39),
    ],
)
def test_a_structure_that_is_wrong_is_einval_before_its_data_is_read(
    card: Card, head: vfio_irq_set
) -> None:
    assert card.raw(head) == -EINVAL


def test_data_that_cannot_be_read_is_efault_before_the_action_is_judged(card: Card) -> None:
    for flags in (EVENTFD | TRIGGER, EVENTFD, EVENTFD | MASK | UNMASK):
        head = GOOD._replace(argsz=40, flags=flags)
        assert card.raw(head, bytes(19)) == -EFAULT


@pytest.mark.parametrize("index", [MSI, MSIX, ERR, REQ])
@pytest.mark.parametrize("action", [0, MASK, UNMASK, MASK | TRIGGER])
def test_only_intx_is_masked_and_no_two_actions_go_together(
    card: Card, index: int, action: int
) -> None:
    assert card.set(index, None, action=action) == -ENOTTY
    assert card.set(INTX, None, action=action & ~MASK & ~UNMASK) != 0


# -- vectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("index", "vectors"), [(INTX, 1), (MSI, 1), (MSIX, 5)])
def test_a_trigger_without_data_signals_each_vectors_eventfd_once(
    card: Card, index: int, vectors: int
) -> None:
    events = card.events(vectors)
    assert card.set(index, events) == 0
    assert card.set(index, None, count=vectors) == 0
    assert card.heard(*events) == [1] * vectors


def test_bools_say_which_vectors_are_signalled(card: Card) -> None:
    events = card.events(5)
    assert card.set(MSIX, events) == 0
    assert card.set(MSIX, b"\0\1\xff", start=2) == 0
    assert card.heard(*events) == [0, 0, 0, 1, 1]


def test_a_vector_may_be_without_an_eventfd(card: Card) -> None:
    first, last = card.events(2)
    assert card.set(MSIX, [first, -1, last]) == 0
    assert card.set(MSIX, None, count=3) == 0
    assert card.heard(first, last) == [1, 1]


def test_a_new_eventfd_takes_the_place_of_the_old(card: Card) -> None:
    old, new = card.events(2)
    assert card.set(MSIX, [old, old]) == 0
    assert card.references(old) == 3
    assert card.set(MSIX, [new], start=1) == 0
    assert card.set(MSIX, [-1]) == 0
    assert (card.references(old), card.references(new)) == (1, 2)
    assert card.set(MSIX, None, count=2) == 0
    assert card.heard(old, new) == [0, 1]


@since({"2013": -EINVAL, "6.12": 0})
def test_the_vectors_enabled_first_are_all_there_are_until_6_5(
    profile: Profile, expected: int
) -> None:
    vmm = start_vmm(profile, group=4)
    card = Card(vmm.program, vmm.program.device_fd(vmm.group, ADDRESS[4]))
    events = card.events(2)
    assert card.set(MSIX, events) == 0
    assert card.set(MSIX, card.events(1), start=2) == expected
    assert card.set(MSIX, card.events(4)) == expected
    assert card.set(MSIX, None, count=0) == 0
    assert card.set(MSIX, card.events(5)) == 0


@pytest.mark.parametrize("index", [INTX, MSI, MSIX])
def test_one_kind_is_in_use_at_a_time(card: Card, index: int) -> None:
    assert card.set(index, card.events(1)) == 0
    for other in {INTX, MSI, MSIX} - {index}:
        assert card.set(other, card.events(1)) == -EINVAL
        assert card.set(other, None) == -EINVAL
        assert card.set(other, None, count=0) == -EINVAL
    assert card.set(index, None, count=0) == 0
    assert card.set(index, None, count=0) == -EINVAL
    assert card.set(index, None) == -EINVAL


def test_disabling_and_closing_let_every_eventfd_go(card: Card) -> None:
    event, mask = card.events(2)
    assert card.set(INTX, [event]) == 0
    assert card.set(INTX, [mask], action=UNMASK) == 0
    assert card.set(INTX, None, count=0) == 0
    assert [card.references(each) for each in (event, mask)] == [1, 1]
    for index in (MSIX, ERR, REQ):
        assert card.set(index, [event]) == 0
    assert card.references(event) == 4
    card.program.close(card.fd)
    assert card.references(event) == 1


@pytest.mark.parametrize(("fd", "expected"), [(999, -EBADF), ("device", -EINVAL)])
@pytest.mark.parametrize("index", [INTX, MSI, MSIX, ERR, REQ])
def test_what_is_no_eventfd_is_refused_and_nothing_is_enabled(
    card: Card, index: int, fd: int | str, expected: int
) -> None:
    assert card.set(index, [card.fd if fd == "device" else int(fd)]) == expected
    assert card.set(index, None) == -EINVAL


def test_a_bad_eventfd_takes_the_ones_before_it_back(card: Card) -> None:
    event = card.program.eventfd()
    assert card.set(MSIX, [event, 999]) == -EBADF
    assert card.references(event) == 1


def test_a_bad_eventfd_leaves_no_trigger_from_its_first_vector_to_its_own(card: Card) -> None:
    events = card.events(4)
    assert card.set(MSIX, events) == 0
    assert card.set(MSIX, [*card.events(1), 999], start=1) == -EBADF
    assert card.set(MSIX, None, count=4) == 0
    assert card.heard(*events) == [1, 0, 0, 1]


# -- INTx ------------------------------------------------------------------------------------------


def test_intx_has_one_vector_and_needs_it_named(card: Card) -> None:
    assert card.set(INTX, []) == -EINVAL
    assert card.set(INTX, card.events(1)) == 0
    assert card.set(INTX, card.events(1)) == 0
    for action in (MASK, UNMASK):
        assert card.set(INTX, None, action=action, count=0) == -EINVAL


def test_intx_is_masked_and_unmasked_while_it_is_in_use(card: Card) -> None:
    for action in (MASK, UNMASK):
        assert card.set(INTX, None, action=action) == -EINVAL
    assert card.set(INTX, card.events(1)) == 0
    for data, action, unmasked in [
        (None, MASK, False),
        (b"\0", UNMASK, False),
        (b"\1", UNMASK, True),
        (b"\0", MASK, True),
        (b"\1", MASK, False),
        (None, UNMASK, True),
    ]:
        assert card.set(INTX, data, action=action) == 0
        assert card.unmasked() == unmasked


def test_intx_is_unmasked_by_an_eventfd_and_masked_by_none(card: Card) -> None:
    first, second = card.events(2)
    assert card.set(INTX, card.events(1)) == 0
    assert card.set(INTX, [first], action=MASK) == -ENOTTY
    assert card.set(INTX, [first], action=UNMASK) == 0
    assert card.set(INTX, [999], action=UNMASK) == -EBADF
    assert card.set(INTX, [second], action=UNMASK) == -EBUSY
    assert (card.references(first), card.references(second)) == (2, 1)
    assert card.set(INTX, [-1], action=UNMASK) == 0
    assert card.set(INTX, [second], action=UNMASK) == 0
    assert (card.references(first), card.references(second)) == (1, 2)


def test_a_bad_eventfd_leaves_intx_with_the_one_it_has(card: Card) -> None:
    event = card.program.eventfd()
    assert card.set(INTX, [event]) == 0
    assert card.set(INTX, [999]) == -EBADF
    assert card.set(INTX, None) == 0
    assert card.heard(event) == [1]


def test_intx_can_be_enabled_and_disabled_for_ever(card: Card) -> None:
    event, mask = card.events(2)
    for _ in range(50):
        assert card.set(INTX, [event]) == 0
        assert card.set(INTX, [mask], action=UNMASK) == 0
        assert card.set(INTX, None, count=0) == 0
    assert card.set(INTX, [event]) == 0
    assert card.references(event) == 2


# -- the error and the request interrupt -----------------------------------------------------------


@pytest.mark.parametrize("index", [ERR, REQ])
def test_a_single_interrupt_stands_beside_the_others(card: Card, index: int) -> None:
    event, vector = card.events(2)
    assert card.set(MSIX, [vector]) == 0
    assert card.set(index, None) == -EINVAL
    assert card.set(index, [event]) == 0
    assert card.set(index, None) == 0
    assert card.set(index, b"\1") == 0
    assert card.set(index, b"\0") == 0
    assert card.heard(event, vector) == [2, 0]
    assert card.set(index, None, count=0) == 0
    assert card.set(index, None, count=0) == -EINVAL
    assert card.references(event) == 1


@pytest.mark.parametrize("index", [ERR, REQ])
def test_a_single_interrupt_without_data_to_act_on_is_einval(card: Card, index: int) -> None:
    assert card.set(index, []) == -EINVAL
    assert card.set(index, b"") == -EINVAL
    assert card.set(index, b"\1") == 0
    first, second = card.events(2)
    assert card.set(index, [first]) == 0
    assert card.set(index, [second]) == 0
    assert card.set(index, [-1]) == 0
    assert card.set(index, None) == -EINVAL
    assert (card.references(first), card.references(second)) == (1, 1)


@pytest.mark.parametrize(("fd", "answer", "trigger"), [(-1, 0, -EINVAL), (-2, -EINVAL, 0)])
def test_minus_one_alone_takes_the_eventfd_of_a_single_interrupt_away(
    card: Card, fd: int, answer: int, trigger: int
) -> None:
    assert card.set(REQ, card.events(1)) == 0
    assert card.set(REQ, [fd]) == answer
    assert card.set(REQ, None) == trigger


@pytest.mark.parametrize("index", [MSI, MSIX])
def test_no_vectors_cannot_be_enabled(card: Card, index: int) -> None:
    assert card.set(index, []) == -ERANGE


def test_intx_that_is_off_in_command_is_not_heard(card: Card) -> None:
    event = card.program.eventfd()
    irqs = card.program.file(card.fd, VfioDeviceFile).device.irqs
    assert card.set(INTX, [event]) == 0
    irqs.disable_intx(True)
    assert card.set(INTX, None) == 0
    irqs.set_line(asserted=True)
    assert card.set(INTX, None, action=UNMASK) == 0
    assert card.heard(event) == [0]
    irqs.disable_intx(False)
    assert card.heard(event) == [1]


def test_an_interrupt_the_device_does_not_have_is_einval() -> None:
    vmm = start_vmm(group=2)
    bare = Card(vmm.program, vmm.program.device_fd(vmm.group, ADDRESS[2]))
    for index in (INTX, MSI, MSIX, ERR):
        assert bare.set(index, bare.events(1)) == -EINVAL
        assert bare.set(index, None, count=0) == -EINVAL
    assert bare.set(REQ, bare.events(1)) == 0


def test_a_signalled_unmask_eventfd_lets_an_asserted_line_be_heard_again(card: Card) -> None:
    trigger, unmask = card.events(2)
    irqs = card.program.file(card.fd, VfioDeviceFile).device.irqs
    assert card.set(INTX, [trigger]) == 0
    assert card.set(INTX, [unmask], action=UNMASK) == 0
    irqs.set_line(asserted=True)
    assert card.heard(trigger) == [1]
    card.program.write(unmask, (1).to_bytes(8, "little"))
    assert card.heard(trigger, unmask) == [1, 0]  # and the kernel has taken the signal
    irqs.set_line(asserted=False)
    card.program.write(unmask, (1).to_bytes(8, "little"))
    assert card.heard(trigger) == [0]
    irqs.set_line(asserted=True)
    assert card.heard(trigger) == [1]


def test_an_unmask_eventfd_that_nobody_has_any_more_is_forgotten(card: Card) -> None:
    trigger, unmask = card.events(2)
    assert card.set(INTX, [trigger]) == 0
    assert card.set(INTX, [unmask], action=UNMASK) == 0
    card.program.close(unmask)
    assert card.set(INTX, card.events(1), action=UNMASK) == 0


def test_who_has_a_device_open_is_told_once_that_it_is_wanted_back(card: Card) -> None:
    event = card.program.eventfd()
    function = card.program.file(card.fd, VfioDeviceFile).device.function
    assert card.set(REQ, [event]) == 0
    for _ in range(2):
        with pytest.raises(NotModelled, match="waits"):
            function.remove()
    assert card.heard(event) == [1]
    card.program.close(card.fd)
    function.remove()
    assert function.driver is None
