# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios in a guest: handles are registers of the agent, and many operations are one batch.

Rule of this file: it turns each need of a script into instructions, and never waits in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kvm_vfio.errors import InputError, NotModelled
from kvm_vfio.guest import force, process
from kvm_vfio.guest.batch import REGISTERS, Batch, Register
from kvm_vfio.guest.batch import Answer as GuestAnswer
from kvm_vfio.guest.guest import Event as GuestEvent
from kvm_vfio.guest.guest import Guest, heard
from kvm_vfio.scenario.hands import Answer, ClosedFd, Content, Event, Events, Fd, FdInMemory
from kvm_vfio.uapi import fcntl

_RESULT, _NEW, _FILE = (Register(REGISTERS - 1 - i) for i in range(3))  # within one operation
_HANDLES = REGISTERS - 16
_NO_FD = -1

# The process's memory. Ordinary memory is zero anew in every turn; the rest holds one thing.
_PAGE = 4096
_ORDINARY = 0x3000_0000_0000
_EDGE = _ORDINARY + (8 << 20)  # where memory ends: what follows can be neither read nor written
_ROOM = 256  # after what is put into ordinary memory, for structures that go on with zeros
_READ_ONLY = _EDGE + 2 * _PAGE
_SAME_PAGE = _READ_ONLY + 2 * _PAGE  # as the read-only one, to write to
_FRESH = 0x3100_0000_0000

_LINK_BYTES = 256
_A_MOMENT = bytes(8) + (1_000_000).to_bytes(8, "little")  # struct timespec: 1 ms, for its workers
_FIXED_FD = 1000  # a fixed number, whose name in /proc is known beforehand
_DEVICES = "/sys/bus/pci/devices"


