# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's locks, written where the C has them.

Rule of this file: a lock never changes an answer. The model runs one call at a time; a lock is here
for the reader who compares with the C, and for a `LockWatcher`, which sees every acquisition and
can so record the lock order or let another task in.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class LockWatcher(Protocol):
    """Told of every lock taken and dropped, by name."""

    def acquired(self, name: str) -> None: ...
    def released(self, name: str) -> None: ...


class Lock:
    """One mutex, with the name it has in the C. Taking it twice is the deadlock it is in Linux."""

    __slots__ = ("held", "name", "watcher")

    def __init__(self, name: str, watcher: LockWatcher | None = None) -> None:
        self.name = name
        self.watcher = watcher
        self.held = False

    def __enter__(self) -> None:
        if self.held:
            raise RuntimeError(f"{self.name} is taken by the task that holds it: a deadlock")
        self.held = True
        if self.watcher:
            self.watcher.acquired(self.name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.held = False
        if self.watcher:
            self.watcher.released(self.name)
