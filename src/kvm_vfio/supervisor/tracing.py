# SPDX-License-Identifier: GPL-2.0-only
"""What a trace says of a supervised program's calls.

Rule of this file: it only runs when somebody wants a trace, and changes no answer.
"""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from kvm_vfio.kernel.file import File
from kvm_vfio.supervisor.calls import call_name
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.supervisor.processes import Thread, comm
from kvm_vfio.supervisor.syscalls import ARGUMENTS, CONTINUE, c_int
from kvm_vfio.trace.jsonl import TraceWriter
from kvm_vfio.trace.recording import Recording
from kvm_vfio.trace.requests import decode
from kvm_vfio.trace.schema import CONTINUED
from kvm_vfio.trace.watched import WatchedTask

_IOCTL = NR.get("ioctl")
_FLAGS = {NR.get("open"): 1, NR.get("openat"): 2}  # where the flags of an open are
_OPENS = {*_FLAGS, NR.get("openat2")}
_REGIONS = {NR.get(name) for name in ("pread64", "pwrite64")}
_VECTORS = {NR.get(name) for name in ("preadv", "pwritev", "preadv2", "pwritev2")}
_EXIT = NR.get("exit_group")
_MMAP = NR.get("mmap")
_MOST_KNOWN = 10_000  # threads

Words = tuple[int, ...]


class _Open(Struct):
    path: str
    flags: int | None  # openat2 has them in memory


class _Region(Struct):
    size: int
    offset: int


class _Map(Struct):
    size: int
    protection: int
    flags: int
    offset: int


class _Words(Struct):
    words: Words


class Tracer:
    """Records the calls of a program; `call` is what `Listener.receive` returned."""

    def __init__(self, fd: int) -> None:
        self.writer = TraceWriter(fd)
        self.recording = Recording(self.writer)
        self.task_type = partial(WatchedTask, seen=self.recording.seen)
        self._known: dict[int, Thread | None] = {}
        self._told: dict[int, tuple[int, int, str]] = {}

    def answered(
        self,
        call: tuple[int, ...],
        thread: Thread | None,
        file: File | None,
        path: bytes,
        result: int,
        why: str,
        fault: str,
        modelled: bool,  # noqa: FBT001 - said once for each call
    ) -> None:
        """A call has its answer. `path` is what an open read, `file` what the call was about."""
        tid, nr, words = call[1], call[3], call[ARGUMENTS:]
        known = self._known.get(tid, self)
        if known is not thread and (thread is not None or known is self):
            self._introduce(tid, thread)
        recording = self.recording
        answer = CONTINUED if result == CONTINUE else result
        out = fd = None
        args: Struct | None
        if nr == _IOCTL:
            fd, kind = c_int(words[0]), type(file) if file is not None else None
            name, args, out = decode(kind, words[1] & 0xFFFF_FFFF, words[2], recording.seen)
        else:
            name = call_name(nr, None, 0)
            if nr in _OPENS:
                args = _Open(path.decode(errors="replace"), _flags(nr, words))
            elif nr in _REGIONS:
                fd, args = c_int(words[0]), _Region(words[2], words[3])
            elif nr == _MMAP:
                fd, args = c_int(words[4]), _Map(words[1], words[2], words[3], words[5])
            else:
                fd = c_int(words[0]) if nr in _VECTORS else None
                args = _Words(words[:1] if nr == _EXIT else words)
        recording.answered(tid, name, answer, fd, file, args, out, why, fault, modelled)

    def _introduce(self, tid: int, thread: Thread | None) -> None:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
            self._told.clear()
        self._known[tid] = thread
        who = tid, thread.tgid if thread else tid, comm(tid)
        if self._told.get(tid) != who:
            self._told[tid] = who
            self.recording.task(*who)

    def end(self, status: int | None) -> None:
        """The program has ended."""
        self.recording.end(status)
        self.writer.close()


def _flags(nr: int, words: Words) -> int | None:
    return words[_FLAGS[nr]] & 0xFFFF_FFFF if nr in _FLAGS else None
