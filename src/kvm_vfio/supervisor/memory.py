# SPDX-License-Identifier: GPL-2.0-only
"""A program's memory: the `Mm` of the model over process_vm_readv(2) and /proc/PID/maps.

Rule of this file: what the program could not do itself, this cannot do either. /proc/PID/mem would
be quicker by a microsecond, and reads what is PROT_NONE and writes what is read-only, where a
system call of the program's own gets EFAULT.

An `AddressSpace` is reached through the thread that calls just now: any thread of it would do, and
this one is alive. But it may be killed and its id used again; and exec gives a process another
address space, of which nobody tells us. So we know each by its *mark*, the 16 random bytes that
Linux gives it at its start (AT_RANDOM), and read that along with whatever we read. Without a mark,
what was read counts only if the call still waits after that.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EFAULT
from typing import TypeVar

from kvm_vfio.kernel.error import KernelError

PAGE = 4096
_STATIC = 8192  # bytes
_LONGEST = 4096  # what is longer gets a buffer of its own
_LONGEST_FOLLOWER = 64
_NOTHING = (0, 0)
_MOST_FOLLOWERS = 1000

_libc = ctypes.PyDLL(None)  # these calls do not block: not worth letting other threads in
_ONE = ctypes.c_ulong(1)
_TWO = ctypes.c_ulong(2)
_THREE = ctypes.c_ulong(3)
_NONE = ctypes.c_ulong(0)


def _vector_call(name: str) -> Callable[..., int]:
    function = getattr(_libc, name)
    function.restype = ctypes.c_ssize_t
    return function  # type: ignore[no-any-return]  # what ctypes returns, restype says


_readv = _vector_call("process_vm_readv")
_writev = _vector_call("process_vm_writev")

# Where what is short goes, and the struct iovecs that say so: one of ours, two of the program's.
_bytes = bytearray(_STATIC)
_view = memoryview(_bytes)
_buffer = (ctypes.c_char * _STATIC).from_buffer(_bytes)
_buffer_address = ctypes.addressof(_buffer)
_here = (ctypes.c_uint64 * 2)(_buffer_address, 0)
_there = (ctypes.c_uint64 * 4)()
_ours = ctypes.c_void_p(ctypes.addressof(_here))
_theirs = ctypes.c_void_p(ctypes.addressof(_there))

_calls = [0]  # that all programs have made


class Stale(Exception):
    """What is remembered of a thread or process is not true any more."""


class AddressSpace:
    """One mm. Its identity is what the model compares; `tgid` is a process that it is of.

    A structure is often passed again and again, and with it a pointer to the same place. So what a
    call read second is, at the next call that reads the same first, read along with it.
    """

    __slots__ = (
        "_ahead",
        "_caller",
        "_first",
        "_followers",
        "_gathered",
        "_local",
        "_mark",
        "_ours",
        "_remote",
        "_require_valid",
        "_theirs",
        "_verified",
        "makes_vms",
        "tgid",
    )

    def __init__(self, tgid: int, require_valid: Callable[[], None]) -> None:
        """`require_valid` raises when the call at hand is over."""
        self.tgid = tgid
        self.makes_vms = False  # it has called KVM_CREATE_VM
        self._require_valid = require_valid
        self._caller = ctypes.c_int(tgid)
        self._mark = b""
        # struct iovecs: one of ours, three of theirs (the mark, what is read, what is read next).
        self._local = (ctypes.c_uint64 * 2)(_buffer_address, 0)
        self._remote = (ctypes.c_uint64 * 6)()
        self._ours = ctypes.c_void_p(ctypes.addressof(self._local))
        self._theirs = ctypes.c_void_p(ctypes.addressof(self._remote))
        self._gathered = (0, 0, _NOTHING)  # what they say: address, size, follower
        self._first = 0  # the address that this call read first, 0 before
        self._ahead: tuple[int, int, bytes] | None = None  # address, size, data
        self._followers: dict[int, tuple[int, int]] = {}  # by the first address: address, size
        self._verified = 0  # the call in which the mark was seen last

    def begin(self, tid: int) -> None:
        """Thread `tid` makes a call."""
        _calls[0] += 1
        self._caller.value = tid
        self._first = 0

    def know_by(self, address: int, size: int) -> None:
        """What is at `address` now is the mark; size 0: there is none."""
        self._mark = b""
        self._remote[1] = 0
        if size:
            self._mark = self.read(address, size)
            self._remote[0], self._remote[1] = address, size
        self._gathered = (0, -1, _NOTHING)

    def verify(self) -> None:
        """Stale unless this is still the memory that the caller has."""
        self._gather(0, 0, _NOTHING)

    def read(self, address: int, size: int) -> bytes:
        """`Mm.read`. Stale."""
        if size > _LONGEST:
            return self._read_long(address, size)
        follower = _NOTHING
        if not self._first:
            self._first = address
            follower = self._followers.get(address, _NOTHING)
        elif self._ahead is not None and self._ahead[0] == address and self._ahead[1] == size:
            return self._ahead[2]
        elif size <= _LONGEST_FOLLOWER:
            if len(self._followers) > _MOST_FOLLOWERS:
                self._followers.clear()
            self._followers[self._first] = address, size
        done = self._gather(address, size, follower)
        if done < size:
            raise _fault(address, size)
        start = len(self._mark)
        end = start + size
        if not start:
            self._require_valid()
        self._ahead = None
        if done > size and done == size + follower[1]:
            self._ahead = (*follower, _view[end : start + done].tobytes())
        return _view[start:end].tobytes()

    def _gather(self, address: int, size: int, follower: tuple[int, int]) -> int:
        """Read the mark, then both: how many bytes of these are there. Stale."""
        mark = self._mark
        if (address, size, follower) != self._gathered:
            self._gathered = address, size, follower
            self._remote[2], self._remote[3], self._remote[4], self._remote[5] = (
                address,
                size,
                *follower,
            )
            self._local[1] = len(mark) + size + follower[1]
        done = _readv(self._caller, self._ours, _ONE, self._theirs, _THREE, _NONE)
        if mark and (done < len(mark) or not _bytes.startswith(mark)):
            raise Stale
        self._verified = _calls[0]
        return done - len(mark)

    def _read_long(self, address: int, size: int) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        self._transfer(_readv, buffer, address, size)
        self._require_valid()
        return buffer.raw

    def write(self, address: int, data: bytes) -> None:
        """`Mm.write`."""
        size = len(data)
        if size > _LONGEST:
            self._transfer(_writev, ctypes.create_string_buffer(data, size), address, size)
            return
        _view[:size] = data
        _here[1] = _there[1] = size
        _there[0] = address
        if _writev(self._caller, _ours, _ONE, _theirs, _ONE, _NONE) != size:
            raise _fault(address, size)

    def _transfer(
        self, call: Callable[..., int], buffer: ctypes.Array[ctypes.c_char], address: int, size: int
    ) -> None:
        local = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), size)
        remote = (ctypes.c_uint64 * 2)(address, size)
        ours = ctypes.c_void_p(ctypes.addressof(local))
        theirs = ctypes.c_void_p(ctypes.addressof(remote))
        if call(self._caller, ours, _ONE, theirs, _ONE, _NONE) != size:
            raise _fault(address, size)

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

    def pin(self, address: int, size: int, *, write: bool) -> ProgramPages | None:
        """`Mm.pin`: it holds nothing, so that what the program unmaps is gone for devices too."""
        return ProgramPages(self) if self._is_there(address, size, write=write) else None

    def _is_there(self, address: int, size: int, *, write: bool) -> bool:
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

    # -- for devices, whoever calls just now -------------------------------------------------------

    def read_pinned(self, address: int, size: int) -> bytes:
        """`Pages.read`."""
        mark = len(self._mark)
        room = memoryview(bytearray(mark + size)) if size > _LONGEST else _view
        _there[0], _there[1], _there[2], _there[3] = self._remote[0], mark, address, size
        done = self._move_pinned(_readv, room, mark + size)
        if mark and (done < mark or room[:mark] != self._mark):
            raise KernelError(EFAULT, "the program that mapped it is gone")
        self._verified = _calls[0]
        done = max(done - mark, 0)
        data = room[mark : mark + done].tobytes()
        return data if done == size else data + self._read_protected(address + done, size - done)

    def write_pinned(self, address: int, data: bytes) -> None:
        """`Pages.write`."""
        if self._verified != _calls[0]:
            self.read_pinned(address, 0)  # is this still the same program?
        size = len(data)
        room = memoryview(bytearray(size)) if size > _LONGEST else _view
        room[:size] = data
        _there[0], _there[1], _there[3] = address, size, 0
        done = self._move_pinned(_writev, room, size)
        if done < size:
            done = max(done, 0)
            self._write_protected(address + done, data[done:])

    # What the program has protected since is as it was for a device. /proc/PID/mem does not ask.

    def _read_protected(self, address: int, size: int) -> bytes:
        with _opened_memory(self.tgid) as memory:
            data = _or_none(lambda: os.pread(memory, size, address))
        if data is None or len(data) < size:
            raise _unmapped(address)
        return data

    def _write_protected(self, address: int, data: bytes) -> None:
        with _opened_memory(self.tgid) as memory:
            if _or_none(lambda: os.pwrite(memory, data, address)) != len(data):
                raise _unmapped(address)

    def _move_pinned(self, call: Callable[..., int], room: memoryview, size: int) -> int:
        """Move what `_there` says: how many bytes did."""
        _here[1] = size
        if room is not _view:
            _here[0] = ctypes.addressof(ctypes.c_char.from_buffer(room))
        done = call(self._caller, _ours, _ONE, _theirs, _TWO, _NONE)
        if done < 0:  # the thread that called last may be gone, and its process not
            done = call(ctypes.c_int(self.tgid), _ours, _ONE, _theirs, _TWO, _NONE)
        _here[0] = _buffer_address
        return done

    def _mappings(self) -> Iterator[tuple[int, int, str]]:
        with open(f"/proc/{self._caller.value}/maps", encoding="ascii", errors="replace") as maps:
            for line in maps:
                bounds, permissions, _ = line.split(" ", 2)
                start, _, stop = bounds.partition("-")
                yield int(start, 16), int(stop, 16), permissions


class ProgramPages:
    """A program's memory as devices reach it: see `AddressSpace.pin`."""

    __slots__ = ("read", "write")

    def __init__(self, mm: AddressSpace) -> None:
        self.read = mm.read_pinned
        self.write = mm.write_pinned


@contextmanager
def _opened_memory(tgid: int) -> Iterator[int]:
    """An fd of a process's memory. EFAULT: it is gone."""
    memory = _or_none(lambda: os.open(f"/proc/{tgid}/mem", os.O_RDWR | os.O_CLOEXEC))
    if memory is None:
        raise KernelError(EFAULT, "the program that mapped it is gone")
    try:
        yield memory
    finally:
        os.close(memory)


Result = TypeVar("Result")


def _or_none(call: Callable[[], Result]) -> Result | None:
    try:
        return call()
    except OSError:
        return None


def _unmapped(address: int) -> KernelError:
    return KernelError(EFAULT, f"the program has nothing at {address:#x} any more")


def _fault(address: int, size: int) -> KernelError:
    return KernelError(EFAULT, f"{size} bytes at {address:#x} are not all there")
