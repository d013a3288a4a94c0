# SPDX-License-Identifier: GPL-2.0-only
"""Queues in the host's memory, and the events that wait for a request (sections 4.1, 5.2).

Rule of this file: positions and arithmetic. Who reads and writes the entries is the controller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from kvm_vfio.kernel.pci.nvme.spec import Event, Log


@dataclass(slots=True, eq=False)
class CompletionQueue:
    """The controller writes at `tail`; the host has read up to `head`. `vector` None: silent.

    `phase` is the bit by which the host knows a new entry: it turns with each round. `backlog` are
    entries, without their phase, that found the queue full.
    """

    base: int
    size: int
    vector: int | None
    head: int = 0
    tail: int = 0
    phase: int = 1
    backlog: deque[tuple[int, int, int, int, int]] = field(default_factory=deque)

    @property
    def full(self) -> bool:
        """One place is always free, or a full queue would look like an empty one."""
        return (self.tail + 1) % self.size == self.head

    def advance(self) -> None:
        """An entry was written."""
        self.tail = (self.tail + 1) % self.size
        if not self.tail:
            self.phase ^= 1

    def may_move_to(self, head: int) -> bool:
        """Whether the host can have read up to there."""
        return (head - self.head) % self.size <= (self.tail - self.head) % self.size


@dataclass(slots=True, eq=False)
class SubmissionQueue:
    """The host has written up to `tail`; the controller reads at `head`."""

    identifier: int
    base: int
    size: int
    completion: CompletionQueue
    head: int = 0
    tail: int = 0


@dataclass(slots=True)
class Events:
    """Asynchronous events: who waits for one, and what there is to tell.

    An event that was told hides others of its kind until the host has read its log page.
    """

    requests: deque[int] = field(default_factory=deque)  # command identifiers
    waiting: deque[Event] = field(default_factory=deque)
    told: dict[int, Log] = field(default_factory=dict)  # kind -> the page that clears it

    def add(self, event: Event) -> None:
        """Something happened."""
        if event not in self.waiting:
            self.waiting.append(event)

    def next(self) -> tuple[int, Event] | None:
        """A request, and what it is told."""
        event = next((each for each in self.waiting if each.kind not in self.told), None)
        if event is None or not self.requests:
            return None
        self.waiting.remove(event)
        self.told[event.kind] = event.log
        return self.requests.popleft(), event

    def clear(self, log: Log) -> None:
        """The host has read a log page."""
        self.told = {kind: each for kind, each in self.told.items() if each is not log}
