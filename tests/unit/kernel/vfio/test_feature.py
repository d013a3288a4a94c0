# SPDX-License-Identifier: GPL-2.0-only
"""VFIO_DEVICE_FEATURE, and low power."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import EBADF, EFAULT, EINVAL, ENOTTY

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.file import EventFile
from kvm_vfio.profiles import DEFAULT, Profile
from kvm_vfio.profiles.table import LINUX_5_10, LINUX_7_3
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_FEATURE_DMA_BUF,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_LAYOUT,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_MIGRATION,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_LOW_POWER_ENTRY_WITH_WAKEUP,
)
from tests.unit.kernel.program import ADDRESS, Program, start_vmm

GET, SET, PROBE = VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE
ENTRY, EXIT = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY, VFIO_DEVICE_FEATURE_LOW_POWER_EXIT
WITH_WAKEUP = VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP
CONFIG = 7 << 40


@dataclass
class Card:
    """An open device."""

    program: Program
    fd: int

    def ask(self, number: int, how: int, *, fd: int | None = None, argsz: int = 8) -> int:
        """VFIO_DEVICE_FEATURE; with `fd`, the wake-up eventfd follows."""
        data = b""
        if fd is not None:
            data, argsz = VFIO_DEVICE_LOW_POWER_ENTRY_WITH_WAKEUP.pack_fields(fd, 0), 16
        head = VFIO_DEVICE_FEATURE_LAYOUT.pack_fields(argsz, how | number)
        return self.program.ioctl(self.fd, VFIO_DEVICE_FEATURE, self.program.put(head + data))


def opened(profile: Profile = DEFAULT) -> Card:
    vmm = start_vmm(profile)
    return Card(vmm.program, vmm.program.device_fd(vmm.group, ADDRESS[1]))


@pytest.fixture
def card() -> Card:
    return opened()


@pytest.mark.parametrize(
    ("number", "how", "answer"),
    [
        (ENTRY, PROBE, 0),
        (ENTRY, PROBE | SET, 0),
        (ENTRY, PROBE | GET, -EINVAL),
        (ENTRY, GET, -EINVAL),
        (ENTRY, 0, -EINVAL),
        (ENTRY, GET | SET, -EINVAL),
        (ENTRY, PROBE | GET | SET, -EINVAL),
        (ENTRY, 1 << 19, -EINVAL),
        (WITH_WAKEUP, SET, -EINVAL),  # no room for the eventfd
        (VFIO_DEVICE_FEATURE_MIGRATION, PROBE, -ENOTTY),
        (0xFFFF, GET, -ENOTTY),
    ],
)
def test_what_can_be_done_with_a_feature(card: Card, number: int, how: int, answer: int) -> None:
    assert card.ask(number, how) == answer


def test_the_structure_is_read_before_the_feature_is_looked_for(card: Card) -> None:
    assert card.program.ioctl(card.fd, VFIO_DEVICE_FEATURE, card.program.hole()) == -EFAULT
    assert card.ask(0xFFFF, PROBE, argsz=7) == -EINVAL


def test_low_power_is_entered_once_and_left_as_often_as_one_likes(card: Card) -> None:
    answers = [card.ask(number, SET) for number in (EXIT, ENTRY, ENTRY, EXIT, EXIT, ENTRY)]
    assert answers == [0, 0, -EINVAL, 0, 0, 0]


@pytest.mark.parametrize(("fd", "answer"), [(-1, -EINVAL), (999, -EBADF)])
def test_a_wake_up_needs_an_eventfd(card: Card, fd: int, answer: int) -> None:
    assert card.ask(WITH_WAKEUP, SET, fd=fd) == answer
    assert card.ask(WITH_WAKEUP, SET, fd=card.program.other()) == -EINVAL


TOUCHES: list[Callable[[Card], object]] = [
    lambda card: card.program.read(card.fd, 4, CONFIG),
    lambda card: card.program.write(card.fd, b"\0", CONFIG + 0x0C),
    lambda card: card.program.ioctl(card.fd, VFIO_DEVICE_GET_INFO, 0),
]


@pytest.mark.parametrize("touch", TOUCHES)
def test_touching_the_device_wakes_it_up_and_tells(
    card: Card, touch: Callable[[Card], object]
) -> None:
    event = card.program.eventfd()
    assert card.ask(WITH_WAKEUP, SET, fd=event) == 0
    touch(card)
    touch(card)
    assert card.program.read(event, 8) == (1).to_bytes(8, "little")
    assert card.ask(ENTRY, SET) == 0


def test_closing_the_device_ends_low_power(card: Card) -> None:
    event = card.program.eventfd()
    assert card.ask(WITH_WAKEUP, SET, fd=event) == 0
    counter = card.program.file(event, EventFile)
    assert counter.holders == 1
    card.program.close(card.fd)
    assert counter.holders == 0


def test_a_dma_buf_is_not_modelled() -> None:
    card = opened(LINUX_7_3)
    assert card.ask(VFIO_DEVICE_FEATURE_DMA_BUF, PROBE | GET) == 0
    with pytest.raises(NotModelled, match="dma-buf"):
        card.ask(VFIO_DEVICE_FEATURE_DMA_BUF, GET, argsz=64)


def test_an_old_kernel_has_no_feature_of_these() -> None:
    assert opened(LINUX_5_10).ask(ENTRY, PROBE) == -ENOTTY
