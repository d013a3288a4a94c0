# SPDX-License-Identifier: GPL-2.0-only
"""Where a device keeps data: bytes that outlive resets.

Rule of this file: what is here is memory. A file on the computer has the same interface and comes
from outside of the model (`kvm_vfio.machine.storage`).
"""

from __future__ import annotations

from typing import Protocol

_CHUNK = 1 << 16


class Storage(Protocol):
    """`size` bytes. Every access is within them; each may raise `StorageError`."""

    size: int

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on."""

    def write(self, offset: int, data: bytes) -> None:
        """Put `data` at `offset`."""

    def discard(self, offset: int, size: int) -> None:
        """The bytes are not needed any more, and read as 0 from here on."""

    def flush(self) -> None:
        """Whatever was written is durable when this returns."""


class MemoryStorage:
    """Storage that lasts as long as its kernel. What was never written takes no memory."""

    __slots__ = ("_chunks", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self._chunks: dict[int, bytearray] = {}

    def read(self, offset: int, size: int) -> bytes:
        """`Storage.read`."""
        pieces = []
        for number, at, length in _pieces(offset, size):
            chunk = self._chunks.get(number)
            pieces.append(bytes(length) if chunk is None else bytes(chunk[at : at + length]))
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, offset: int, data: bytes) -> None:
        """`Storage.write`."""
        done = 0
        for number, at, length in _pieces(offset, len(data)):
            chunk = self._chunks.get(number)
            if chunk is None:
                chunk = self._chunks[number] = bytearray(_CHUNK)
            chunk[at : at + length] = data[done : done + length]
            done += length

    def discard(self, offset: int, size: int) -> None:
        """`Storage.discard`."""
        for number, chunk in list(self._chunks.items()):
            start = number * _CHUNK
            low, high = max(offset - start, 0), min(offset + size - start, _CHUNK)
            if high - low == _CHUNK:
                del self._chunks[number]
            elif low < high:
                chunk[low:high] = bytes(high - low)

    def flush(self) -> None:
        """`Storage.flush`."""


def _pieces(offset: int, size: int) -> list[tuple[int, int, int]]:
    """(chunk, offset in it, size) of each part."""
    pieces = []
    end = offset + size
    while offset < end:
        number, at = divmod(offset, _CHUNK)
        length = min(_CHUNK - at, end - offset)
        pieces.append((number, at, length))
        offset += length
    return pieces
