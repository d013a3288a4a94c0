# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios on the kernel of this computer, in this process.

Rule of this file: what a script opens is its own. This computer's devices and drivers are left
alone, and what no system call shows is not seen.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kvm_vfio.errors import Unsupported
from kvm_vfio.host import HostSyscalls
from kvm_vfio.scenario.hands import Event
from kvm_vfio.syscalls import Buffer, Syscalls

_PAGE = 4096
_PROT_NONE, _PROT_READ = 0, 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_uint64, ctypes.c_size_t, ctypes.c_int)


class HostReferee:
    """The `Referee` of this computer: it provides memory and files, and sees nothing."""

    def __init__(self, syscalls: HostSyscalls) -> None:
        self._sys = syscalls
        self._memory: list[Buffer] = []  # as long as the script may name it

    def events(self) -> Sequence[Event]:
        return ()

    def memory(self, kind: str, data: bytes) -> int:
        pages = self._sys.mmap(-1, 2 * _PAGE)
        self._memory.append(pages)
        at = {
            "rw": 0,
            "ro": 0,
            "odd": 1,
            "pageend": _PAGE - len(data),
            "straddle": _PAGE - len(data) // 2,
            "unmapped": _PAGE,
        }[kind]
        pages.write(data[: max(_PAGE - at, 0)], at)
        _protect(pages.address + _PAGE, _PROT_NONE)
        if kind == "ro":
            _protect(pages.address, _PROT_READ)
        return pages.address + at

    def poke(self, address: int, data: bytes) -> None:
        ctypes.memmove(address, data, len(data))

    def peek(self, address: int, size: int) -> bytes:
        return ctypes.string_at(address, size)

    def pipe(self) -> tuple[int, int]:
        return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def memfd(self) -> int:
        return os.memfd_create("memfd")

    def socket(self) -> int:
        return socket.socket(socket.AF_UNIX).detach()

    def link(self, fd: int) -> str:
        return str(Path(f"/proc/self/fd/{fd}").readlink())

    def group_number(self, address: str) -> int:
        try:
            return int(Path(f"/sys/bus/pci/devices/{address}/iommu_group").readlink().name)
        except OSError:
            raise ValueError(f"there is no device {address} with an IOMMU group here") from None

    def bind(self, address: str, driver: str | None) -> str:
        _left_alone(f"binding {address}")

    def force_coherency(self, fd: int, *, answer: bool | None) -> None:
        _left_alone("force_coh")

    def in_child(self, call: Callable[[Syscalls], int]) -> int:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        child = os.fork()
        if child == 0:
            _answer_and_exit(writer, lambda: call(self._sys))
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        raw = int(answer or -errno.EIO)
        if raw < 0:
            raise OSError(-raw, os.strerror(-raw))
        return raw


def _answer_and_exit(writer: int, call: Callable[[], int]) -> NoReturn:
    """In the child, which never comes back to what its parent was doing."""
    try:
        raw = call()
    except OSError as error:
        raw = -(error.errno or errno.EIO)
    finally:
        os.write(writer, str(raw).encode())
        os._exit(0)


def _protect(address: int, protection: int) -> None:
    if _libc.mprotect(address, _PAGE, protection):
        raise OSError(ctypes.get_errno(), "mprotect")


def _left_alone(what: str) -> NoReturn:
    raise Unsupported(f"{what}: this computer's devices are left alone; run this on a guest.")
