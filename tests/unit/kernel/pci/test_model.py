# SPDX-License-Identifier: GPL-2.0-only
"""Device models in general: registers, areas of memory, the bus."""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import EINVAL
from typing import Any

import pytest

from kvm_vfio import Container, DmaFault, Group, ModelSyscalls
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.kernel.pci.model import Area, DeviceModel, Register, Registers
from kvm_vfio.kernel.pci.storage import MemoryStorage
from kvm_vfio.machine.model import Bar, BarKind, PciDevice
from kvm_vfio.profiles import DEFAULT
from kvm_vfio.uapi.vfio import vfio_region_sparse_mmap_area
from tests.unit.kernel.pci.desk import ADDRESS, IOVA, Desk, machine_of

PAGE = 4096


@dataclass(frozen=True, slots=True)
class _Options:
    start: int = 5


class Gadget(DeviceModel):
    """Something of everything."""

    options_type = _Options
    function = PciDevice(
        address="",
        vendor=0x1234,
        device=2,
        class_code=0x120000,
        bars=(Bar(0, 4 * PAGE), Bar(1, 8, BarKind.IO), Bar(2, PAGE)),
        reset=True,
    )
    memory = (Area(0, PAGE, PAGE), Area(0, 3 * PAGE, PAGE))

    fixed = Register(0, 2, initial=0x1234)
    wide = Register(8, 8, initial=0x0102030405060708, writable=0xFF00FF00FF00FF00)
    counter = Register(0x10)
    log = Register(0x14, writable=0xFFFF_FFFF, reads=False)
    slots = Registers(0x2000, 4, stride=8)
    port = Register(4, bar=1, writable=0xFF)

    def __init__(self, bus: Any, options: Any = None) -> None:  # noqa: ANN401  # the bus
        super().__init__(bus, options)
        self.slot_values = [0] * 4
        self.written: list[int] = []

    @counter.read
    def _count(self) -> int:
        self.counter += 1
        return self.counter + int(self.options.start)

    @wide.written
    def _remember(self, value: int) -> None:
        self.written.append(value)

    @slots.written
    def _put(self, index: int, value: int) -> None:
        self.slot_values[index] = value
        self.bus.memory(0)[PAGE + 4 * index : PAGE + 4 * index + 4] = value.to_bytes(4, "little")

    @slots.read
    def _get(self, index: int) -> int:
        return self.slot_values[index]


@pytest.fixture
def gadget() -> Desk:
    return Desk(Gadget.at(ADDRESS))


def test_registers_are_read_in_parts(gadget: Desk) -> None:
    assert [gadget.read(8 + at, 1) for at in range(8)] == [8, 7, 6, 5, 4, 3, 2, 1]
    assert (gadget.read(0, 2), gadget.read(0, 4), gadget.read(2, 2)) == (0x1234, 0, 0)
    assert gadget.read(12) == 0x01020304


def test_only_writable_bits_change_and_the_method_hears_what_was_written(gadget: Desk) -> None:
    gadget.write(8, 0xFFFF_FFFF_FFFF_FFFF, 8)
    assert gadget.read(8, 8) == 0xFF02FF04FF06FF08
    gadget.write(12, 0)
    assert gadget.read(8, 8) == 0x00020004FF06FF08
    model = gadget.kernel.function(ADDRESS).model
    assert isinstance(model, Gadget)
    assert model.written == [0xFFFF_FFFF_FFFF_FFFF, 0]
    gadget.write(9, 0xAB, 1)
    assert model.written[-1] == 0xAB00
    assert gadget.read(8, 8) == 0x00020004FF06AB08


def test_registers_that_are_computed_hidden_or_many(gadget: Desk) -> None:
    assert [gadget.read(0x10) for _ in range(3)] == [6, 7, 8]
    gadget.write(0x14, 9)
    assert gadget.read(0x14) == 0
    gadget.write(0x2008, 77)
    assert (gadget.read(0x2008), gadget.read(0x2000), gadget.read(0x200C)) == (77, 0, 0)
    assert gadget.read(PAGE + 4) == 77


def test_a_port(gadget: Desk) -> None:
    gadget.device.write_region(1, 4, b"\xff\xff\xff\xff")
    assert gadget.device.read_region(1, 4, 4) == b"\xff\0\0\0"


def test_a_reset_makes_registers_what_they_were(gadget: Desk) -> None:
    gadget.write(8, 0, 8)
    gadget.device.reset()
    assert gadget.read(8, 8) == 0x0102030405060708


def test_areas_of_memory(gadget: Desk) -> None:
    info = gadget.device.region_info(0)
    assert info.flags == 0xF
    assert info.mappable_areas == (
        vfio_region_sparse_mmap_area(PAGE, PAGE),
        vfio_region_sparse_mmap_area(3 * PAGE, PAGE),
    )
    area = gadget.linux.mmap(gadget.device.fileno(), PAGE, info.offset + PAGE)
    gadget.write(0x2018, 0x55)
    assert area.read(4, 12) == b"\x55\0\0\0"
    area.write(b"mapped", 100)
    assert gadget.device.read_region(0, PAGE + 100, 6) == b"mapped"
    gadget.device.write_region(0, PAGE + 98, b"by hand")
    assert area.read(7, 98) == b"by hand"
    for offset, size in ((0, PAGE), (PAGE, 2 * PAGE), (0, 4 * PAGE)):
        with pytest.raises(OSError, match=os.strerror(EINVAL)):
            gadget.linux.mmap(gadget.device.fileno(), size, info.offset + offset)


