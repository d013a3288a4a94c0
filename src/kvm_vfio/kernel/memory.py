# SPDX-License-Identifier: GPL-2.0-only
"""User memory for a caller that lives in this process: mappings at made-up addresses.

Rule of this file: it behaves as x86-64 user memory does, and no more: pages of 4 KiB, holes,
read-only and PROT_NONE pages; an access that touches one bad byte fails as a whole.
"""

from __future__ import annotations

from bisect import bisect_right
from errno import EFAULT, ENOMEM
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError

if TYPE_CHECKING:
    from kvm_vfio.kernel.file import File

PAGE = 4096
_FIRST = 0x7F00_0000_0000  # where mmap begins
_END = 0x7FFF_FFFF_F000  # TASK_SIZE on x86-64 with four levels
_ARENA = 1 << 20


class Region:
    """One mapping: `data` from `start`, which may be written, read, or neither.

    `file` is what a shared mapping was made from, and holds; None for private memory.
    """

    __slots__ = ("data", "end", "file", "readable", "start", "writable")

    def __init__(
        self,
        start: int,
        data: bytearray | memoryview,
        *,
        readable: bool = True,
        writable: bool = True,
        file: File | None = None,
    ) -> None:
        self.start = start
        self.end = start + len(data)
        self.data = memoryview(data)
        self.readable = readable
        self.writable = writable
        self.file = file
        if file is not None:
            file.get()

    def read(self, address: int, size: int) -> bytes:
        """`Pages.read`: what is pinned stays, mapped or not."""
        at = address - self.start
        return self.data[at : at + size].tobytes()

    def write(self, address: int, data: bytes) -> None:
        """`Pages.write`."""
        at = address - self.start
        self.data[at : at + len(data)] = data

    def copy(self) -> Region:
        """What a forked child has at the same place: a mapped file is shared, all else copied."""
        data = bytearray(self.data) if self.file is None else self.data
        return Region(
            self.start, data, readable=self.readable, writable=self.writable, file=self.file
        )


_NOWHERE = Region(0, bytearray(), readable=False, writable=False)


class AddressSpace:
    """Memory that model tasks see as their own (an `Mm`)."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._regions: list[Region] = []
        self._next = _FIRST
        self._arena: Region | None = None
        self._recent = _NOWHERE  # where the last read was: a program's next is often there
        self._used = 0

    def map(
        self, size: int, *, readable: bool = True, writable: bool = True, guard: int = 1
    ) -> Region:
        """mmap fresh zeroed pages, with `guard` unmapped pages after them. ENOMEM."""
        length = -(-size // PAGE) * PAGE
        return self.map_data(bytearray(length), readable=readable, writable=writable, guard=guard)

    def map_data(
        self,
        data: bytearray | memoryview,
        *,
        readable: bool = True,
        writable: bool = True,
        guard: int = 1,
        file: File | None = None,
    ) -> Region:
        """Map memory that is there already, whole pages, at a fresh address. ENOMEM."""
        start = self._next
        if start + len(data) + guard * PAGE > _END:
            raise KernelError(ENOMEM, "the address space is full")
        self._next = start + len(data) + guard * PAGE
        region = Region(start, data, readable=readable, writable=writable, file=file)
        self._starts.append(start)
        self._regions.append(region)
        return region

    def unmap(self, region: Region) -> None:
        """munmap the whole of `region`."""
        at = self._regions.index(region)
        del self._regions[at], self._starts[at]
        self._recent = _NOWHERE
        if region.file is not None:
            region.file.put()

    def copy(self) -> AddressSpace:
        """fork: the same regions at the same addresses."""
        other = AddressSpace()
        other._starts = self._starts.copy()
        other._regions = [region.copy() for region in self._regions]
        other._next = self._next
        return other

    def clear(self) -> None:
        """exit: unmap everything, lowest first."""
        for region in self._regions.copy():
            self.unmap(region)
        self._arena = None

    def allocate(self, size: int) -> tuple[Region, int]:
        """`size` bytes of ordinary program memory, 16-aligned: the region and the address."""
        if size > _ARENA // 4:
            region = self.map(size)
            return region, region.start
        if self._arena is None or self._used + size > _ARENA:
            self._arena, self._used = self.map(_ARENA), 0
        address = self._arena.start + self._used
        self._used += -(-size // 16) * 16
        return self._arena, address

    def find(self, address: int) -> Region | None:
        """The mapping that `address` lies in."""
        at = bisect_right(self._starts, address) - 1
        if at < 0:
            return None
        region = self._regions[at]
        return region if address < region.end else None

    def read(self, address: int, size: int) -> bytes:
        """`Mm.read`."""
        region = self._recent
        if not region.start <= address <= region.end - size or not region.readable:
            return self._read(address, size)
        at = address - region.start
        return region.data[at : at + size].tobytes()

    def _read(self, address: int, size: int) -> bytes:
        region = self.find(address)
        if region is None or not region.readable:
            raise KernelError(EFAULT, f"address {address:#x} is not readable")
        at = address - region.start
        data = region.data[at : at + size]
        if len(data) < size:
            return data.tobytes() + self._read(region.end, size - len(data))
        self._recent = region
        return data.tobytes()

    def write(self, address: int, data: bytes) -> None:
        """`Mm.write`."""
        region, size = self._recent, len(data)
        if not region.start <= address <= region.end - size or not region.writable:
            self._write(address, data)
            return
        at = address - region.start
        region.data[at : at + size] = data

    def _write(self, address: int, data: bytes) -> None:
        region = self.find(address)
        if region is None or not region.writable:
            raise KernelError(EFAULT, f"address {address:#x} is not writable")
        room = region.end - address
        if room < len(data):
            self.write(region.end, data[room:])
        at = address - region.start
        region.data[at : at + min(room, len(data))] = data[:room]

    def read_string(self, address: int, limit: int) -> bytes:
        """`Mm.read_string`."""
        text = bytearray()
        while len(text) < limit:
            chunk = min(limit - len(text), PAGE - (address + len(text)) % PAGE)
            part, found, _ = self.read(address + len(text), chunk).partition(b"\0")
            text += part
            if found:
                break
        return bytes(text)

    def pin(self, address: int, size: int, *, write: bool) -> Region | Regions | None:
        """`Mm.pin`."""
        end, regions = address + size, []
        while address < end:
            region = self.find(address)
            if region is None or not (region.writable if write else region.readable):
                return None
            regions.append(region)
            address = region.end
        return regions[0] if len(regions) == 1 else Regions(regions)


class Regions:
    """Regions that follow each other, as `Pages`."""

    __slots__ = ("_regions",)

    def __init__(self, regions: list[Region]) -> None:
        self._regions = regions

    def read(self, address: int, size: int) -> bytes:
        """`Pages.read`."""
        end = address + size
        return b"".join(
            region.read(low, high - low)
            for region in self._regions
            if (low := max(address, region.start)) < (high := min(end, region.end))
        )

    def write(self, address: int, data: bytes) -> None:
        """`Pages.write`."""
        end = address + len(data)
        for region in self._regions:
            low, high = max(address, region.start), min(end, region.end)
            if low < high:
                region.write(low, data[low - address : high - address])
