# SPDX-License-Identifier: GPL-2.0-only
"""Caches, line by line: those whose stores are known, and those that are supposed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.client import Kvm
from kvm_vfio.kernel.memory import AddressSpace
from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.kernel.vfio.type1 import DmaMapping
from kvm_vfio.kernel.x86 import supposed
from kvm_vfio.kernel.x86.cache import CpuCaches
from kvm_vfio.kernel.x86.supposed import SupposedCaches
from kvm_vfio.uapi.vfio import VFIO_IOMMU_TYPE1_DMA_MAP
from tests.unit.kernel.pci.desk import ADDRESS, IOVA, Desk

BYTES = st.binary(min_size=1, max_size=200)
AT = st.integers(0, 300)


def mapped() -> DmaMapping:
    """A page of memory at `IOVA`, all 1."""
    mm = AddressSpace()
    region = mm.map(4096)
    mm.write(region.start, b"\1" * 4096)
    wanted = VFIO_IOMMU_TYPE1_DMA_MAP.type(32, 3, region.start, IOVA, 4096)
    return DmaMapping(wanted, mm, region)


@given(st.lists(st.tuples(st.integers(0, 3), AT, BYTES), max_size=8), st.integers(0, 1))
def test_memory_holds_what_was_written_back(
    stores: list[tuple[int, int, bytes]], cache: int
) -> None:
    caches, mapping = CpuCaches(sharing=2), mapped()
    sees, holder = bytearray(b"\1" * 600), {}
    for cpu, at, data in stores:
        caches.store(cpu, mapping.mm, mapping.address(IOVA) + at, data)
        sees[at : at + len(data)] = data
        for line in range(at // 64, (at + len(data) - 1) // 64 + 1):
            holder[line] = cpu // 2
    assert caches.read(mapping, IOVA, 600) == b"\1" * 600
    caches.write_back(2 * cache)
    expected = [sees[n] if holder.get(n // 64, cache) == cache else 1 for n in range(600)]
    assert caches.read(mapping, IOVA, 600) == bytes(expected)
    caches.write_back(2 - 2 * cache)
    assert caches.read(mapping, IOVA, 600) == sees == mapping.read(IOVA, 600)


@given(AT, BYTES, AT, BYTES, st.booleans())
def test_a_device_writes_below_a_dirty_line(
    stored_at: int, stored: bytes, at: int, data: bytes, snoop: bool
) -> None:
    caches, mapping = CpuCaches(), mapped()
    caches.store(0, mapping.mm, mapping.address(IOVA) + stored_at, stored)
    sees = bytearray(mapping.read(IOVA, 600))
    caches.write(mapping, IOVA + at, data, snoop=snoop)
    assert caches.read(mapping, IOVA, 600)[at : at + len(data)] == data
    clean = [n for n in range(at, at + len(data)) if snoop or not _dirty(n, stored_at, stored)]
    for n in clean:
        sees[n] = data[n - at]
    assert mapping.read(IOVA, 600) == sees


def _dirty(n: int, at: int, data: bytes) -> bool:
    return at // 64 <= n // 64 <= (at + len(data) - 1) // 64


def test_what_is_supposed_of_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supposed, "_MOST_PAGES", 1)
    desk = Desk(Edu.at(ADDRESS))
    caches = SupposedCaches(lambda: list(desk.kernel.vms.values()))
    mapping = desk.kernel.iommu_groups[1].translation
    assert mapping is not None
    memory = mapping.translate(IOVA)
    assert memory is not None
    desk.memory.write(b"stored", 4090)
    assert caches.read(memory, IOVA + 4090, 6) == bytes(6)
    caches.write(memory, IOVA + 4094, b"dma", snoop=False)
    assert desk.memory.read(7, 4090) == b"stordma"
    assert caches.read(memory, IOVA + 4096, 1) == b"a"
    device = Kvm(desk.linux).create_vm().create_kvm_vfio()
    device.add(desk.group)
    assert caches.read(memory, IOVA + 4090, 6) == b"stordm"
    caches.write_back(0)
    device.delete(desk.group)
    desk.memory.write(b"again!", 4090)
    assert caches.read(memory, IOVA + 4090, 6) != b"again!"