def test_a_bar_without_registers_is_memory(gadget: Desk) -> None:
    assert gadget.device.region_info(2).flags == 7
    whole = gadget.device.map_bar(2)
    gadget.device.write_region(2, 0, b"memory")
    assert whole.read(6) == b"memory"


def test_two_registers_at_one_place() -> None:
    with pytest.raises(TypeError, match="two registers at 0x4 of BAR 0"):
        type("Bad", (DeviceModel,), {"a": Register(0, 8), "b": Register(4)})


def test_a_model_inherits() -> None:
    class More(Gadget):
        extra = Register(0x20, initial=3)

    desk = Desk(More.at(ADDRESS, start=0))
    assert (desk.read(0x20), desk.read(0x10), desk.read(0, 2)) == (3, 1, 0x1234)


# -- DMA -------------------------------------------------------------------------------------------


def test_one_device_reaches_the_memory_of_another() -> None:
    """MAP_DMA of a mapped BAR: peer to peer."""
    plain = PciDevice("0000:00:11.0", 0x1234, 1, 0, bars=(Bar(0, PAGE),))
    linux = ModelSyscalls(Kernel(machine_of(Edu.at(ADDRESS), plain), DEFAULT))
    container, groups = Container(linux), [Group(linux, n) for n in (1, 2)]
    for group in groups:
        group.set_container(container)
    container.set_iommu()
    edu, other = groups[0].device(ADDRESS), groups[1].device(plain.address)
    edu.write_config(4, 2, 6)
    bar = other.map_bar(0)
    container.map_dma(bar, IOVA)
    bar.write(b"peer to peer")
    for at, value in ((0x80, IOVA), (0x88, 0x40000), (0x90, 12), (0x98, 1)):
        edu.write_region(0, at, value.to_bytes(4, "little"))
    for at, value in ((0x80, 0x40000), (0x88, IOVA + 64), (0x98, 3)):
        edu.write_region(0, at, value.to_bytes(4, "little"))
    assert other.read_region(0, 64, 12) == b"peer to peer"


def test_what_is_pinned_stays_whatever_the_program_does(gadget: Desk) -> None:
    dma = gadget.kernel.function(ADDRESS).model.dma  # type: ignore[union-attr]
    memory = gadget.linux.mmap(-1, 3 * PAGE)
    gadget.container.map_dma(memory, 0x80_0000)
    memory.write(b"pinned", 2 * PAGE - 3)
    child = gadget.linux.fork()
    gadget.linux.munmap(memory)
    assert dma.read(0x80_0000 + 2 * PAGE - 3, 6) == b"pinned"
    child.at(memory.address, 6).write(b"childs")
    assert dma.read(0x80_0000, 6) == bytes(6)
    gadget.container.unmap_dma(0x80_0000, 3 * PAGE)
    with pytest.raises(DmaFault, match=r"iova 0x800000: nothing is mapped there"):
        dma.read(0x80_0000, 1)


def test_a_transfer_goes_through_mappings_one_after_the_other(gadget: Desk) -> None:
    dma = gadget.kernel.function(ADDRESS).model.dma  # type: ignore[union-attr]
    memory = gadget.linux.mmap(-1, 2 * PAGE)
    gadget.container.map_dma(memory.address + PAGE, 0x80_0000, PAGE)
    gadget.container.map_dma(memory.address, 0x80_0000 + PAGE, PAGE)
    dma.write(0x80_0000 + PAGE - 2, b"abcd")
    assert (memory.read(2, 2 * PAGE - 2), memory.read(2)) == (b"ab", b"cd")
    assert dma.read(0x80_0000 + PAGE - 2, 4) == b"abcd"
    with pytest.raises(DmaFault, match="iova 0x802000"):
        dma.write(0x80_0000 + 2 * PAGE - 2, b"wxyz")
    assert memory.read(2, PAGE - 2) == b"wx"


def test_without_a_context_dma_is_blocked(gadget: Desk) -> None:
    dma = gadget.kernel.function(ADDRESS).model.dma  # type: ignore[union-attr]
    gadget.master(on=False)
    with pytest.raises(DmaFault, match="no bus master"):
        dma.read(IOVA, 1)
    gadget.master(on=True)
    gadget.device.close()
    gadget.group.close()
    gadget.container.close()
    with pytest.raises(DmaFault, match="its group has no IOMMU context"):
        dma.read(IOVA, 1)


# -- storage ---------------------------------------------------------------------------------------


def test_storage_takes_no_memory_before_it_is_written() -> None:
    storage = MemoryStorage(1 << 50)
    assert storage.read((1 << 50) - 9, 9) == bytes(9)
    storage.write((1 << 16) - 2, b"abcd")
    assert storage.read((1 << 16) - 3, 6) == b"\0abcd\0"
    storage.discard((1 << 16) - 1, 1)
    assert storage.read((1 << 16) - 2, 4) == b"a\0cd"
    storage.discard(0, 1 << 50)
    assert storage.read((1 << 16) - 2, 4) == bytes(4)
    storage.flush()
