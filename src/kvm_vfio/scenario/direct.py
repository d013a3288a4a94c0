# SPDX-License-Identifier: GPL-2.0-only
"""Hands over any `Syscalls` that answers at once, with a referee beside it.

Rule of this file: every answer is there when the call returns, so nothing is ever flushed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from errno import EBADF
from typing import Protocol

from kvm_vfio.scenario.hands import Answer, ClosedFd, Content, Event, Events, Fd, FdInMemory
from kvm_vfio.syscalls import Syscalls

_PAGE = 4096


class Referee(Protocol):
    """What no system call of the waist shows or does, on a kernel whose process this one is."""

    def events(self) -> Sequence[Event]:
        """What happened since the last question."""

    def memory(self, kind: str, data: bytes) -> int:
        """The address of `data` in memory of a kind: rw, ro, odd, pageend, straddle, unmapped."""

    def poke(self, address: int, data: bytes) -> None:
        """Write memory that `memory` gave."""

    def peek(self, address: int, size: int) -> bytes:
        """Read memory that `memory` gave."""

    def pipe(self) -> tuple[int, int]: ...
    def memfd(self) -> int: ...
    def socket(self) -> int: ...
    def link(self, fd: int) -> str:
        """What /proc/self/fd/N points to."""

    def group_number(self, address: str) -> int:
        """The IOMMU group of the device."""

    def bind(self, address: str, driver: str | None) -> str:
        """Bind or unbind; the driver that holds the device then, "" for none."""

    def force_coherency(self, fd: int, *, answer: bool | None) -> None: ...
    def in_child(self, call: Callable[[Syscalls], int]) -> int:
        """Fork a child that does this with its own process, and exits: the result, or OSError."""


class DirectHands:
    """Handles are fds in a dictionary, in the order of their opening."""

    ahead = 1

    def __init__(self, syscalls: Syscalls, referee: Referee, *, sees_effects: bool = True) -> None:
        self.sees_effects = sees_effects
        self._sys = syscalls
        self._in_child = False
        self._referee = referee
        self._fds: dict[str, int] = {}

    def flush(self) -> None:
        """Every answer is there already."""

    # -- files -------------------------------------------------------------------------------------

    def open(self, handle: str, path: str, flags: int) -> Answer:
        return self._make(handle, lambda: self._sys.open(path, flags))

    def dup(self, handle: str, old: str) -> Answer:
        return self._make(handle, lambda: self._sys.dup(self._fd(old)))

    def eventfd(self, handle: str) -> Answer:
        return self._make(handle, self._sys.eventfd)

    def memfd(self, handle: str) -> Answer:
        return self._make(handle, self._referee.memfd)

    def socket(self, handle: str) -> Answer:
        return self._make(handle, self._referee.socket)

    def pipe(self, reader: str, writer: str) -> Answer:
        ends = self._referee.pipe()
        for handle, fd in zip((reader, writer), ends, strict=True):
            self._take(handle, fd)
        return Answer()

    def close(self, handle: str) -> Answer:
        fd = self._fds.pop(handle, -1)

        def call() -> int:
            self._sys.close(fd)
            return 0

        return _answer(call)

    def close_all(self) -> None:
        for handle in reversed(list(self._fds)):
            self._sys.close(self._fds.pop(handle))

    def ioctl(self, handle: str, request: int, arg: int | Fd, into: str | None = None) -> Answer:
        fd = self._fd(handle)
        value = self._fd(arg.handle) if isinstance(arg, Fd) else arg

        if into is not None:
            return self._make(into, lambda: self._sys.ioctl(fd, request, value))
        return self._call(lambda process: process.ioctl(fd, request, value))

    def ioctl_with_fd(
        self, handle: str, request: int, arg: int, *, fd_at: int, unless: int, into: str
    ) -> FdInMemory:
        result = self.ioctl(handle, request, arg)
        there = self.peek(fd_at, 4)
        fd = int.from_bytes(there.data, "little")
        if result.raw < 0 or fd == unless:
            return FdInMemory(result, there, Answer())
        self._take(into, fd)
        return FdInMemory(result, there, Answer(0, self._referee.link(fd).encode()))

    def read(self, handle: str, size: int) -> Answer:
        fd = self._fd(handle)
        return self._call(lambda process: len(process.read(fd, size)))

    def write(self, handle: str, data: bytes) -> Answer:
        fd = self._fd(handle)
        return self._call(lambda process: process.write(fd, data))

    def settle(self) -> None:
        """Nothing is put off: a model has no workers."""

    def map_page(self, handle: str) -> Answer:
        fd = self._fd(handle)
        if fd < 0:  # which the waist takes for fresh memory
            return Answer(-EBADF)
        return self._call(lambda process: process.mmap(fd, _PAGE).address)

    # -- memory ------------------------------------------------------------------------------------

    def memory(self, kind: str, content: Content) -> int:
        return self._referee.memory(kind, b"".join(map(self._bytes, content)))

    def _bytes(self, part: bytes | Fd | ClosedFd) -> bytes:
        if isinstance(part, bytes):
            return part
        fd = self._fd(part.handle) if isinstance(part, Fd) else self._closed_fd()
        return fd.to_bytes(4, "little", signed=True)

    def _closed_fd(self) -> int:
        fd = self._sys.eventfd()
        self._sys.close(fd)
        return fd

    def fresh(self, size: int) -> int:
        return self._sys.mmap(-1, -(-size // _PAGE) * _PAGE).address

    def poke(self, address: int, data: bytes) -> None:
        self._referee.poke(address, data)

    def peek(self, address: int, size: int) -> Answer:
        return Answer(size, self._referee.peek(address, size))

    # -- the referee's hand ------------------------------------------------------------------------

    def events(self) -> Events:
        return Events(self._referee.events())

    def group_number(self, address: str) -> int:
        return self._referee.group_number(address)

    def bind(self, address: str, driver: str | None) -> Answer:
        return Answer(0, self._referee.bind(address, driver).encode())

    def force_coherency(self, handle: str, *, answer: bool | None) -> Answer:
        def call() -> int:
            self._referee.force_coherency(self._fd(handle), answer=answer)
            return 0

        return _answer(call)

    def child_close_exit(self) -> Answer:
        self._referee.in_child(lambda _process: 0)
        return Answer()

    @contextmanager
    def in_child(self) -> Iterator[None]:
        self._in_child = True
        try:
            yield
        finally:
            self._in_child = False

    def _call(self, call: Callable[[Syscalls], int]) -> Answer:
        if self._in_child:
            return _answer(lambda: self._referee.in_child(call))
        return _answer(lambda: call(self._sys))

    # -- handles -----------------------------------------------------------------------------------

    def _fd(self, handle: str) -> int:
        return self._fds.get(handle, -1)

    def _make(self, handle: str, call: Callable[[], int]) -> Answer:
        answer = _answer(call)
        self._take(handle, answer.raw)
        return answer

    def _take(self, handle: str, fd: int) -> None:
        """Give `handle` the fd, none when it is negative; then close what it had."""
        old = self._fds.pop(handle, -1)
        if fd >= 0:
            self._fds[handle] = fd
        if old >= 0:
            self._sys.close(old)


def _answer(call: Callable[[], int]) -> Answer:
    try:
        return Answer(call())
    except OSError as error:
        return Answer(-(error.errno or 0), error=error)
