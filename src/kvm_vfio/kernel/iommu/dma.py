# SPDX-License-Identifier: GPL-2.0-only
"""DMA: how a device reads and writes memory, through the translation of its group.

Rule of this file: a device names iovas and nothing else. What it may reach, the IOMMU says, page by
page; what it reaches are the pages that were pinned when they were mapped.

A transfer goes through one mapping after the other. Where it faults, what came before has happened.

A device may ask that its DMA need not snoop the CPU caches. Where the IOMMU does not force it to,
and the caches are modelled, it then meets what memory holds (`kvm_vfio.kernel.x86.cache`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from kvm_vfio.kernel.error import KernelError

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import IommuGroup, PciFunction
    from kvm_vfio.kernel.task import Mm, Pages
    from kvm_vfio.kernel.x86.cache import Caches


class DmaFault(Exception):
    """The IOMMU refused an access at `iova`; `why` is a clause for people."""

    def __init__(self, iova: int, why: str) -> None:
        super().__init__(f"iova {iova:#x}: {why}")
        self.iova = iova
        self.why = why


class Translated(Protocol):
    """A run of iovas that are mapped as one: `size` bytes from `start`."""

    start: int
    size: int
    mm: Mm
    pages: Pages

    @property
    def readable(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def address(self, iova: int) -> int: ...
    def read(self, iova: int, size: int) -> bytes: ...
    def write(self, iova: int, data: bytes) -> None: ...


class Translation(Protocol):
    """An IOMMU's page tables, as far as a device is concerned."""

    def translate(self, iova: int) -> Translated | None:
        """What is mapped at `iova`; None for nothing."""

    def snoops(self, iommu_group: IommuGroup) -> bool:
        """Whether it makes all DMA of the group snoop."""


def read(function: PciFunction, iova: int, size: int, *, no_snoop: bool) -> bytes:
    """What a device reads. DmaFault."""
    caches, snoop = _caches(function, no_snoop=no_snoop)
    pieces = []
    for mapping, at, length in _pieces(function.iommu_group, iova, size):
        if not mapping.readable:
            raise DmaFault(at, "it is mapped for writing only")
        try:
            data = mapping.read(at, length)
            if caches is not None and not snoop:
                data = _from_memory(function, caches.read(mapping, at, length), data, at)
        except KernelError as error:
            raise DmaFault(at, error.why) from error
        pieces.append(data)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _from_memory(function: PciFunction, memory: bytes, cached: bytes, iova: int) -> bytes:
    """What memory holds, told where the caches hold something newer."""
    if memory != cached:
        function.iommu_group.kernel.observer.stale_dma(function, iova)
    return memory


def write(function: PciFunction, iova: int, data: bytes, *, no_snoop: bool) -> None:
    """A device writes. DmaFault."""
    caches, snoop = _caches(function, no_snoop=no_snoop)
    for mapping, at, length in _pieces(function.iommu_group, iova, len(data)):
        if not mapping.writable:
            raise DmaFault(at, "it is mapped for reading only")
        piece = data[at - iova : at - iova + length]
        try:
            if caches is None:
                mapping.write(at, piece)
            else:
                caches.write(mapping, at, piece, snoop=snoop)
        except KernelError as error:
            raise DmaFault(at, error.why) from error


def _caches(function: PciFunction, *, no_snoop: bool) -> tuple[Caches | None, bool]:
    """The caches that are modelled, and whether this DMA snoops them."""
    iommu_group = function.iommu_group
    caches = iommu_group.kernel.caches
    if caches is None or not no_snoop:
        return caches, True
    translation = iommu_group.translation
    return caches, translation is not None and translation.snoops(iommu_group)


def _pieces(iommu_group: IommuGroup, iova: int, size: int) -> Iterable[tuple[Translated, int, int]]:
    """The (mapping, iova, size) that a transfer consists of. DmaFault."""
    translation = iommu_group.translation
    if translation is None:
        raise DmaFault(iova, "its group has no IOMMU context, and blocked DMA")
    mapping = translation.translate(iova)
    if mapping is not None and iova + size <= mapping.start + mapping.size:
        return ((mapping, iova, size),)
    return _many_pieces(translation, iova, size)


def _many_pieces(
    translation: Translation, iova: int, size: int
) -> Iterator[tuple[Translated, int, int]]:
    end = iova + size
    while iova < end:
        mapping = translation.translate(iova)
        if mapping is None:
            raise DmaFault(iova, "nothing is mapped there")
        length = min(end, mapping.start + mapping.size) - iova
        yield mapping, iova, length
        iova += length
