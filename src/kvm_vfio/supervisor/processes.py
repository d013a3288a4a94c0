# SPDX-License-Identifier: GPL-2.0-only
"""Who calls: threads, the processes they belong to, and the address spaces these run in.

Rule of this file: a thread id is a number that is used again, so what is remembered about a thread
is reached through its /proc directory, a handle that dies with it.

Threads share an address space, and so does a vforked child until it execs; a forked child has
another, and exec makes a new one. The model compares address spaces by identity, because KVM does.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from struct import iter_unpack
from typing import NamedTuple

from kvm_vfio.kernel.file import EventFile, File, OtherFile
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.task import Files, Task
from kvm_vfio.supervisor.files import OpenFiles
from kvm_vfio.supervisor.libc import kcmp
from kvm_vfio.supervisor.memory import AddressSpace, Stale
from kvm_vfio.supervisor.notify import Gone, Listener
from kvm_vfio.uapi.fcntl import O_PATH
from kvm_vfio.uapi.seccomp import KCMP_VM

_readlink = os.readlink
_MOST_LINKS = 16  # each is a file of ours

_AT_RANDOM = 25  # a key of the auxiliary vector
_MARK = 16  # bytes

_EVENTFD = EventFile.link.encode()


class Unreachable(Exception):
    """The thread is there, and this computer does not let us look into it."""


class Thread:
    """One thread that has called us: the `Files` of the model, and its `task`."""

    __slots__ = (
        "_by_link",
        "_directory",
        "_links",
        "_listener",
        "_open_files",
        "mm",
        "task",
        "tgid",
        "tid",
    )

    def __init__(
        self,
        tid: int,
        tgid: int,
        mm: AddressSpace,
        kernel: Kernel,
        files: OpenFiles,
        by: Listener,
        task_type: Callable[[Kernel, Files, AddressSpace], Task] = Task,
    ) -> None:
        self.tid = tid
        self.tgid = tgid
        self.mm = mm
        self.task = task_type(kernel, self, mm)
        self._open_files = files
        self._by_link = files.by_link
        self._listener = by
        # fd -> our handle on its link in /proc, for a few numbers that were ours: reading the link
        # through it saves finding it. It stands for the number, not for a file: it shows what the
        # number means now, and fails when it means nothing.
        self._links: dict[int, int] = {}
        self._directory = os.open(f"/proc/{tid}/fd", os.O_RDONLY | os.O_DIRECTORY)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it was never opened
            os.close(self._directory)
            for handle in self._links.values():
                os.close(handle)

    def link(self, fd: int) -> bytes | None:
        """What /proc says of a number; None for one that is free. Stale."""
        try:
            return os.readlink(b"%d" % fd, dir_fd=self._directory)
        except OSError:
            self._require_alive()
            return None

    def _require_alive(self) -> None:
        try:
            os.fstat(self._directory)
        except OSError:
            raise Stale from None

    def ours(self, fd: int) -> File | None:
        """Our file behind a number, None for all others. Stale."""
        try:
            return self._by_link.get(_readlink(b"", dir_fd=self._links[fd]))
        except KeyError:
            return self._find(fd)
        except OSError:
            os.close(self._links.pop(fd))
            return self._find(fd)

    def _find(self, fd: int) -> File | None:
        link = self.link(fd)
        file = self._by_link.get(link) if link else None
        if file is not None and len(self._links) < _MOST_LINKS:
            with suppress(OSError):
                handle = os.open(str(fd), os.O_PATH | os.O_NOFOLLOW, dir_fd=self._directory)
                self._links[fd] = handle
        return file

    def get(self, fd: int) -> File | None:
        """`Files.get`."""
        return self.ours(fd) or self._other(fd)

    def _other(self, fd: int) -> File | None:
        link = self.link(fd)
        if link is None:
            return None
        info = self._info(fd)
        if int(info.get("flags", "0"), 8) & O_PATH:
            return None
        if link == _EVENTFD:
            return self._open_files.events.find(self.tgid, fd, info.get("eventfd-id"))
        return OtherFile(os.fsdecode(link))

    def _info(self, fd: int) -> dict[str, str]:
        """What /proc says of the open file behind a number."""
        with suppress(OSError), open(f"/proc/{self.tid}/fdinfo/{fd}", encoding="ascii") as info:
            lines = (line.partition(":") for line in info)
            return {name: value.strip() for name, _, value in lines}
        return {}

    def install(self, file: File) -> int:
        """`Files.install`: closed on exec, as all that an ioctl opens."""
        return self.open(file, close_on_exec=True)

    def open(self, file: File, *, close_on_exec: bool) -> int:
        """Give `file`, with its reference, to this thread's process; the number it has there."""
        return self._open_files.install(
            file, lambda fd: self._listener.add_fd(fd, close_on_exec=close_on_exec)
        )

    def name(self) -> str:
        """The program's name and the process, for people."""
        return f"{comm(self.tid)}[{self.tgid}]"


