# SPDX-License-Identifier: GPL-2.0-only
"""What a script needs of a kernel: calls on handles, memory, and what no system call shows.

Rule of this file: it names the needs. A call is made in its turn, but its answer may come later,
with the answers of many others: a real kernel in QEMU makes thousands of calls while one message
travels. So nothing here returns an fd; handles are kept on the side where the files are.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class Fd(NamedTuple):
    """The fd that the handle has when the call is made; -1 when it has none."""

    handle: str


class ClosedFd(NamedTuple):
    """An fd number that is not open."""


Content = Sequence[bytes | Fd | ClosedFd]
"""What is put into memory: bytes, and fds as ints."""


class Answer:
    """What a call returned, once `Hands.flush` has been called."""

    __slots__ = ("data", "error", "raw")

    def __init__(self, raw: int = 0, data: bytes = b"", error: OSError | None = None) -> None:
        self.raw = raw  # the result, or -errno
        self.data = data
        self.error = error  # what Linux's -errno was raised as, if it was

    @property
    def result(self) -> int:
        """The result; where Linux returned -errno, OSError."""
        if self.raw < 0:
            raise self.error or OSError(-self.raw, os.strerror(-self.raw))
        return self.raw


class Event(NamedTuple):
    """Something a probe saw: its name, and the VM it concerns by an identity of its own.

    `vm` is None for an event without one; `answer` is coherency's, or "NULL" for set_kvm.
    """

    name: str
    vm: int | None = None
    answer: str = ""


class Events:
    """What the probes saw, once `Hands.flush` has been called."""

    __slots__ = ("seen",)

    def __init__(self, seen: Sequence[Event] = ()) -> None:
        self.seen = seen


class Hands(Protocol):
    """One process on one kernel, and the referee beside it.

    A method with `handle` or `into` gives that handle the new fd, and then closes what it had; when
    the call fails, the handle has none.
    """

    ahead: int
    """How many operations may go on before their answers are there."""

    sees_effects: bool
    """Whether `events` can know anything."""

    def flush(self) -> None:
        """Let every answer be there."""

    def open(self, handle: str, path: str, flags: int) -> Answer: ...
    def dup(self, handle: str, old: str) -> Answer: ...
    def eventfd(self, handle: str) -> Answer: ...
    def memfd(self, handle: str) -> Answer: ...
    def socket(self, handle: str) -> Answer: ...
    def pipe(self, reader: str, writer: str) -> Answer: ...
    def close(self, handle: str) -> Answer: ...
    def close_all(self) -> None:
        """Close every handle, newest first, and forget the names."""

    def ioctl(self, handle: str, request: int, arg: int | Fd, into: str | None = None) -> Answer:
        """ioctl(2); with `into`, one that returns an fd."""

    def ioctl_with_fd(
        self, handle: str, request: int, arg: int, *, fd_at: int, unless: int, into: str
    ) -> FdInMemory:
        """An ioctl that leaves a new fd at an address: `into` gets it.

        There is none when the call failed, or when the int there is still `unless`.
        """

    def read(self, handle: str, size: int) -> Answer: ...
    def write(self, handle: str, data: bytes) -> Answer: ...
    def settle(self) -> None:
        """Let the kernel do what it has put off, such as an interrupt that an eventfd raises."""

    def map_page(self, handle: str) -> Answer:
        """mmap(2) of the first page of a file, shared."""

    def memory(self, kind: str, content: Content) -> int:
        """The address of memory of a kind: rw, ro, odd, pageend, straddle (half there), unmapped.

        It is valid for the operation that asks.
        """

    def fresh(self, size: int) -> int:
        """The address of so many bytes of new anonymous memory, page aligned."""

    def poke(self, address: int, data: bytes) -> None:
        """Write memory that `memory` gave."""

    def peek(self, address: int, size: int) -> Answer:
        """Read memory."""

    def events(self) -> Events:
        """What happened since the last question."""

    def group_number(self, address: str) -> int:
        """The IOMMU group of a device."""

    def bind(self, address: str, driver: str | None) -> Answer:
        """Bind or unbind; `data` is the driver that holds the device then."""

    def force_coherency(self, handle: str, *, answer: bool | None) -> Answer: ...
    def child_close_exit(self) -> Answer: ...
    def in_child(self) -> AbstractContextManager[None]:
        """Each `ioctl`, `read`, `write` and `map_page` within is a forked child's, which exits."""


class FdInMemory(NamedTuple):
    """An ioctl's result, the 4 bytes where an fd may be, and what /proc/self/fd says of that."""

    result: Answer
    there: Answer
    link: Answer
