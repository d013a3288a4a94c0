# SPDX-License-Identifier: GPL-2.0-only
"""DMA: how a device reads and writes memory, through the translation of its group.

Rule of this file: a device names iovas and nothing else. What it may reach, the IOMMU says, page by
page; what it reaches are the pages that were pinned when they were mapped.

A transfer goes through one mapping after the other. Where it faults, what came before has happened.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from kvm_vfio.kernel.error import KernelError

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import IommuGroup


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

    @property
    def readable(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def read(self, iova: int, size: int) -> bytes: ...
    def write(self, iova: int, data: bytes) -> None: ...


class Translation(Protocol):
    """An IOMMU's page tables, as far as a device is concerned."""

    def translate(self, iova: int) -> Translated | None:
        """What is mapped at `iova`; None for nothing."""


def read(iommu_group: IommuGroup, iova: int, size: int) -> bytes:
    """What a device of the group reads. DmaFault."""
    pieces = []
    for mapping, at, length in _pieces(iommu_group, iova, size):
        if not mapping.readable:
            raise DmaFault(at, "it is mapped for writing only")
        try:
            pieces.append(mapping.read(at, length))
        except KernelError as error:
            raise DmaFault(at, error.why) from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def write(iommu_group: IommuGroup, iova: int, data: bytes) -> None:
    """A device of the group writes. DmaFault."""
    for mapping, at, length in _pieces(iommu_group, iova, len(data)):
        if not mapping.writable:
            raise DmaFault(at, "it is mapped for reading only")
        try:
            mapping.write(at, data[at - iova : at - iova + length])
        except KernelError as error:
            raise DmaFault(at, error.why) from error


def _pieces(iommu_group: IommuGroup, iova: int, size: int) -> Iterator[tuple[Translated, int, int]]:
    """The (mapping, iova, size) that a transfer consists of. DmaFault."""
    translation = iommu_group.translation
    if translation is None:
        raise DmaFault(iova, "its group has no IOMMU context, and blocked DMA")
    end = iova + size
    while iova < end:
        mapping = translation.translate(iova)
        if mapping is None:
            raise DmaFault(iova, "nothing is mapped there")
        length = min(end, mapping.start + mapping.size) - iova
        yield mapping, iova, length
        iova += length
