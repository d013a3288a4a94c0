# SPDX-License-Identifier: GPL-2.0-only
"""The educational device. The numbers were read from it by Linux 6.1, 6.12, 6.18 and 7.3."""

from __future__ import annotations

import os
from errno import EINVAL
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.uapi.pci import PCI_STATUS, PCI_STATUS_INTERRUPT
from kvm_vfio.uapi.vfio import (
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
)
from tests.unit.kernel.pci.desk import ADDRESS, IOVA, Desk

IDENTIFICATION, LIVENESS, FACTORIAL, STATUS, INTERRUPT_STATUS = 0x00, 0x04, 0x08, 0x20, 0x24
RAISE, ACKNOWLEDGE = 0x60, 0x64
SOURCE, DESTINATION, COUNT, COMMAND = 0x80, 0x88, 0x90, 0x98
RUN, TO_MEMORY, AND_INTERRUPT = 1, 2, 4
BUFFER = 0x40000
ONES = 0xFFFF_FFFF


@pytest.fixture
def edu() -> Desk:
    return Desk(Edu.at(ADDRESS))


def copy(edu: Desk, source: int, destination: int, count: int, command: int) -> None:
    edu.write(SOURCE, source, 8)
    edu.write(DESTINATION, destination, 8)
    edu.write(COUNT, count, 8)
    edu.write(COMMAND, command | RUN, 8)


def test_identification_and_liveness(edu: Desk) -> None:
    assert edu.read(IDENTIFICATION) == 0x010000ED
    edu.write(IDENTIFICATION, 7)
    assert edu.read(IDENTIFICATION) == 0x010000ED
    edu.write(LIVENESS, 0x12345678)
    assert edu.read(LIVENESS) == 0xEDCBA987


@pytest.mark.parametrize("number", [0, 1, 5, 12, 13, 33, 34, 40, ONES])
def test_factorial(edu: Desk, number: int) -> None:
    edu.write(FACTORIAL, number)
    expected = factorial(number) % (1 << 32) if number < 100 else 0
    assert (edu.read(FACTORIAL), edu.read(STATUS)) == (expected, 0)


# (offset, width, what it reads as) where the specification says nothing
ODD = [
    *((at, 4, ONES) for at in (0x0C, 0x28, RAISE, ACKNOWLEDGE, 0x84, 0x9C, 0xA0, BUFFER, 0xFFFFC)),
    *((at, 1, 0) for at in (0, 3, 0x0C, SOURCE)),
    *((at, 2, 0) for at in (0, 2, 0x28, SOURCE)),
    (1, 4, 0),  # which Linux does in three accesses
]


@pytest.mark.parametrize(("offset", "width", "value"), ODD)
def test_what_is_no_register(edu: Desk, offset: int, width: int, value: int) -> None:
    assert edu.read(offset, width) == value
    edu.write(offset, 0, width)
    assert edu.read(offset, width) == value


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_eight_bytes_where_the_kernel_has_them(profile: Profile) -> None:
    edu = Desk(Edu.at(ADDRESS), profile)
    wide = profile.region_access_width == 8
    edu.write(SOURCE, 0x1122334455667788, 8)
    assert edu.read(SOURCE, 8) == (0x1122334455667788 if wide else 0xFFFFFFFF55667788)
    edu.write(SOURCE + 4, 7)
    edu.write(SOURCE, 9)
    assert edu.read(SOURCE, 8) == (9 if wide else 0xFFFFFFFF00000009)


def test_status_keeps_one_bit(edu: Desk) -> None:
    edu.write(STATUS, ONES)
    assert edu.read(STATUS) == 0x80


# -- interrupts ------------------------------------------------------------------------------------


def test_messages(edu: Desk) -> None:
    (event,) = edu.eventfds(VFIO_PCI_MSI_IRQ_INDEX)
    edu.write(RAISE, 0x11)
    edu.write(RAISE, 0x02)
    assert (edu.read(INTERRUPT_STATUS), edu.heard(event)) == (0x13, 2)
    edu.write(ACKNOWLEDGE, 0x01)
    assert (edu.read(INTERRUPT_STATUS), edu.heard(event)) == (0x12, 0)
    edu.write(STATUS, 0x80)
    edu.write(FACTORIAL, 3)
    assert (edu.read(INTERRUPT_STATUS), edu.heard(event)) == (0x13, 1)


def test_a_message_is_a_write_of_a_bus_master(edu: Desk) -> None:
    (event,) = edu.eventfds(VFIO_PCI_MSI_IRQ_INDEX)
    edu.master(on=False)
    edu.write(RAISE, 2)
    assert (edu.read(INTERRUPT_STATUS), edu.heard(event)) == (2, 0)
    edu.master(on=True)
    assert edu.heard(event) == 0


