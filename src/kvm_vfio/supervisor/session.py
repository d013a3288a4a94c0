# SPDX-License-Identifier: GPL-2.0-only
"""Three processes and how they end: the front, the supervisor, the program with its descendants.

Rule of this file: whichever is killed, the others end, and nothing is left.

The front is what was started. It waits, and hands the signals that people and programs send it on
to the program. Those that a terminal sends reach the program by themselves, because all three are
in one process group. The supervisor is the front's child, the program the supervisor's. Both are
subreapers: a descendant that loses its parent becomes the supervisor's child, so the supervisor
knows when the last is gone; and if there is no supervisor any more, the front's.

A PID namespace would end everything with its first process too. But the program would have to be
that process, to which most signals do nothing, or the child of another one, and would see numbers
that nobody else does.

We stay as long as any descendant of the program lives, as strace -f does: it could not use its
devices any more. A signal that comes after the program itself has ended ends them.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress

from kvm_vfio.supervisor.libc import prctl_subreaper

_FORWARDED = {
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_PAUSE = 0.002  # seconds, between two looks at what is left
_KILLED = 2  # the front's exit status when the supervisor was killed

Mask = set[signal.Signals]


# -- the front -------------------------------------------------------------------------------------


def run(supervise: Callable[[socket.socket, Mask], int]) -> int:
    """Fork the supervisor, which calls `supervise`, and wait for it. The exit status.

    `supervise` gets a socket, over which it sends a pidfd of the program, and the signal mask that
    the program is to have. The socket's end means to each side that the other is gone.
    """
    mask = {signal.Signals(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)}
    prctl_subreaper()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor = os.fork()
    if supervisor == 0:
        ours.close()
        _in_child(lambda: supervise(theirs, mask))
    theirs.close()
    keep_off_the_terminal()
    _, fds, _, _ = socket.recv_fds(ours, 1, 1)
    return _wait(supervisor, fds[0] if fds else None, ours)


_WAITED_FOR = _FORWARDED | {signal.SIGCHLD}


def _in_child(supervise: Callable[[], int]) -> None:
    """Never returns."""
    status = _KILLED
    try:
        prctl_subreaper()
        status = supervise()
    except BaseException:  # noqa: BLE001 - nobody above would show it
        traceback.print_exc()
    finally:
        os._exit(status)


def keep_off_the_terminal() -> None:
    """Standard input and output are the program's; who else has them open keeps a pipe open."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def _wait(supervisor: int, program: int | None, channel: socket.socket) -> int:
    while True:
        pid, status = os.waitpid(supervisor, os.WNOHANG)
        if pid:
            break
        info = signal.sigwaitinfo(_WAITED_FOR)
        if info.si_signo != signal.SIGCHLD and info.si_code <= 0:  # sent by kill, not a terminal
            _forward(info.si_signo, program, channel)
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    end_children()
    return _KILLED


def _forward(number: int, program: int | None, channel: socket.socket) -> None:
    # A program that has ended, reaped or not, hears nothing any more.
    if program is None or select.select([program], [], [], 0)[0]:
        with suppress(OSError):
            channel.shutdown(socket.SHUT_RDWR)
        return
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(program, number)


# -- the supervisor --------------------------------------------------------------------------------


class Reaper:
    """Waits for every child, in a thread of its own: the supervisor itself waits for calls.

    `ended` is true when the program and all that it started are gone; `status` is then the
    program's, as waitpid gives it.
    """

    def __init__(self, program: int) -> None:
        self.ended = False
        self.status = 0
        self._program = program
        self._noticed = threading.Event()
        self._main = threading.main_thread().ident or 0

    def start(self) -> None:
        """Begin to wait. Call it in the thread that is to be woken at the end."""
        signal.signal(signal.SIGURG, lambda _number, _frame: None)
        threading.Thread(target=self._reap, daemon=True).start()

    def has_ended(self) -> bool:
        """Whether all are gone; saying so once ends the waking."""
        if self.ended:
            self._noticed.set()
        return self.ended

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, 0)
                if pid == self._program:
                    self.status = status
        self.ended = True
        # A signal may come just before the main thread begins to wait, and be lost on it.
        while not self._noticed.wait(_PAUSE):
            signal.pthread_kill(self._main, signal.SIGURG)

    def end_all(self) -> None:
        """Kill every descendant."""
        while not self.ended:
            kill_children()
            time.sleep(_PAUSE)

    def end_all_with(self, channel: socket.socket) -> None:
        """Kill every descendant when the other end of `channel` is gone."""

        def watch() -> None:
            with suppress(OSError):
                channel.recv(1)  # nothing is ever sent
            self.end_all()

        threading.Thread(target=watch, daemon=True).start()


def end_children() -> None:
    """Kill our children, and theirs when they become ours, and wait for all of them."""
    with suppress(ChildProcessError):
        while True:
            kill_children()
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
            time.sleep(_PAUSE)


def kill_children() -> None:
    """SIGKILL to every child that we have now."""
    for pid in _children():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _children() -> Iterator[int]:
    ours = os.getpid()
    for pid in map(int, filter(str.isdecimal, os.listdir("/proc"))):
        with suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            if int(f.read().rpartition(")")[2].split()[1]) == ours:
                yield pid
