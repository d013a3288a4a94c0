# SPDX-License-Identifier: GPL-2.0-only
"""Syscalls on the running kernel, made by this Python process.

Rule of this file: nothing stands between caller and kernel but what Python needs. An ioctl goes
through `fcntl`, which is fast; what that does not pass on (a negative fd, a large number) goes
through the C library, so that it is always Linux that answers.

`fcntl.ioctl` hands the kernel a copy of a buffer of up to 1,024 bytes and copies it back: the
kernel sees the bytes at another address than `Buffer.address`, and must not be led to write past
their end. What a structure points to is not copied.
"""

from __future__ import annotations

import ctypes
import os
from fcntl import ioctl as _fcntl_ioctl

from kvm_vfio.syscalls import Buffer, MemoryBuffer
from kvm_vfio.uapi.layout import Request

_C_INT_MAX = 0x7FFF_FFFF  # the largest argument that `fcntl.ioctl` takes as a number
_ADDRESS = (1 << 64) - 1
_PROT_READ, _PROT_WRITE = 1, 2
_MAP_SHARED, _MAP_PRIVATE, _MAP_ANONYMOUS = 0x01, 0x02, 0x20
_MAP_FAILED = _ADDRESS

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_uint64)
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.mmap.restype = ctypes.c_uint64
_libc.munmap.argtypes = (ctypes.c_uint64, ctypes.c_size_t)


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


class HostSyscalls:
    """The Linux of this computer, as this process may use it."""

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def dup(self, fd: int) -> int:
        return os.dup(fd)

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        try:
            if isinstance(arg, MemoryBuffer) and fd >= 0:
                result: int = _fcntl_ioctl(fd, request, arg.memory)
                return result
            return _ioctl(fd, request, arg if isinstance(arg, int) else arg.address)
        except OSError as error:
            name = request.name if isinstance(request, Request) else f"ioctl {request:#x}"
            error.add_note(f"{name}: fd {fd}, Linux {_RELEASE}")
            raise

    def read(self, fd: int, size: int) -> bytes:
        return os.read(fd, size)

    def write(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def mmap(self, fd: int, size: int, offset: int = 0, *, writable: bool = True) -> MemoryBuffer:
        """mmap(2), not through Python's own, which keeps a dup of the fd open."""
        protection = _PROT_READ | (_PROT_WRITE if writable else 0)
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS if fd == -1 else _MAP_SHARED
        address = _libc.mmap(None, size, protection, flags, fd, offset)
        if address == _MAP_FAILED:
            raise _last_error()
        memory = memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")
        return MemoryBuffer(address, memory if writable else memory.toreadonly(), _MAPPED)

    def munmap(self, buffer: Buffer) -> None:
        """munmap(2). ValueError for a buffer that `mmap` did not return, or that is unmapped."""
        if not isinstance(buffer, MemoryBuffer) or buffer.owner is not _MAPPED:
            raise ValueError("only what mmap returned is unmapped, and once")
        size, buffer.owner = len(buffer), None
        buffer.memory.release()
        if _libc.munmap(buffer.address, size):
            raise _last_error()

    def eventfd(self, initial: int = 0) -> int:
        return os.eventfd(initial, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def buffer(self, size: int) -> MemoryBuffer:
        memory = (ctypes.c_ubyte * size)()
        return MemoryBuffer(ctypes.addressof(memory), memoryview(memory).cast("B"), memory)


_MAPPED = object()  # the owner of what `mmap` returned
_RELEASE = os.uname().release


def _ioctl(fd: int, request: int, arg: int) -> int:
    if fd >= 0 and 0 <= arg <= _C_INT_MAX:
        small: int = _fcntl_ioctl(fd, request, arg)
        return small
    result: int = _libc.ioctl(fd, request & 0xFFFF_FFFF, arg & _ADDRESS)
    if result < 0:
        raise _last_error()
    return result