def test_the_line_is_told_once_until_it_is_unmasked(edu: Desk) -> None:
    (event,) = edu.eventfds(VFIO_PCI_INTX_IRQ_INDEX)
    unmask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK
    edu.write(RAISE, 1)
    edu.write(RAISE, 2)
    assert edu.heard(event) == 1
    assert edu.device.read_config(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT
    edu.device.set_irqs(VFIO_PCI_INTX_IRQ_INDEX, unmask, 0, 1)  # not acknowledged: told again
    assert edu.heard(event) == 1
    edu.write(ACKNOWLEDGE, 3)
    edu.device.set_irqs(VFIO_PCI_INTX_IRQ_INDEX, unmask, 0, 1)
    assert edu.heard(event) == 0
    assert not edu.device.read_config(PCI_STATUS, 2) & PCI_STATUS_INTERRUPT
    edu.write(RAISE, 1)
    assert edu.heard(event) == 1


def test_a_line_that_was_asserted_before_anybody_listened(edu: Desk) -> None:
    edu.write(RAISE, 1)
    (event,) = edu.eventfds(VFIO_PCI_INTX_IRQ_INDEX)
    assert edu.heard(event) == 1


# -- DMA -------------------------------------------------------------------------------------------


def test_there_and_back(edu: Desk) -> None:
    (event,) = edu.eventfds(VFIO_PCI_MSI_IRQ_INDEX)
    edu.memory.write(bytes(range(256)))
    copy(edu, IOVA + 16, BUFFER + 8, 64, AND_INTERRUPT)
    assert (edu.read(COMMAND), edu.read(INTERRUPT_STATUS), edu.heard(event)) == (4, 0x100, 1)
    copy(edu, BUFFER, IOVA + 4096, 72, TO_MEMORY)
    assert (edu.read(COMMAND), edu.heard(event)) == (2, 0)
    assert edu.memory.read(73, 4096) == bytes(8) + bytes(range(16, 80)) + b"\0"


def test_the_whole_buffer(edu: Desk) -> None:
    edu.memory.write(bytes(range(256)) * 16)
    copy(edu, IOVA, BUFFER, 4096, 0)
    copy(edu, BUFFER, IOVA + 0x1800, 4096, TO_MEMORY)
    assert edu.memory.read(4096, 0x1800) == bytes(range(256)) * 16


def test_an_address_has_28_bits(edu: Desk) -> None:
    edu.memory.write(b"edu")
    copy(edu, IOVA | 0x5000_0000, BUFFER, 3, 0)
    copy(edu, BUFFER, IOVA + 0x2000, 3, TO_MEMORY)
    assert edu.memory.read(3, 0x2000) == b"edu"


def test_it_can_be_given_more() -> None:
    edu = Desk(Edu.at(ADDRESS, dma_mask=ONES))
    edu.memory.write(b"old")
    copy(edu, IOVA | 0x5000_0000, BUFFER, 3, 0)
    copy(edu, BUFFER, IOVA, 3, TO_MEMORY)
    assert edu.memory.read(3) == bytes(3)


def test_what_faults_reads_as_nothing_and_ends_as_usual(edu: Desk) -> None:
    edu.memory.write(b"data")
    copy(edu, IOVA, BUFFER, 4, 0)
    copy(edu, 0x900_0000, BUFFER, 2, AND_INTERRUPT)
    assert (edu.read(COMMAND), edu.read(INTERRUPT_STATUS)) == (4, 0x100)
    copy(edu, BUFFER, IOVA, 4, TO_MEMORY)
    assert edu.memory.read(4) == b"\0\0ta"


@pytest.mark.parametrize(
    ("at", "count"), [(BUFFER, 4097), (BUFFER + 4095, 2), (0, 4), (1 << 63, 8)]
)
def test_beyond_its_buffer_nothing_moves(edu: Desk, at: int, count: int) -> None:
    edu.memory.write(b"\xaa" * 8192)
    copy(edu, at, IOVA, count, TO_MEMORY)
    copy(edu, IOVA, at, count, 0)
    assert edu.memory.read(8192) == b"\xaa" * 8192


def test_a_bar_with_registers_cannot_be_mapped(edu: Desk) -> None:
    assert edu.device.region_info(0).flags == 3
    with pytest.raises(OSError, match=os.strerror(EINVAL)):
        edu.device.map_bar(0)


def test_without_traps_it_can(edu: Desk) -> None:
    edu = Desk(Edu.at(ADDRESS, trap=False))
    assert edu.device.region_info(0).flags == 7
    edu.device.map_bar(0)
    assert edu.read(IDENTIFICATION) == 0x010000ED


def test_its_registers_outlive_its_driver(edu: Desk) -> None:
    edu.write(LIVENESS, 1)
    edu.device.close()
    edu.device = edu.group.device(ADDRESS)
    assert edu.read(LIVENESS) == 0xFFFFFFFE
    assert not edu.device.read_config(4, 2) & 4


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.sampled_from([0, 4, 8, 0x20, 0x24, 0x60, 0x64, 0x80, 0x88, 0x90, 0x98, 0x40000]),
            st.integers(0, 4),
            st.binary(min_size=1, max_size=20),
        ),
        max_size=30,
    )
)
def test_no_access_is_too_odd(accesses: list[tuple[bool, int, int, bytes]]) -> None:
    edu = Desk(Edu.at(ADDRESS), pages=1)
    for write, offset, odd, data in accesses:
        if write:
            assert edu.device.write_region(0, offset + odd, data) == len(data)
        else:
            assert len(edu.device.read_region(0, offset + odd, len(data))) == len(data)
