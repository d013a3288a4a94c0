# SPDX-License-Identifier: GPL-2.0-only
"""The eventfds of a program, while the model holds them.

Rule of this file: an eventfd stays the program's and the kernel's; we have a number of our own for
it as long as the model has it, and that is what the model signals.

Which eventfd a number means says its eventfd-id, which Linux gives to one at a time: it is that of
an eventfd we hold as long as we hold it.

An irqfd waits for an eventfd. What the model signals it hears at once. What the program signals by
itself we hear of before its next call that waits for us (`drain`), and at its end; until then the
count stands in the eventfd, where Linux would have taken it at once. We do not hear of the last
close, since our own number keeps the eventfd: an irqfd lives until it or its VM is taken away.
"""

from __future__ import annotations

import os
import select
from errno import EBADF

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile, Waiter
from kvm_vfio.supervisor.libc import pidfd_getfd

_EDGE = select.EPOLLIN | select.EPOLLET  # each signal once, whether or not somebody takes it


class ProgramEvents:
    """Every eventfd that the model holds, by its id."""

    def __init__(self) -> None:
        self._held: dict[str, ProgramEvent] = {}
        self._waited: dict[int, ProgramEvent] = {}  # by our number
        self._poll: select.epoll | None = None

    def find(self, pid: int, fd: int, identity: str | None) -> ProgramEvent:
        """The eventfd behind `fd` of process `pid`; one without an id is always a new one."""
        held = self._held.get(identity) if identity is not None else None
        return held or ProgramEvent(self, pid, fd, identity)

    def drain(self) -> None:
        """Let the model know of every signal until now, of those it waits for."""
        if self._poll is not None and self._waited:
            for number, _ in self._poll.poll(0):
                self._waited[number].heard()

    def hold(self, event: ProgramEvent) -> None:
        """`event` has a number of ours."""
        if event.identity is not None:
            self._held[event.identity] = event

    def let_go(self, event: ProgramEvent) -> None:
        """It will have none any more."""
        if event.identity is not None:
            del self._held[event.identity]

    def watch(self, event: ProgramEvent, number: int) -> None:
        """Somebody waits for `event`. That it may be signalled already is no signal."""
        if self._poll is None:
            self._poll = select.epoll()
        self.drain()
        self._poll.register(number, _EDGE)
        self._poll.poll(0)
        self._waited[number] = event

    def unwatch(self, number: int) -> None:
        """Nobody waits for it any more."""
        if self._poll is not None:
            self._poll.unregister(number)
        del self._waited[number]


class _Waiters(list[Waiter]):
    """Who waits for an eventfd; it hears of the first and the last."""

    def __init__(self, event: ProgramEvent) -> None:
        super().__init__()
        self._event = event

    def append(self, waiter: Waiter) -> None:
        super().append(waiter)
        if len(self) == 1:
            self._event.begin_to_wait()

    def remove(self, waiter: Waiter) -> None:
        super().remove(waiter)
        if not self:
            self._event.cease_to_wait()


class ProgramEvent(EventFile):
    """One eventfd. `count` is not ours: the kernel has it."""

    __slots__ = ("_events", "_fd", "_pid", "_their_fd", "identity")

    def __init__(self, events: ProgramEvents, pid: int, fd: int, identity: str | None) -> None:
        super().__init__()
        self.waiters = _Waiters(self)
        self.identity = identity
        self._events = events
        self._pid, self._their_fd, self._fd = pid, fd, -1

    def hold(self) -> None:
        """Have a number of our own. EBADF: it is closed meanwhile."""
        if not self.holders:
            self._fd = duplicate(self._pid, self._their_fd)
            self._events.hold(self)
        super().hold()

    def let_go(self) -> None:
        """The last one lets our number go."""
        super().let_go()
        if not self.holders:
            self._events.let_go(self)
            os.close(self._fd)

    def signal(self) -> None:
        """Add 1 to the program's counter (a full one stays so); then those who wait hear of it."""
        if self._is(select.POLLOUT):
            os.eventfd_write(self._fd, 1)
        self._events.drain()

    def take(self) -> None:
        """Take the program's counter to 0."""
        if self.is_signalled():
            os.eventfd_read(self._fd)

    def is_signalled(self) -> bool:
        """Whether the program's counter is above 0."""
        return self._is(select.POLLIN)

    def _is(self, state: int) -> bool:
        poll = select.poll()
        poll.register(self._fd, state)
        return bool(poll.poll(0))

    def heard(self) -> None:
        """It has been signalled."""
        for waiter in list(self.waiters):
            waiter.woken()

    def begin_to_wait(self) -> None:
        """There is somebody who waits."""
        self._events.watch(self, self._fd)

    def cease_to_wait(self) -> None:
        """There is nobody any more."""
        self._events.unwatch(self._fd)


def duplicate(pid: int, fd: int) -> int:
    """Our own number for the file behind `fd` of process `pid`. EBADF."""
    try:
        pidfd = os.pidfd_open(pid)
        try:
            return pidfd_getfd(pidfd, fd)
        finally:
            os.close(pidfd)
    except OSError as error:
        raise KernelError(EBADF, f"fd {fd} of process {pid} is not open") from error
