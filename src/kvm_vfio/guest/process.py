# SPDX-License-Identifier: GPL-2.0-only
"""`Syscalls` of a guest's worker: the waist on a real Linux.

Rule of this file: one call is one turn of the channel. What a caller puts into a buffer travels
with the next call, and what a call may have changed in its buffer comes back with the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kvm_vfio.guest.batch import Answer, Batch
from kvm_vfio.guest.guest import Event, Guest, heard
from kvm_vfio.guest.packages import kernel
from kvm_vfio.syscalls import Buffer
from kvm_vfio.uapi.layout import Request

# System call numbers of x86-64.
READ, WRITE, OPEN, CLOSE = 0, 1, 2, 3
MMAP, MUNMAP, IOCTL, PREAD64, PWRITE64, MADVISE = 9, 11, 16, 17, 18, 28
NANOSLEEP = 35
DUP, DUP2, SOCKET, FTRUNCATE, READLINK = 32, 33, 41, 77, 89
FCHMOD, EVENTFD2, PIPE2, MEMFD_CREATE = 91, 290, 293, 319

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2
MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE = 1, 2, 0x10, 0x20, 0x4000

MADV_DONTNEED = 4
EFD_NONBLOCK = O_NONBLOCK = 0x800
AF_UNIX = SOCK_STREAM = 1

ARENA = 0x2000_0000_0000  # the caller's own memory, in every worker
ARENA_BYTES = 1 << 30
_SCRATCH_BYTES = 2 << 20  # at its start: for what lives no longer than a call
_MOST = 1 << 20  # bytes that one read returns
_ALIGN = 16
_CHANGES = {"reg": 1, "unreg": -1}


class GuestBuffer:
    """Memory of the worker, by its address."""

    def __init__(self, process: GuestSyscalls, address: int, size: int, *, mapped: bool) -> None:
        self._process = process
        self._address = address
        self._size = size
        self._mapped = mapped  # of a file: only reading it tells what is there now
        self._known: tuple[int, bytes] | None = None  # the content, and since which turn

    @property
    def address(self) -> int:
        return self._address

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        end = self._size if size < 0 else offset + size
        if self._known and self._known[0] == self._process.turn and not self._mapped:
            return self._known[1][offset:end]
        return self._process.peek(self._address + offset, min(end, self._size) - offset)

    def write(self, data: bytes, offset: int = 0) -> None:
        if offset < 0 or offset + len(data) > self._size:
            raise ValueError(f"{len(data)} bytes at {offset} do not fit into {self._size}")
        self._known = None
        self._process.poke(self._address + offset, data, now=self._mapped)

    def __del__(self) -> None:
        if not self._mapped:
            self._process.free(self._address, self._size)


@dataclass
class _Vm:
    """A VM, by birth, and how many have registered noncoherent DMA for it."""

    number: int
    noncoherent_dma: int = 0

    def __str__(self) -> str:
        if not self.noncoherent_dma:
            return f"VM {self.number}: WBINVD is a no-op: nobody has registered noncoherent DMA"
        count = self.noncoherent_dma
        return f"VM {self.number}: WBINVD is executed: noncoherent DMA is registered ({count})"


class GuestSyscalls:
    """The system calls of one worker, each answered before the next begins."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.turn = 0
        self._batch = Batch()
        self._scratch = ARENA
        self._next = ARENA + _SCRATCH_BYTES
        self._free: dict[int, list[int]] = {}
        self._unheard: list[Event] = []
        self._vms: dict[int, _Vm] = {}  # by the kernel's own address
        self._vms_seen = 0
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
        self._call(MMAP, ARENA, ARENA_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0, what="mmap")

    # -- the waist ---------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        what = f"open of {path}"
        return self._call(OPEN, self._place(path.encode() + b"\0"), flags, 0o600, what=what)

    def close(self, fd: int) -> None:
        self._call(CLOSE, fd, what="close")

    def dup(self, fd: int) -> int:
        return self._call(DUP, fd, what="dup")

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        what = f"ioctl {request & 0xFFFF_FFFF:#x}"
        if not isinstance(arg, GuestBuffer):
            address = arg if isinstance(arg, int) else arg.address
            answer = self._batch.call(IOCTL, fd, request, address, what=what)
            self._perform()
            return self._noted(request, answer)
        result = self._batch.call(IOCTL, fd, request, arg.address, what=what)
        content = self._batch.peek(arg.address, len(arg))
        self._perform()
        arg._known = (self.turn, content.data)  # noqa: SLF001 - a buffer is filled here only
        return self._noted(request, result)

    def _noted(self, request: int, answer: Answer) -> int:
        try:
            return answer.result
        except OSError as error:
            name = request.name if isinstance(request, Request) else answer.what
            error.add_note(f"{name}: Linux {self.guest.kernel.release}")
            raise

    def read(self, fd: int, size: int) -> bytes:
        return self._fetch(READ, fd, size, what="read")

    def write(self, fd: int, data: bytes) -> int:
        return self._call(WRITE, fd, self._place(data[:_MOST]), min(len(data), _MOST), what="write")

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self._fetch(PREAD64, fd, size, offset, what="pread")

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        at = self._place(data[:_MOST])
        return self._call(PWRITE64, fd, at, min(len(data), _MOST), offset, what="pwrite")

    def mmap(self, fd: int, size: int, offset: int = 0, *, writable: bool = True) -> GuestBuffer:
        protection = PROT_READ | (PROT_WRITE if writable else 0)
        flags = MAP_SHARED if fd >= 0 else MAP_PRIVATE | MAP_ANONYMOUS
        at = self._call(MMAP, 0, size, protection, flags, fd, offset, what="mmap")
        return GuestBuffer(self, at, size, mapped=True)

    def munmap(self, buffer: Buffer) -> None:
        self._call(MUNMAP, buffer.address, len(buffer), what="munmap")

    def eventfd(self, initial: int = 0) -> int:
        return self._call(EVENTFD2, initial, EFD_NONBLOCK, what="eventfd")

    def buffer(self, size: int) -> GuestBuffer:
        at = self.allocate(size)
        self.poke(at, bytes(size), now=False)
        return GuestBuffer(self, at, size, mapped=False)

    def chmod(self, fd: int, mode: int) -> None:
        """fchmod(2)."""
        self._call(FCHMOD, fd, mode, what="fchmod")

    # -- memory ------------------------------------------------------------------------------------

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of ordinary memory, 16-aligned, of any content."""
        size = -(-max(size, 1) // _ALIGN) * _ALIGN
        reusable = self._free.get(size)
        if reusable:
            return reusable.pop()
        at, self._next = self._next, self._next + size
        if self._next > ARENA + ARENA_BYTES:
            raise MemoryError(f"more than {ARENA_BYTES >> 20} MiB of buffers in a guest")
        return at

    def free(self, address: int, size: int) -> None:
        """Let `allocate` give this memory again."""
        self._free.setdefault(-(-max(size, 1) // _ALIGN) * _ALIGN, []).append(address)

    def poke(self, address: int, data: bytes, *, now: bool) -> None:
        """Put `data` into memory, at once or with the next call. At once, OSError EFAULT."""
        starts = range(0, len(data), _MOST)
        parts = [self._batch.poke(address + at, data[at : at + _MOST]) for at in starts]
        if now:
            self._perform()
            _check(parts)

    def peek(self, address: int, size: int) -> bytes:
        """Read memory. OSError EFAULT."""
        starts = range(0, size, _MOST)
        parts = [self._batch.peek(address + at, min(_MOST, size - at)) for at in starts]
        self._perform()
        _check(parts)
        return b"".join(part.data for part in parts)

    def events(self) -> list[Event]:
        """What the probes have seen since the last question."""
        self._listen()
        events, self._unheard = self._unheard, []
        return events

    def explain(self) -> str:
        """Whether a WBINVD of a guest is executed, for every VM that lives."""
        self._listen()
        return "\n".join(map(str, self._vms.values()))

    def _listen(self) -> None:
        answer = self._batch.events()
        self._perform()
        events = heard(answer.events())
        self._unheard += events
        for name, vm in events:
            if name == "vmnew":
                self._vms_seen += 1
                self._vms[vm] = _Vm(self._vms_seen)
            elif name == "vmdel":
                self._vms.pop(vm, None)
            elif name in _CHANGES and vm in self._vms:
                self._vms[vm].noncoherent_dma += _CHANGES[name]

    # -- turns -------------------------------------------------------------------------------------

    def _place(self, data: bytes) -> int:
        """The address where `data` is until the next call has been made."""
        at = self._scratch
        self._scratch += -(-len(data) // _ALIGN) * _ALIGN
        self._batch.poke(at, data)
        return at

    def _call(self, number: int, *arguments: int, what: str) -> int:
        answer = self._batch.call(number, *arguments, what=what)
        self._perform()
        return answer.result

    def _fetch(self, number: int, fd: int, size: int, *arguments: int, what: str) -> bytes:
        size = min(size, _MOST)
        answer = self._batch.call(number, fd, self._scratch, size, *arguments, what=what)
        data = self._batch.peek(self._scratch, size)
        self._perform()
        return data.data[: answer.result]

    def _perform(self) -> None:
        batch, self._batch = self._batch, Batch()
        self._scratch = ARENA
        self.turn += 1
        self.guest.perform(batch)


@contextmanager
def boot(linux: str, *, snoop_control: bool = False) -> Iterator[GuestSyscalls]:
    """A fresh process on a real Linux under QEMU, which ends with the `with`.

    `linux` names a kernel that `kvm-vfio guest prepare` has fetched. InputError, Unsupported.
    """
    with Guest(kernel(linux), snoop=snoop_control) as booting:
        yield GuestSyscalls(booting.ready())


def _check(answers: Iterable[Answer]) -> None:
    """Raise what went wrong with any of them."""
    for answer in answers:
        _ = answer.result
