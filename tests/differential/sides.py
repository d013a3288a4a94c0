# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels to compare, and one program on each that can do the same odd things.

Each side is a `Syscalls` with what lies beside the waist: other kinds of file, memory of every
kind, a forked child, the list of open fds.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from kvm_vfio.client.in_process import ModelSyscalls
from kvm_vfio.host import HostSyscalls
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.syscalls import MemoryBuffer, Syscalls
from kvm_vfio.uapi.fcntl import O_PATH, O_RDONLY, O_RDWR

Outcome = int | str
"""What a call gave: a number, "fd", or an errno by its name."""

NOT_MEMORY = {
    "null": 0,
    "bad": 0x1000,
    "noncanonical": 0x8000_0000_0000_0000,
    "kernel": 0xFFFF_FFFF_8100_0000,
    "max": (1 << 64) - 1,
}
MEMORY = ("rw", "ro", "odd", "page end", "straddle", "unmapped")
OTHER_FILES = ("null", "file", "directory", "path", "pipe", "eventfd", "memfd", "socket")


def outcome(call: Callable[[], Outcome]) -> Outcome:
    """What `call` gives, an errno as its name."""
    try:
        return call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def close(syscalls: Syscalls, fd: int) -> Outcome:
    """close(2) as a call with an outcome."""
    syscalls.close(fd)
    return 0


class Side(Protocol):
    """One kernel, and a program on it."""

    @property
    def syscalls(self) -> Syscalls: ...

    def memory(self, kind: str, data: bytes) -> int:
        """The address of `data` in memory of a kind; see `place`."""

    def look(self, address: int, size: int) -> bytes:
        """What is at an address that `memory` gave for a readable kind."""

    def open_other(self, kind: str) -> int:
        """An fd of a file that is none of KVM's."""

    def lseek(self, fd: int) -> int: ...

    def in_child(self, call: Callable[[Syscalls], Outcome]) -> Outcome:
        """The outcome of `call` in a forked child, which exits then."""

    def fds(self) -> set[int]:
        """Every fd that is open."""

    def forget_memory(self) -> None:
        """Unmap all that `memory` gave."""


def place(kind: str, size: int) -> int:
    """The offset, in a page that is followed by an unmapped one, at which `size` bytes begin."""
    return {"odd": 1, "page end": PAGE - size, "straddle": PAGE - size // 2}.get(kind, 0)


def _open_simple(syscalls: Syscalls, kind: str) -> int:
    if kind == "eventfd":
        return syscalls.eventfd()
    path, flags = {
        "null": ("/dev/null", O_RDWR),
        "file": (__file__, O_RDONLY),
        "directory": ("/tmp", O_RDONLY | os.O_DIRECTORY),
        "path": ("/dev/null", O_PATH),
    }[kind]
    return syscalls.open(path, flags)


class ModelSide:
    """A model kernel."""

    def __init__(self, syscalls: ModelSyscalls) -> None:
        self.syscalls = syscalls

    def memory(self, kind: str, data: bytes) -> int:
        region = self.syscalls.mm.map(PAGE)
        at = place(kind, len(data))
        there = data[: PAGE - at]
        region.data[at : at + len(there)] = there
        region.readable = kind != "unmapped"
        region.writable = kind not in ("unmapped", "ro")
        return region.start + at

    def look(self, address: int, size: int) -> bytes:
        return self.syscalls.mm.read(address, size)

    def open_other(self, kind: str) -> int:
        if kind == "pipe":
            reader, writer = self.syscalls.pipe()
            self.syscalls.close(writer)
            return reader
        if kind == "memfd":
            return self.syscalls.memfd()
        if kind == "socket":
            return self.syscalls.socket()
        return _open_simple(self.syscalls, kind)

    def lseek(self, fd: int) -> int:
        return self.syscalls.lseek(fd, 1)

    def in_child(self, call: Callable[[Syscalls], Outcome]) -> Outcome:
        child = self.syscalls.fork()
        result = outcome(lambda: call(child))
        child.exit()
        return result

    def fds(self) -> set[int]:
        return set(self.syscalls.files.numbers())

    def forget_memory(self) -> None:
        self.syscalls.mm.clear()


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int)
_PROTECTION = {"ro": 1, "unmapped": 0}  # PROT_READ, PROT_NONE


def _protect(address: int, protection: int) -> None:
    if _libc.mprotect(address, PAGE, protection):
        raise OSError(ctypes.get_errno(), "mprotect")


class HostSide:
    """The kernel of this computer."""

    def __init__(self) -> None:
        self.syscalls = HostSyscalls()
        self._pages: list[MemoryBuffer] = []

    def memory(self, kind: str, data: bytes) -> int:
        pages = self.syscalls.mmap(-1, 2 * PAGE)
        at = place(kind, len(data))
        pages.write(data, at)
        self._pages.append(pages)
        _protect(pages.address + PAGE, 0)
        if kind in _PROTECTION:
            _protect(pages.address, _PROTECTION[kind])
        return pages.address + at

    def look(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def open_other(self, kind: str) -> int:
        if kind == "pipe":
            reader, writer = os.pipe()
            os.close(writer)
            return reader
        if kind == "memfd":
            return os.memfd_create("kvm-vfio")
        if kind == "socket":
            return socket.socket().detach()
        return _open_simple(self.syscalls, kind)

    def lseek(self, fd: int) -> int:
        return os.lseek(fd, 1, os.SEEK_SET)

    def in_child(self, call: Callable[[Syscalls], Outcome]) -> Outcome:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            text = "the child raised"
            try:
                text = repr(outcome(lambda: call(self.syscalls)))
            finally:
                os.write(writer, text.encode())
                os._exit(0)
        os.close(writer)
        text = os.read(reader, PAGE).decode()
        os.close(reader)
        os.waitpid(child, 0)
        return int(text) if text.lstrip("-").isdecimal() else text.strip("'")

    def fds(self) -> set[int]:
        found = {int(name) for name in os.listdir("/proc/self/fd")}
        return {fd for fd in found if _is_open(fd)}  # listing opened one of its own

    def forget_memory(self) -> None:
        for pages in self._pages:
            self.syscalls.munmap(pages)
        self._pages.clear()


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