class GuestHands:
    """Hands in a guest's worker, which nobody else uses meanwhile."""

    MOST = 256
    sees_effects = True

    def __init__(self, guest: Guest, *, ahead: int = MOST) -> None:
        self.ahead = ahead
        self._guest = guest
        self._in_child = False
        self._batch = Batch()
        self._fillers: list[Callable[[], None]] = []
        self._registers: dict[str, Register] = {}
        self._next = _ORDINARY
        self._fresh: list[tuple[int, int]] = []
        self._vms: dict[int, int] = {}  # the VM at an address; addresses are used again
        self._vms_seen = 0
        self._map_memory()
        if not guest.kernel.no_force:
            self._write_file(force.PARAMETER, "forget")

    def flush(self) -> None:
        batch, self._batch = self._batch, Batch()
        fillers, self._fillers = self._fillers, []
        self._next = _ORDINARY
        self._batch.call(process.MADVISE, _ORDINARY, _EDGE - _ORDINARY, process.MADV_DONTNEED)
        self._guest.perform(batch)
        for fill in fillers:
            fill()

    # -- files -------------------------------------------------------------------------------------

    def open(self, handle: str, path: str, flags: int) -> Answer:
        return self._make(handle, process.OPEN, self._text(path), flags, 0o600)

    def dup(self, handle: str, old: str) -> Answer:
        return self._make(handle, process.DUP, self._fd(old))

    def eventfd(self, handle: str) -> Answer:
        return self._make(handle, process.EVENTFD2, 0, process.EFD_NONBLOCK)

    def memfd(self, handle: str) -> Answer:
        return self._make(handle, process.MEMFD_CREATE, self._text("memfd"), 0)

    def socket(self, handle: str) -> Answer:
        return self._make(handle, process.SOCKET, process.AF_UNIX, process.SOCK_STREAM, 0)

    def pipe(self, reader: str, writer: str) -> Answer:
        at = self._reserve(8)
        answer = self._call(process.PIPE2, at, process.O_NONBLOCK)
        for handle, fd_at in ((reader, at), (writer, at + 4)):
            self._batch.load(fd_at, into=_NEW)
            self._take(handle, _NEW)
        return answer

    def close(self, handle: str) -> Answer:
        answer = self._call(process.CLOSE, self._fd(handle))
        if handle in self._registers:
            self._batch.set(self._registers[handle], _NO_FD)
        return answer

    def close_all(self) -> None:
        self._batch.close_all()
        self._registers = {}
        for at, size in self._fresh:
            self._batch.call(process.MUNMAP, at, size)
        self._fresh = []

    def ioctl(self, handle: str, request: int, arg: int | Fd, into: str | None = None) -> Answer:
        value = self._fd(arg.handle) if isinstance(arg, Fd) else arg
        call = (process.IOCTL, self._fd(handle), request & 0xFFFF_FFFF, value)
        return self._call(*call) if into is None else self._make(into, *call)

    def ioctl_with_fd(
        self, handle: str, request: int, arg: int, *, fd_at: int, unless: int, into: str
    ) -> FdInMemory:
        result = self._call(process.IOCTL, self._fd(handle), request, arg, into=_RESULT)
        there = self.peek(fd_at, 4)
        name, link_at = self._text(f"/proc/self/fd/{_FIXED_FD}"), self._reserve(_LINK_BYTES)
        register = self._register(into)
        batch = self._batch
        batch.load(fd_at, into=_NEW)
        batch.skip_unless(_RESULT, 0, 6)
        batch.skip_if(_NEW, _signed(unless), 5)
        self._take(into, _NEW)
        batch.call(process.DUP2, register, _FIXED_FD)
        batch.call(process.READLINK, name, link_at, _LINK_BYTES)
        link = self._later(batch.peek(link_at, _LINK_BYTES), _c_string)
        batch.call(process.CLOSE, _FIXED_FD)
        return FdInMemory(result, there, link)

    def read(self, handle: str, size: int) -> Answer:
        return self._call(process.READ, self._fd(handle), self._reserve(size), size)

    def write(self, handle: str, data: bytes) -> Answer:
        return self._call(process.WRITE, self._fd(handle), self._place(data), len(data))

    def settle(self) -> None:
        at = self._place(_A_MOMENT)
        self._batch.call(process.NANOSLEEP, at, 0)

    def map_page(self, handle: str) -> Answer:
        protection = process.PROT_READ | process.PROT_WRITE
        return self._call(
            process.MMAP, 0, _PAGE, protection, process.MAP_SHARED, self._fd(handle), 0
        )

    # -- memory ------------------------------------------------------------------------------------

    def memory(self, kind: str, content: Content) -> int:
        size = sum(len(part) if isinstance(part, bytes) else 4 for part in content)
        if kind == "unmapped":
            return _EDGE
        if kind == "rw":
            at = self._reserve(size)
            self._fill(at, content)
        elif kind == "odd":
            at = self._reserve(size + 1) + 1
            self._fill(at, content)
        elif kind == "ro":
            at = _READ_ONLY
            self._fill(_SAME_PAGE, content)
        else:
            at = _EDGE - (size if kind == "pageend" else size // 2)
            self._fill(at, content)
        return at

    def _fill(self, at: int, content: Content) -> None:
        for part in content:
            if isinstance(part, bytes):
                self._batch.poke(at, part[: max(_EDGE - at, 0)] if at < _EDGE else part)
                at += len(part)
                continue
            if isinstance(part, ClosedFd):
                self._batch.call(process.EVENTFD2, 0, 0, into=_FILE)
                self._batch.call(process.CLOSE, _FILE)
            fd = _FILE if isinstance(part, ClosedFd) else self._fd(part.handle)
            self._batch.put(at, fd, 4)
            at += 4

    def fresh(self, size: int) -> int:
        last, length = self._fresh[-1] if self._fresh else (_FRESH, 0)
        at, size = last + length + _PAGE, -(-size // _PAGE) * _PAGE
        self._fresh.append((at, size))
        flags = process.MAP_FIXED | process.MAP_NORESERVE
        self._map(at, size, process.PROT_READ | process.PROT_WRITE, flags)
        return at

    def poke(self, address: int, data: bytes) -> None:
        self._batch.poke(address, data)

    def peek(self, address: int, size: int) -> Answer:
        return self._later(self._batch.peek(address, size))

    def _map_memory(self) -> None:
        both = process.PROT_READ | process.PROT_WRITE
        self._map(_ORDINARY, _EDGE - _ORDINARY, both, process.MAP_FIXED)
        self._map(_EDGE, _PAGE, process.PROT_NONE, process.MAP_FIXED)
        batch = self._batch
        batch.call(process.MEMFD_CREATE, self._text("page"), 0, into=_FILE)
        batch.call(process.FTRUNCATE, _FILE, _PAGE)
        shared = process.MAP_SHARED | process.MAP_FIXED
        for at, protection in ((_READ_ONLY, process.PROT_READ), (_SAME_PAGE, both)):
            batch.call(process.MMAP, at, _PAGE, protection, shared, _FILE, 0)
        batch.call(process.CLOSE, _FILE)

    def _map(self, at: int, size: int, protection: int, flags: int) -> None:
        flags |= process.MAP_PRIVATE | process.MAP_ANONYMOUS
        self._batch.call(process.MMAP, at, size, protection, flags, _NO_FD, 0)

    def _reserve(self, size: int) -> int:
        at = self._next
        self._next += -(-(size + _ROOM) // 16) * 16
        return at

    def _place(self, data: bytes) -> int:
        at = self._reserve(len(data))
        self._batch.poke(at, data)
        return at

    def _text(self, text: str) -> int:
        return self._place(text.encode() + b"\0")

    # -- the referee's hand ------------------------------------------------------------------------

    def events(self) -> Events:
        ours, theirs = Events(), self._batch.events()

        def fill() -> None:
            ours.seen = [self._event(event) for event in heard(theirs.events())]

        self._fillers.append(fill)
        return ours

    def _event(self, event: GuestEvent) -> Event:
        name, argument = event
        if name == "coh":
            return Event(name, answer=str(argument))
        if name in ("devrel", "devdtor") or argument == 0:
            return Event(name)
        if name == "vmnew":
            self._vms_seen += 1
            self._vms[argument] = self._vms_seen
        return Event(name, self._vms.setdefault(argument, -argument))

    def group_number(self, address: str) -> int:
        groups = self._guest.iommu_groups
        if address not in groups:
            link = self._read_link(f"{_DEVICES}/{address}/iommu_group")
            self.flush()
            if link.raw < 0:
                raise ValueError(f"there is no device {address}")
            groups[address] = int(link.data)
        return groups[address]

    def bind(self, address: str, driver: str | None) -> Answer:
        self.group_number(address)  # which refuses what is no device
        device = f"{_DEVICES}/{address}"
        self._write_file(f"{device}/driver/unbind", address)
        if driver is not None:
            self._write_file(f"{device}/driver_override", driver)
            self._write_file("/sys/bus/pci/drivers_probe", address)
        link = self._read_link(f"{device}/driver")
        answer = Answer()

        def fill() -> None:
            answer.data = link.data if link.raw >= 0 else b""

        self._fillers.append(fill)
        return answer

    def force_coherency(self, handle: str, *, answer: bool | None) -> Answer:
        kernel = self._guest.kernel
        if kernel.no_force:
            raise NotModelled(
                f"force_coh: the guest of Linux {kernel.version} has no module for it: "
                f"{kernel.no_force}; run this on model:{kernel.version}"
            )
        wanted = -1 if answer is None else int(answer)
        self._batch.call(process.DUP2, self._fd(handle), _FIXED_FD)
        written = self._write_file(force.PARAMETER, f"{_FIXED_FD} {wanted}")
        self._batch.call(process.CLOSE, _FIXED_FD)
        result = Answer()

        def fill() -> None:
            result.raw = min(written.raw, 0)

        self._fillers.append(fill)
        return result

    def child_close_exit(self) -> Answer:
        return self._later(self._batch.child())

    @contextmanager
    def in_child(self) -> Iterator[None]:
        self._in_child = True
        try:
            yield
        finally:
            self._in_child = False

    def _write_file(self, path: str, text: str) -> GuestAnswer:
        batch = self._batch
        batch.call(process.OPEN, self._text(path), fcntl.O_WRONLY, into=_FILE)
        at = self._text(text)
        written = batch.call(process.WRITE, _FILE, at, len(text), what=f"write {path}")
        batch.call(process.CLOSE, _FILE)
        return written

    def _read_link(self, path: str) -> Answer:
        """What the link points to, without the directories."""
        at = self._reserve(_LINK_BYTES)
        self._batch.poke(at, bytes(_LINK_BYTES))
        length = self._batch.call(process.READLINK, self._text(path), at, _LINK_BYTES)
        text = self._batch.peek(at, _LINK_BYTES)
        answer = Answer()

        def fill() -> None:
            answer.raw, answer.data = length.raw, _c_string(text.data).rpartition(b"/")[2]

        self._fillers.append(fill)
        return answer

    # -- handles -----------------------------------------------------------------------------------

    def _fd(self, handle: str) -> int:
        return self._registers.get(handle, _NO_FD)

    def _register(self, handle: str) -> Register:
        if handle not in self._registers:
            if len(self._registers) == _HANDLES:
                raise InputError(f"a guest keeps {_HANDLES} handles; close some with reset.")
            self._registers[handle] = Register(len(self._registers))
            self._batch.set(self._registers[handle], _NO_FD)
        return self._registers[handle]

    def _make(self, handle: str, number: int, *arguments: int) -> Answer:
        answer = self._call(number, *arguments, into=_NEW)
        self._register(handle)
        self._take(handle, _NEW)
        return answer

    def _take(self, handle: str, fd: Register) -> None:
        self._batch.take(self._register(handle), fd)

    def _call(self, number: int, *arguments: int, into: Register | None = None) -> Answer:
        if self._in_child:
            return self._later(self._batch.child(number, *arguments))
        return self._later(self._batch.call(number, *arguments, into=into))

    def _later(
        self, theirs: GuestAnswer, convert: Callable[[bytes], bytes] = lambda data: data
    ) -> Answer:
        ours = Answer()

        def fill() -> None:
            if not theirs.skipped:
                ours.raw, ours.data = theirs.raw, convert(theirs.data)

        self._fillers.append(fill)
        return ours


def _signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def _c_string(data: bytes) -> bytes:
    return data.split(b"\0")[0]
