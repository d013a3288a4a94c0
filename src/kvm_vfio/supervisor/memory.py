# SPDX-License-Identifier: GPL-2.0-only
"""A program's memory: the `Mm` of the model over process_vm_readv(2) and /proc/PID/maps.

Rule of this file: what the program could not do itself, this cannot do either. /proc/PID/mem would
be quicker by a microsecond, and reads what is PROT_NONE and writes what is read-only, where a
system call of the program's own gets EFAULT.

An `AddressSpace` is reached through the thread that calls just now (`caller`): any thread of it
would do, and this one is alive. What was read counts only while the call still waits, since a
thread id may be used again.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from errno import EFAULT

from kvm_vfio.kernel.error import KernelError

PAGE = 4096
_STATIC = 4096  # bytes; what is longer gets a buffer of its own

_libc = ctypes.PyDLL(None)  # these calls do not block: not worth letting other threads in
_ONE = ctypes.c_ulong(1)
_NONE = ctypes.c_ulong(0)


def _vector_call(name: str) -> Callable[..., int]:
    function = getattr(_libc, name)
    function.restype = ctypes.c_ssize_t
    return function  # type: ignore[no-any-return]  # what ctypes returns, restype says


_readv = _vector_call("process_vm_readv")
_writev = _vector_call("process_vm_writev")

# One struct iovec for each side, and where what is short goes.
_bytes = bytearray(_STATIC)
_view = memoryview(_bytes)
_buffer = (ctypes.c_char * _STATIC).from_buffer(_bytes)
_buffer_address = ctypes.addressof(_buffer)
_local = (ctypes.c_uint64 * 2)()
_remote = (ctypes.c_uint64 * 2)()
_local_pointer = ctypes.c_void_p(ctypes.addressof(_local))
_remote_pointer = ctypes.c_void_p(ctypes.addressof(_remote))


class AddressSpace:
    """One mm. Its identity is what the model compares; `require_valid` ends a call that is over."""

    __slots__ = ("_require_valid", "caller", "makes_vms", "tgid")

    def __init__(self, tgid: int, require_valid: Callable[[], None]) -> None:
        self.tgid = tgid
        self.caller = ctypes.c_int(tgid)
        self.makes_vms = False  # it has called KVM_CREATE_VM
        self._require_valid = require_valid

    def read(self, address: int, size: int) -> bytes:
        """`Mm.read`."""
        if size > _STATIC:
            return self._read_long(address, size)
        _local[0] = _buffer_address
        _local[1] = _remote[1] = size
        _remote[0] = address
        if _readv(self.caller, _local_pointer, _ONE, _remote_pointer, _ONE, _NONE) != size:
            raise KernelError(EFAULT, f"{size} bytes at {address:#x} cannot be read")
        self._require_valid()
        return _view[:size].tobytes()

    def _read_long(self, address: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        self._transfer(_readv, buffer, address, size)
        self._require_valid()
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        """`Mm.write`."""
        self._transfer(_writev, ctypes.create_string_buffer(data, len(data)), address, len(data))

    def _transfer(
        self, call: Callable[..., int], buffer: ctypes.Array[ctypes.c_char], address: int, size: int
    ) -> None:
        _local[0] = ctypes.addressof(buffer)
        _local[1] = _remote[1] = size
        _remote[0] = address
        if call(self.caller, _local_pointer, _ONE, _remote_pointer, _ONE, _NONE) != size:
            raise KernelError(EFAULT, f"{size} bytes at {address:#x} are not all there")

    def read_string(self, address: int, limit: int) -> bytes:
        """`Mm.read_string`."""
        text = b""
        while len(text) < limit:
            chunk = min(limit - len(text), PAGE - (address + len(text)) % PAGE)
            part, end, _ = self.read(address + len(text), chunk).partition(b"\0")
            text += part
            if end:
                break
        return text

    def pinnable(self, address: int, size: int, *, write: bool) -> bool:
        """`Mm.pinnable`."""
        end = address + size
        for start, stop, permissions in self._mappings():
            if start > address:
                return False
            if stop > address:
                if permissions[write] == "-":
                    return False
                address = stop
            if address >= end:
                return True
        return False

    def _mappings(self) -> Iterator[tuple[int, int, str]]:
        with open(f"/proc/{self.caller.value}/maps", encoding="ascii", errors="replace") as maps:
            for line in maps:
                bounds, permissions, _ = line.split(" ", 2)
                start, _, stop = bounds.partition("-")
                yield int(start, 16), int(stop, 16), permissions
