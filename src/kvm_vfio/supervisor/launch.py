# SPDX-License-Identifier: GPL-2.0-only
"""Start the program: a child of ours, in namespaces of its own, under the filter.

Rule of this file: between fork and exec the child imports nothing and opens nothing that would
have to wait for the supervisor. What goes wrong there is told to the parent in one message.

The child sends its listener and the directory for our files over a socket that closes on exec. The
socket's end without a further message means that the program runs.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from errno import EACCES, EBUSY, EINVAL, ENOENT, ENOSYS, ENOTDIR

from kvm_vfio.errors import KvmVfioError, Unsupported
from kvm_vfio.supervisor.libc import (
    prctl_no_new_privs,
    prctl_parent_death,
    seccomp_set_mode_filter,
)
from kvm_vfio.uapi.seccomp import (
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
)

_READY, _REFUSED, _NO_EXEC = b"ready", b"refused", b"exec"
_MESSAGE = 4096
_MOST_FDS = 8


@dataclass(frozen=True, slots=True)
class Launched:
    """The program before its exec.

    `fds`: the listener, then what `private` returned; `channel`: where the child tells of failure.
    """

    pid: int
    pidfd: int
    fds: list[int]
    channel: socket.socket


def launch(
    command: Sequence[str],
    program: bytes,
    private: Callable[[], list[int]],
    mask: set[signal.Signals],
) -> Launched:
    """Fork a child that runs `command` under the BPF `program`.

    `private` runs in the child, makes its namespaces and returns fds for us. `mask` is the signal
    mask that the program starts with. Unsupported, with the reason.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        prctl_parent_death(signal.SIGKILL)
        if os.getppid() != parent:  # it was too late for that
            os._exit(2)
        ours.close()
        _become(command, program, private, mask, theirs)
    theirs.close()
    message, fds, _, _ = socket.recv_fds(ours, _MESSAGE, _MOST_FDS)
    if message != _READY:
        os.waitpid(pid, 0)
        raise Unsupported(message.removeprefix(_REFUSED).decode() or "the program was killed")
    return Launched(pid, os.pidfd_open(pid), fds, ours)


def _become(
    command: Sequence[str],
    program: bytes,
    private: Callable[[], list[int]],
    mask: set[signal.Signals],
    channel: socket.socket,
) -> None:
    """Never returns."""
    try:
        fds = private()
        fds.insert(0, _install(program))
        socket.send_fds(channel, [_READY], fds)
        for fd in fds:
            os.close(fd)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        channel.send(_NO_EXEC + str(_exec(command)).encode())
    except KvmVfioError as error:
        channel.send(_REFUSED + str(error).encode())
    except OSError as error:
        channel.send(_REFUSED + f"the program cannot be started: {error}".encode())
    finally:
        os._exit(2)


def _install(program: bytes) -> int:
    """Put the filter over this process: the listener. Unsupported."""
    if os.geteuid() != 0:
        prctl_no_new_privs()
    try:
        return _set_filter(program)
    except OSError as error:
        raise Unsupported(_REASONS.get(error.errno or 0, f"seccomp(2): {error}")) from error


def _set_filter(program: bytes) -> int:
    killable = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
    try:
        return seccomp_set_mode_filter(killable, program)
    except OSError as error:
        if error.errno != EINVAL:
            raise
    # Before Linux 5.19 a signal may interrupt a call that we have received already.
    return seccomp_set_mode_filter(SECCOMP_FILTER_FLAG_NEW_LISTENER, program)


TOO_OLD = (
    "this kernel has no seccomp user notification that hands out files; use Linux 5.9 or newer"
)
_REASONS = {
    EBUSY: "something around kvm-vfio uses seccomp user notification (a container runtime, another"
    " kvm-vfio), and Linux allows one at a time; start kvm-vfio outside of it",
    EINVAL: TOO_OLD,
    ENOSYS: TOO_OLD,
}


def _exec(command: Sequence[str]) -> int:
    """execvp: the errno with which it failed."""
    if "/" in command[0]:
        return _execve(command[0], command)
    refused = ENOENT
    for directory in os.get_exec_path():
        errno = _execve(os.path.join(directory, command[0]), command)
        if errno not in (ENOENT, ENOTDIR):
            refused = errno
            if errno != EACCES:
                break
    return refused


def _execve(path: str, command: Sequence[str]) -> int:
    try:
        os.execve(path, list(command), os.environb)  # noqa: S606 - no shell: the purpose
    except OSError as error:
        return error.errno or ENOENT
    except ValueError:  # a null character; no such file can exist
        return ENOENT


def exec_error(channel: socket.socket) -> int:
    """The errno with which exec failed, 0 if it did not; call it when the child is gone."""
    message = channel.recv(_MESSAGE)
    return int(message.removeprefix(_NO_EXEC)) if message.startswith(_NO_EXEC) else 0
