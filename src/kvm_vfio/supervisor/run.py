# SPDX-License-Identifier: GPL-2.0-only
"""`run`: a program on a described machine, from its start to the report.

Rule of this file: it puts the parts together, in the supervisor's process.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from errno import ENOENT, ENOTDIR

from kvm_vfio.errors import KvmVfioError, Unsupported
from kvm_vfio.faults import Fault, Faults
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.x86.supposed import SupposedCaches
from kvm_vfio.machine.model import Machine
from kvm_vfio.machine.storage import open_storage
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.supervisor.calls import Kind
from kvm_vfio.supervisor.filter import assemble
from kvm_vfio.supervisor.kvm_host import require_kcmp
from kvm_vfio.supervisor.launch import TOO_OLD, Launched, exec_error, launch
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.supervisor.loop import Supervisor
from kvm_vfio.supervisor.namespace import private
from kvm_vfio.supervisor.notify import Listener
from kvm_vfio.supervisor.session import Mask, Reaper, keep_off_the_terminal
from kvm_vfio.supervisor.session import run as run_front
from kvm_vfio.supervisor.summary import summary
from kvm_vfio.supervisor.sysfs import dev_tree, sys_tree
from kvm_vfio.supervisor.tracing import Tracer
from kvm_vfio.trace.fanout import fan_out
from kvm_vfio.trace.recorder import Recorder

_NOT_EXECUTABLE, _NOT_FOUND, _REFUSED = 126, 127, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to run, and on what. `report` and `trace` are open fds, or None for none.

    `faults` happen to the program, by chance from `fault_seed`.
    `caches`: DMA that does not snoop goes past the CPU caches.
    """

    command: Sequence[str]
    machine: Machine
    profile: Profile
    host_kvm: bool
    report: int | None = 2
    trace: int | None = None
    faults: Sequence[Fault] = ()
    fault_seed: int = 0
    caches: bool = False


def run(options: Options) -> int:
    """Run the program; its exit status, 128 + n for a signal, 126 and 127 as shells have it, or 2.

    Unsupported, before anything is started.
    """
    if not NR:
        raise Unsupported(f"there is no table of system calls for {os.uname().machine}")
    if options.host_kvm:
        require_kcmp()
    return run_front(lambda front, mask: _supervise(options, front, mask))


def _supervise(options: Options, front: socket.socket, mask: Mask) -> int:
    try:
        return _Session(options, front).run(mask)
    except KvmVfioError as error:
        _say(str(error))
        return _REFUSED


def _say(text: str) -> None:
    write_all(2, f"kvm-vfio: {text}\n".encode())


class _Session:
    """One run, in the supervisor's process."""

    def __init__(self, options: Options, front: socket.socket) -> None:
        self._options = options
        self._front = front
        self._recorder: Recorder[Kind] = Recorder()
        self._tracer = None if options.trace is None else Tracer(options.trace)
        self._kernel = Kernel(
            options.machine,
            options.profile,
            observer=self._observer(),
            open_storage=open_storage,
            now=lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            real_time=time.time_ns,
            caches=self._caches() if options.caches else None,
            online_cpus=os.cpu_count() or 1,
        )

    def _caches(self) -> SupposedCaches:
        return SupposedCaches(lambda: list(self._kernel.vms.values()))

    def _observer(self) -> Observer:
        if self._tracer is None:
            return self._recorder
        return fan_out(self._recorder, self._tracer.recording)

    def run(self, mask: Mask) -> int:
        """The exit status."""
        options, kernel = self._options, self._kernel
        dev = dev_tree(kernel, kvm=not options.host_kvm)
        sys = sys_tree(kernel)
        program = assemble("host" if options.host_kvm else "model", os.uname().machine)
        launched = launch(options.command, program, lambda: private(dev, sys), mask)
        reaper = Reaper(launched.pid)
        reaper.start()
        reaper.end_all_with(self._front)
        try:
            socket.send_fds(self._front, [b"started"], [launched.pidfd])
            keep_off_the_terminal()
            _raise_file_limit()
            if self._tracer is not None:
                kvm = "host" if options.host_kvm else "model"
                self._tracer.recording.start(kernel, kvm, list(options.command))
            supervisor = self._supervisor(launched)
            # What there is now stays for the whole run: nothing to look for garbage in.
            gc.freeze()
            supervisor.serve(reaper.has_ended, reaper.end_all)
        except ConnectionError:  # the front is gone
            reaper.end_all()
            return _REFUSED
        except BaseException:
            reaper.end_all()
            raise
        if self._tracer is not None:
            self._tracer.end(_exit_status(reaper.status))
        return self._status(supervisor, exec_error(launched.channel), reaper.status)

    def _supervisor(self, launched: Launched) -> Supervisor:
        fd, directory, dev = launched.fds
        listener = Listener(fd)
        try:
            listener.require_add_fd()
        except OSError:
            raise Unsupported(TOO_OLD) from None
        names = ["vfio/vfio", *(f"vfio/{number}" for number in self._kernel.vfio_groups)]
        if not self._options.host_kvm:
            names.append("kvm")
        nodes = {}
        for name in names:
            status = os.stat(name, dir_fd=dev)
            nodes[status.st_dev, status.st_ino] = f"/dev/{name}"
        os.close(dev)
        return Supervisor(
            self._kernel,
            self._recorder,
            listener,
            directory,
            nodes,
            host_kvm=self._options.host_kvm,
            tracer=self._tracer,
            faults=self._faults(),
        )

    def _faults(self) -> Faults | None:
        options = self._options
        if not options.faults:
            return None
        return Faults(options.faults, self._kernel, seed=options.fault_seed)

    def _status(self, supervisor: Supervisor, errno: int, status: int) -> int:
        if errno:
            _say(f"{self._options.command[0]}: {os.strerror(errno).lower()}")
            return _NOT_FOUND if errno in (ENOENT, ENOTDIR) else _NOT_EXECUTABLE
        if self._options.report is not None:
            write_all(self._options.report, summary(supervisor, self._setting()).encode())
        if supervisor.refusal is not None:
            _say(supervisor.refusal)
            return _REFUSED
        return _exit_status(status)

    def _setting(self) -> str:
        kvm = (
            "this computer's KVM"
            if self._options.host_kvm
            else "the model's KVM, which runs no guest code"
        )
        return f"machine {self._options.machine.name}, Linux {self._options.profile.name}, {kvm}"


def _exit_status(status: int) -> int:
    """What a shell makes of waitpid's status."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _raise_file_limit() -> None:
    """Every thread of the program costs us a file; the program itself keeps its limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def write_all(fd: int, data: bytes) -> None:
    """write(2) until everything is written, or nobody reads any more."""
    with suppress(BrokenPipeError):
        while data:
            data = data[os.write(fd, data) :]
