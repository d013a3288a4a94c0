# SPDX-License-Identifier: GPL-2.0-only
"""What memory holds while a CPU's cache holds something newer.

Rule of this file: nothing is written back by itself. A real cache evicts lines when it likes, and
hides a missing write-back on most days; this one never does, so that it is always seen.

A CPU's store stays in its cache. Until the line is written back, memory holds what was there
before. DMA that snoops finds the line in the cache; DMA with the No-Snoop attribute, through an
IOMMU that does not force it to snoop, goes past the caches and reads what memory holds. A CPU
writes its lines back when it executes WBINVD.

What a program sees of its memory is what its CPUs see: the caches' content, where they have a line.
A line that is clean in a cache and made stale by a No-Snoop write is not modelled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Mm, Pages

LINE = 64  # bytes


class Mapped(Protocol):
    """Memory as a device reaches it: whose it is, and where it is there."""

    mm: Mm
    pages: Pages

    def address(self, iova: int) -> int:
        """The address that the memory had when it was mapped."""


class Caches(Protocol):
    """What is between a device and the memory: DMA that does not snoop, and DMA that does."""

    def read(self, mapping: Mapped, iova: int, size: int) -> bytes:
        """A read that does not snoop: what memory holds."""

    def write(self, mapping: Mapped, iova: int, data: bytes, *, snoop: bool) -> None:
        """A write of a device."""

    def write_back(self, cpu: int) -> None:
        """WBINVD on `cpu`."""


@dataclass(slots=True)
class Line:
    """A dirty line: in which cache; `memory` is what memory holds in its place."""

    cache: int
    memory: bytearray


class CpuCaches:
    """The caches of CPUs whose every store is known: `store`, by a test that plays the guest.

    `sharing` CPUs have one cache, such as those of a package; None: all of them. WBINVD on one of
    them writes back the whole of it, and no other.
    """

    def __init__(self, sharing: int | None = None) -> None:
        self._sharing = sharing
        self.dirty: dict[tuple[Mm, int], Line] = {}

    def _cache(self, cpu: int) -> int:
        return cpu // self._sharing if self._sharing else 0

    def store(self, cpu: int, mm: Mm, address: int, data: bytes) -> None:
        """`cpu` stores: its cache has the lines from now on, dirty. EFAULT."""
        for at in _lines(address, len(data)):
            line = self.dirty.get((mm, at))
            if line is None:
                self.dirty[mm, at] = Line(self._cache(cpu), bytearray(mm.read(at, LINE)))
            else:
                line.cache = self._cache(cpu)
        mm.write(address, data)

    def write_back(self, cpu: int) -> None:
        """WBINVD on `cpu`: memory holds what its cache held."""
        cache = self._cache(cpu)
        self.dirty = {where: line for where, line in self.dirty.items() if line.cache != cache}

    def read(self, mapping: Mapped, iova: int, size: int) -> bytes:
        """What memory holds: the dirty lines are not in it."""
        address = mapping.address(iova)
        data = bytearray(mapping.pages.read(address, size))
        for at in _lines(address, size):
            line = self.dirty.get((mapping.mm, at))
            if line is not None:
                low, high = max(at, address), min(at + LINE, address + size)
                data[low - address : high - address] = line.memory[low - at : high - at]
        return bytes(data)

    def write(self, mapping: Mapped, iova: int, data: bytes, *, snoop: bool) -> None:
        """A snooped write has a dirty line written back first; another goes into memory alone."""
        address = mapping.address(iova)
        for at in _lines(address, len(data)):
            low, high = max(at, address), min(at + LINE, address + len(data))
            piece = data[low - address : high - address]
            line = self.dirty.get((mapping.mm, at))
            if line is None:
                mapping.pages.write(low, piece)
            elif snoop:
                del self.dirty[mapping.mm, at]
                mapping.pages.write(low, piece)
            else:
                line.memory[low - at : high - at] = piece


def _lines(address: int, size: int) -> Iterator[int]:
    """Where the lines begin that a range touches."""
    return iter(range(address // LINE * LINE, address + size, LINE))
