# SPDX-License-Identifier: GPL-2.0-only
"""Physical Region Pages: where in memory a command's data is (section 4.3).

Rule of this file: it follows PRP entries, and reads no more of a list than the data needs.

PRP1 is where the data begins. What does not fit into that page is, if one page more is enough, at
PRP2; else PRP2 points to a list. A list ends with its page; its last entry then points to the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack

from kvm_vfio.kernel.iommu.dma import DmaFault
from kvm_vfio.kernel.pci.model import Dma
from kvm_vfio.kernel.pci.nvme.spec import Command, Refused, Status

_ENTRY = 8
_DWORD = 4


def read(dma: Dma, command: Command, size: int, page: int) -> bytes:
    """The `size` bytes that the host gives with a command."""
    try:
        return b"".join([dma.read(at, n) for at, n in _runs(dma, command, size, page)])
    except DmaFault:
        raise Refused(Status.DATA_TRANSFER_ERROR) from None


def write(dma: Dma, command: Command, data: bytes, page: int) -> None:
    """Give the host a command's data."""
    try:
        runs = _runs(dma, command, len(data), page)
        done = 0
        for at, size in runs:
            dma.write(at, data[done : done + size])
            done += size
    except DmaFault:
        raise Refused(Status.DATA_TRANSFER_ERROR) from None


def _runs(dma: Dma, command: Command, size: int, page: int) -> list[tuple[int, int]]:
    """The (address, size) of the pieces, pages that follow each other as one."""
    runs: list[tuple[int, int]] = []
    for address, length in _pieces(dma, command, size, page):
        if runs and sum(runs[-1]) == address:
            runs[-1] = runs[-1][0], runs[-1][1] + length
        else:
            runs.append((address, length))
    return runs


def _pieces(dma: Dma, command: Command, size: int, page: int) -> Iterator[tuple[int, int]]:
    if command.prp1 % _DWORD:
        raise Refused(Status.PRP_OFFSET_INVALID)
    first = min(size, page - command.prp1 % page)
    yield command.prp1, first
    left = size - first
    if left > page:
        entries: Iterator[int] = _list(dma, command.prp2, -(-left // page), page)
    else:
        entries = iter([command.prp2] if left else [])
    for entry in entries:
        if entry % page:
            raise Refused(Status.PRP_OFFSET_INVALID)
        yield entry, min(left, page)
        left -= page


def _list(dma: Dma, address: int, count: int, page: int) -> Iterator[int]:
    """`count` entries of the PRP list at `address`."""
    if address % _ENTRY:
        raise Refused(Status.PRP_OFFSET_INVALID)
    while count:
        room = (page - address % page) // _ENTRY
        here = min(count, room)
        entries = unpack(f"<{here}Q", dma.read(address, here * _ENTRY))
        if count > room:
            entries, address = entries[:-1], entries[-1]
            if address % page:
                raise Refused(Status.PRP_OFFSET_INVALID)
        count -= len(entries)
        yield from entries
