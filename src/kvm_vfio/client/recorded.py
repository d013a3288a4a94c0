# SPDX-License-Identifier: GPL-2.0-only
"""A process on a model kernel whose calls are recorded, as those of a supervised program are.

Rule of this file: it tells, and changes no answer. Each `ModelSyscalls` is a thread of its own in
the records; a forked one is another process too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from errno import ENOTTY
from itertools import count
from typing import Literal, Self, TypeVar

from msgspec import Struct

from kvm_vfio.client.in_process import OUR_NODES, ModelSyscalls, answering
from kvm_vfio.errors import NotModelled
from kvm_vfio.faults import Faults, kind_of_node
from kvm_vfio.kernel.file import FdTable, File, OtherFile
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.memory import AddressSpace
from kvm_vfio.syscalls import Buffer, MemoryBuffer
from kvm_vfio.trace.recording import Recording
from kvm_vfio.trace.requests import decode, find_request
from kvm_vfio.trace.watched import Seen, WatchedTask

_ADDRESS = (1 << 64) - 1
_NUMBER = 0xFFFF_FFFF
_COMM = "python"

Result = TypeVar("Result")


class _Open(Struct):
    path: str
    flags: int


class _Region(Struct):
    size: int
    offset: int


class _WatchedFiles:
    """`Files` of the model's tasks: a table that lets `seen` know of what comes in."""

    def __init__(self, files: FdTable, seen: Seen) -> None:
        self._files = files
        self._seen = seen
        self.get = files.get

    def install(self, file: File) -> int:
        """`Files.install`."""
        fd = self._files.install(file)
        self._seen.installed(file, fd)
        return fd


class _Programs:
    """What the processes of one recording have in common."""

    def __init__(self) -> None:
        self.ids: Iterator[int] = count(1)
        self.tables: list[FdTable] = []

    def has_open(self, file: File) -> bool:
        """Whether some process has a number for `file`."""
        return any(
            table.peek(number) is file for table in self.tables for number in table.numbers()
        )


class RecordedSyscalls(ModelSyscalls):
    """`ModelSyscalls`, recorded. `programs` and `pid` come from the process it is born of."""

    def __init__(
        self,
        kernel: Kernel,
        recording: Recording,
        *,
        files: FdTable | None = None,
        mm: AddressSpace | None = None,
        lock_limit: int | None = None,
        faults: Faults | None = None,
        programs: _Programs | None = None,
        pid: int | None = None,
    ) -> None:
        super().__init__(kernel, files=files, mm=mm, lock_limit=lock_limit)
        self._recording = recording
        self._faults = faults
        if faults is not None:
            faults.changed = recording.changed
        if programs is None:
            recording.start(kernel, "python", sys.argv[:1])
            programs = _Programs()
        self._programs = programs
        self._tid = next(self._programs.ids)
        self._pid = self._tid if pid is None else pid
        self._cause: Literal["close", "exit"] = "close"
        if pid is None:
            self._programs.tables.append(self.files)
        seen = recording.seen
        files_seen = _WatchedFiles(self.files, seen)
        self.task = WatchedTask(kernel, files_seen, self.mm, lock_limit=lock_limit, seen=seen)
        recording.task(self._tid, self._pid, _COMM)

    def _another(self, files: FdTable, mm: AddressSpace) -> Self:
        same = files is self.files
        return type(self)(
            self.kernel,
            self._recording,
            files=files,
            mm=mm,
            lock_limit=self.task.lock_limit,
            faults=self._faults,
            programs=self._programs,
            pid=self._pid if same else None,
        )

    # -- the waist ---------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        if not path.startswith(OUR_NODES):
            return super().open(path, flags)

        def call() -> int:
            self._before("open", kind_of_node(path))
            fd = super(RecordedSyscalls, self).open(path, flags)
            self._seen(fd)
            return fd

        return self._record("open", call, args=_Open(path, flags))

    def close(self, fd: int) -> None:
        file = self.files.peek(fd)
        if file is None or isinstance(file, OtherFile):
            super().close(fd)
            return
        file.get()  # until it is known whether that was its last number
        super().close(fd)
        last = not self._programs.has_open(file)
        if last:
            by = f"fd {fd} of {_COMM}[{self._pid}], which exited" if self._cause == "exit" else ""
            self._recording.closing(file, self._cause, by)
        file.put()
        if last:
            self._recording.closed()

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        recording, file = self._recording, self.files.get(fd)
        if file is None or isinstance(file, OtherFile):
            return super().ioctl(fd, request, arg)
        address = arg & _ADDRESS if isinstance(arg, int) else arg.address
        recording.begin()
        answer, why, modelled = -ENOTTY, "", True
        try:
            self._before(find_request(type(file), request).name, file)
            answer = super().ioctl(fd, request, arg)
        except OSError as error:
            answer, why = -(error.errno or 0), _why(error)
            raise
        except NotModelled as error:
            why, modelled = str(error), False
            raise
        else:
            return answer
        finally:
            name, args, out = decode(type(file), request & _NUMBER, address, recording.seen)
            recording.answered(
                self._tid,
                name,
                answer,
                fd=fd,
                file=file,
                args=args,
                out=out,
                why=why,
                fault=self._fired(),
                modelled=modelled,
            )

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        call = super().pread
        return self._record(
            "pread64", lambda: call(fd, size, offset), fd, _Region(size, offset), answer=len
        )

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        call = super().pwrite
        return self._record(
            "pwrite64", lambda: call(fd, data, offset), fd, _Region(len(data), offset)
        )

    def mmap(self, fd: int, size: int, offset: int = 0, *, writable: bool = True) -> MemoryBuffer:
        call = super().mmap
        if fd == -1:
            return call(fd, size, offset, writable=writable)
        return self._record(
            "mmap",
            lambda: call(fd, size, offset, writable=writable),
            fd,
            _Region(size, offset),
            answer=lambda _: 0,
        )

    def exit(self) -> None:
        self._cause = "exit"
        super().exit()
        self._programs.tables.remove(self.files)

    # -- records -----------------------------------------------------------------------------------

    def _record(
        self,
        name: str,
        call: Callable[[], Result],
        fd: int | None = None,
        args: Struct | None = None,
        *,
        answer: Callable[[Result], int] = int,  # type: ignore[assignment]  # most answer a number
    ) -> Result:
        recording = self._recording
        file = None if fd is None else self.files.get(fd)
        recording.begin()
        try:
            if file is not None:
                self._before(name, file)
            result = call()
        except OSError as error:
            number, why = -(error.errno or 0), _why(error)
            recording.answered(
                self._tid,
                name,
                number,
                fd=fd,
                file=file,
                args=args,
                why=why,
                fault=self._fired(),
            )
            raise
        if fd is not None:
            recording.seen.looked_up.pop(fd, None)  # it is what the call was made on
        recording.answered(self._tid, name, answer(result), fd=fd, file=file, args=args)
        return result

    def _before(self, call: str, file: File | str) -> None:
        if self._faults is not None:
            with answering(call):
                self._faults.before(call, file)

    def _fired(self) -> str:
        return "" if self._faults is None else self._faults.fired

    def _seen(self, fd: int) -> None:
        file = self.files.peek(fd)
        if file is not None:
            self._recording.seen.installed(file, fd)


def _why(error: OSError) -> str:
    """The reason in the note that `ModelSyscalls` gives its errors: "call: reason"."""
    return next(iter(getattr(error, "__notes__", [])), "").partition(": ")[2]