def comm(pid: int) -> str:
    """What the kernel calls the program of process or thread `pid`."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return "?"


class _Process(NamedTuple):
    """`started`: when, in clock ticks; with the id it names a process for good.

    `memory` is an fd of its /proc/PID/mem, which reads nothing once that memory is nobody's.
    """

    started: int
    mm: AddressSpace
    memory: int


class Processes:
    """Every thread that has called us."""

    def __init__(
        self,
        kernel: Kernel,
        files: OpenFiles,
        listener: Listener,
        task_type: Callable[[Kernel, Files, AddressSpace], Task] = Task,
    ) -> None:
        self._kernel = kernel
        self._task_type = task_type
        self._files = files
        self._listener = listener
        self._threads: dict[int, Thread] = {}
        self._processes: dict[int, _Process] = {}
        most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most_threads = most_files // (2 * (_MOST_LINKS + 1))

    def __contains__(self, tgid: int) -> bool:
        return tgid in self._processes

    def memory(self, tid: int) -> AddressSpace:
        """Only to read what `tid` points to, whoever that is."""
        return AddressSpace(tid, self._listener.require_valid)

    def thread(self, tid: int) -> Thread:
        """The thread that calls. Gone, Unreachable."""
        thread = self._threads.get(tid) or self._meet(tid)
        thread.mm.begin(tid)
        return thread

    def known(self, tid: int) -> Thread | None:
        """The thread, if it has called before; only to tell of it."""
        return self._threads.get(tid)

    def recheck(self, tid: int) -> None:
        """Something was stale about `tid`: forget what is not true any more. Gone."""
        thread = self._threads.pop(tid)
        process = self._processes.get(thread.tgid)
        if process is None or not self._is_in(tid, thread.tgid):
            return
        try:
            process.mm.verify()
        except Stale:
            if _has_left(process, thread.tgid):
                self.ended(thread.tgid)
            else:  # the program has written over its mark
                process.mm.know_by(0, 0)

    def _is_in(self, tid: int, tgid: int) -> bool:
        try:
            return _status(tid, "Tgid") == tgid
        except OSError:
            raise Gone from None

    def _meet(self, tid: int) -> Thread:
        while len(self._threads) >= self._most_threads:
            self._threads.pop(next(iter(self._threads)))
        try:
            tgid = _status(tid, "Tgid")
            started = _started(tgid)
            process = self._processes.get(tgid)
            if process is None or process.started != started:
                memory = os.open(f"/proc/{tgid}/mem", os.O_RDONLY)
                process = _Process(started, self._new_mm(tid, tgid), memory)
                self._remember(tgid, process)
            thread = Thread(
                tid, tgid, process.mm, self._kernel, self._files, self._listener, self._task_type
            )
        except OSError as error:
            self._listener.require_valid()
            raise Unreachable(f"{comm(tid)}[{tid}]: {error.strerror}") from error
        self._threads[tid] = thread
        return thread

    def _new_mm(self, tid: int, tgid: int) -> AddressSpace:
        parent = _status(tgid, "PPid")
        process = self._processes.get(parent)
        if process is not None and _share_memory(tgid, parent):  # it was vforked
            return process.mm
        mm = AddressSpace(tgid, self._listener.require_valid)
        mm.begin(tid)
        mm.know_by(_at_random(tgid), _MARK)
        return mm

    def _remember(self, tgid: int, process: _Process) -> None:
        if len(self._processes) >= self._most_threads:
            for each in [pid for pid in self._processes if not os.path.exists(f"/proc/{pid}")]:
                self.ended(each)
        self.ended(tgid)
        self._processes[tgid] = process

    def exits(self, tid: int) -> None:
        """A thread calls exit_group: its process will not call again."""
        if tid in self._threads:
            self.ended(self._threads[tid].tgid)

    def ended(self, tgid: int) -> None:
        """The process is gone, or has become another: its number is somebody else's."""
        for tid in [tid for tid, thread in self._threads.items() if thread.tgid == tgid]:
            del self._threads[tid]
        if tgid in self._processes:
            os.close(self._processes.pop(tgid).memory)


def _has_left(process: _Process, tgid: int) -> bool:
    """Whether the process has other memory than it had: it called exec, or is gone."""
    with suppress(OSError):  # the memory is somebody's, though nothing is at 0
        if os.pread(process.memory, 1, 0) == b"":
            return True
    # Who was vforked and leaves its parent's memory does not end it.
    return process.mm.tgid != tgid and not _share_memory(tgid, process.mm.tgid)


def _at_random(tgid: int) -> int:
    """Where the mark of a process's address space is. OSError."""
    with open(f"/proc/{tgid}/auxv", "rb") as auxv:
        entries = dict(iter_unpack("=QQ", auxv.read()))
    return int(entries.get(_AT_RANDOM, 0))


def _share_memory(tgid: int, other: int) -> bool:
    try:
        return kcmp(tgid, other, KCMP_VM) == 0
    except OSError:
        return False


def _status(tid: int, field: str) -> int:
    """A number in /proc/TID/status. OSError: there is no such thread."""
    with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as status:
        for line in status:
            name, _, value = line.partition(":")
            if name == field:
                return int(value)
    raise OSError(f"/proc/{tid}/status has no {field}")


def _started(tgid: int) -> int:
    with open(f"/proc/{tgid}/stat", encoding="utf-8", errors="replace") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])
