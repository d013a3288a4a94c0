# SPDX-License-Identifier: GPL-2.0-only
"""The waist: the few system calls these devices need, and the caller's memory.

Everything that calls (client, scenarios, a supervised program) works over everything that answers
(the model, this machine's Linux, a real Linux in QEMU), because this is all that passes between.
"""

from __future__ import annotations

from typing import Protocol


class Buffer(Protocol):
    """A piece of the caller's memory, of fixed size, at an address that a structure can name."""

    @property
    def address(self) -> int:
        """The user-space address of the first byte (64 bits)."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        """`size` bytes (default: all that follow) from `offset`."""

    def write(self, data: bytes, offset: int = 0) -> None:
        """Put `data` at `offset`; ValueError when it does not fit."""


class MemoryBuffer:
    """A `Buffer` over memory that this process itself can reach, known elsewhere by `address`.

    `memory` is flat and of bytes; `owner` is what must live as long. Once its memory is unmapped,
    reading and writing are ValueError.
    """

    __slots__ = ("address", "memory", "owner")

    def __init__(self, address: int, memory: memoryview, owner: object = None) -> None:
        self.address = address
        self.memory = memory
        self.owner = owner

    def __len__(self) -> int:
        return len(self.memory)

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        """`Buffer.read`."""
        return bytes(self.memory[offset:] if size < 0 else self.memory[offset : offset + size])

    def write(self, data: bytes, offset: int = 0) -> None:
        """`Buffer.write`."""
        self.memory[offset : offset + len(data)] = data  # a memoryview never grows: ValueError


class Syscalls(Protocol):
    """One process's view of one kernel. Where Linux returns -errno, every method raises OSError."""

    def open(self, path: str, flags: int) -> int:
        """open(2). `flags` are Linux's O_* bits. Returns the new fd."""

    def close(self, fd: int) -> None:
        """close(2)."""

    def dup(self, fd: int) -> int:
        """dup(2): another number for the same open file description."""

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        """ioctl(2). `request` is taken modulo 2**32; for a Buffer its address is passed."""

    def read(self, fd: int, size: int) -> bytes:
        """read(2)."""

    def write(self, fd: int, data: bytes) -> int:
        """write(2)."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """pread(2)."""

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        """pwrite(2)."""

    def mmap(self, fd: int, size: int, offset: int = 0, *, writable: bool = True) -> Buffer:
        """mmap(2) MAP_SHARED of a file; fd -1 maps fresh anonymous memory."""

    def munmap(self, buffer: Buffer) -> None:
        """munmap(2) of all that one `mmap` returned."""

    def eventfd(self, initial: int = 0) -> int:
        """eventfd2(2), EFD_NONBLOCK: reading one that nobody has signalled is EAGAIN."""

    def buffer(self, size: int) -> Buffer:
        """`size` zeroed bytes of the caller's own memory."""
