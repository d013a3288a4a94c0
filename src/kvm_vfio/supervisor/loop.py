# SPDX-License-Identifier: GPL-2.0-only
"""The supervisor's wheel: receive a call, let the model answer, send the answer.

Rule of this file: whatever a program does, it gets an answer and we go on. What the model does not
know is answered ENOTTY and reported by name; a bug of ours is answered EIO and reported as one.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from errno import EIO, ENOENT, ENOTTY
from typing import Literal

from kvm_vfio.errors import NotModelled
from kvm_vfio.faults import Faults
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.task import Task
from kvm_vfio.supervisor.calls import Kind, call_name
from kvm_vfio.supervisor.files import OpenFiles
from kvm_vfio.supervisor.kvm_host import HostVms
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.supervisor.memory import Stale
from kvm_vfio.supervisor.notify import Gone, Listener
from kvm_vfio.supervisor.paths import Nodes
from kvm_vfio.supervisor.processes import Processes, Unreachable
from kvm_vfio.supervisor.syscalls import (
    ARGUMENTS,
    CONTINUE,
    Arguments,
    OwnNotification,
    Syscalls,
    c_int,
)
from kvm_vfio.supervisor.tracing import Tracer
from kvm_vfio.trace.recorder import Recorder

_IOCTL = NR.get("ioctl")
_MOST_BUGS = 20
_PAUSE = 0.001  # seconds
_MOST_LEFT_OPEN = 200


class Supervisor:
    """One program and its descendants, on one kernel.

    `tracer` records every call; `faults` may refuse one before the model is asked.
    """

    def __init__(
        self,
        kernel: Kernel,
        recorder: Recorder[Kind],
        listener: Listener,
        directory: int,
        nodes: Nodes,
        *,
        host_kvm: bool,
        tracer: Tracer | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.kernel = kernel
        self.recorder = recorder
        self.answered = 0
        self.refusal: str | None = None  # why the program was not let go on, for people
        self.bugs: list[str] = []
        self.left_open: list[str] = []  # what processes held when they called exit
        self._listener = listener
        self._released: File | None = None
        self._files = OpenFiles(directory, self._releases)
        task_type = Task if tracer is None else tracer.task_type
        self._processes = Processes(kernel, self._files, listener, task_type)
        self._host_vms = HostVms(kernel) if host_kvm else None
        self._syscalls = Syscalls(
            kernel, self._processes, self._files, nodes, self._host_vms, self._exits, faults
        )
        self.faults = faults
        if faults is not None and tracer is not None:
            faults.changed = tracer.recording.changed
        self._over = False
        self._tracer = tracer
        if tracer is not None:
            self._files.installed = tracer.recording.seen.installed
        self._why, self._modelled = "", True  # of the answer at hand, for the trace
        self._held_at_exit: dict[File, str] = {}
        self._call: tuple[int, ...] = ()
        recorder.cause = self._cause
        if not host_kvm:
            self._files.by_link[b"/dev/kvm"] = KvmSystemFile(kernel)

    # -- the wheel ---------------------------------------------------------------------------------

    def serve(self, ended: Callable[[], bool], refuse: Callable[[], None]) -> None:
        """Answer until nobody is left to call, which `ended` says; `refuse` ends the programs."""
        while not ended():
            try:
                self._call = self._listener.receive()
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno != ENOENT:
                    raise
                time.sleep(_PAUSE)  # a call was over before we saw it, or the last caller is gone
                continue
            try:
                self._serve_one()
            except OwnNotification as error:
                self.refusal = str(error)
                refuse()
            except Exception:  # noqa: BLE001 - a bug of ours must not stop the program
                self._bug(traceback.format_exc())
                self._listener.answer(-EIO)
        self._over = True
        self._files.events.drain()
        self._files.drain()
        if self._host_vms is not None:
            self._host_vms.settle()

    def _serve_one(self) -> None:
        recorder = self.recorder
        if recorder.heard:
            recorder.begin()
        self._files.events.drain()
        self._files.drain()
        if self._host_vms is not None and self._host_vms.orphans:
            self._host_vms.settle()
        call = self._call
        try:
            if self._tracer is None:
                result = self._answer(call[1], call[3], call[ARGUMENTS:])
            else:
                result = self._answer_traced(self._tracer, call)
        except Gone:
            return
        if result == CONTINUE:
            self._listener.let_continue()
        else:
            self.answered += 1
            self._listener.answer(result)

    def _answer(self, tid: int, nr: int, arguments: Arguments) -> int:
        handler = self._syscalls.table[nr]
        try:
            try:
                return handler(tid, arguments)
            except Stale:
                self._processes.recheck(tid)
                return handler(tid, arguments)
        except KernelError as error:
            self._why = error.why
            self.recorder.failed(self._kind(), error.errno, error.why)
            return -error.errno
        except NotModelled as error:
            self._why, self._modelled = str(error), False
            self.recorder.unknown(str(error))
            return -ENOTTY
        except Unreachable as error:
            self._why = str(error)
            self.recorder.unreachable(str(error))
            return CONTINUE

    def _answer_traced(self, tracer: Tracer, call: tuple[int, ...]) -> int:
        syscalls = self._syscalls
        self._why, syscalls.file, syscalls.path, self._modelled = "", None, b"", True
        if self.faults is not None:
            self.faults.fired = ""
        tracer.recording.begin()
        result = self._answer(call[1], call[3], call[ARGUMENTS:])
        thread = self._processes.known(call[1])
        fault = "" if self.faults is None else self.faults.fired
        why, modelled = self._why, self._modelled
        tracer.answered(call, thread, syscalls.file, syscalls.path, result, why, fault, modelled)
        return result

    def _bug(self, text: str) -> None:
        self.bugs.append(text)
        del self.bugs[_MOST_BUGS:]

    # -- what is worth knowing ---------------------------------------------------------------------

    def handed_out(self) -> Mapping[str, int]:
        """How many files of each kind programs have opened."""
        return self._files.handed_out

    def trace_failure(self) -> str | None:
        """Why the trace is not whole, if it is not."""
        return None if self._tracer is None else self._tracer.writer.failure

    def _kind(self) -> Kind:
        """What makes two calls the same, as `call_name` takes it."""
        nr, request = self._call[3], self._call[ARGUMENTS + 1]
        if nr != _IOCTL:
            return nr, None, 0
        file = self._syscalls.file
        return nr, type(file) if file is not None else None, request & 0xFFFF_FFFF

    def _cause(self) -> str:
        if self._released is not None:
            return f"the last close of {self._released.name}"
        try:
            who = self._processes.thread(self._call[1]).name()
        except (Gone, Unreachable):
            who = "a thread that is gone"
        fd = c_int(self._call[ARGUMENTS])
        return f"{call_name(*self._kind())} on fd {fd} by {who}"

    def _exits(self, tid: int) -> None:
        """A process calls exit_group: what it has open now, it did not close itself."""
        if self._files:
            with suppress(Gone, Stale, Unreachable, OSError):
                thread = self._processes.thread(tid)
                for fd in map(int, os.listdir(f"/proc/{tid}/fd")):
                    file = thread.ours(fd)
                    if file is not None:
                        self._held_at_exit[file] = f"fd {fd} of {thread.name()}, which exited"
        self._processes.exits(tid)

    def _releases(self, file: File | None) -> None:
        if file is None:
            self._released = None
            if self._tracer is not None:
                self._tracer.recording.closed()
            return
        self._released = file
        holder = self._held_at_exit.pop(file, "")
        if self._tracer is not None:
            self._tracer.recording.closing(file, _cause(holder, over=self._over), holder)
        if holder or self._over:
            what = file.name
            if isinstance(file, KvmDeviceFile) and isinstance(file.device, KvmVfio):
                members = ", ".join(member.name for member in file.device.members)
                what += f" of VM {file.device.vm.number}, with {members or 'no member'}"
            self.left_open.append(f"{what}: {holder or 'of a process that was killed'}")
            del self.left_open[_MOST_LEFT_OPEN:]


def _cause(holder: str, *, over: bool) -> Literal["close", "exit", "kill"]:
    return "exit" if holder else "kill" if over else "close"
