# SPDX-License-Identifier: GPL-2.0-only
"""Ranges of numbers that do not overlap, sorted, at a cost that stays flat.

Rule of this file: it stands where the kernel has a red-black tree of DMA mappings, and is as fast
with 65,535 of them as with ten: the ranges lie in short runs, so that no insertion moves more than
one run.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

_RUN = 512  # ranges in one run before it is cut in two


class Range(Protocol):
    """Something that covers `size` numbers from `start`."""

    @property
    def start(self) -> int: ...
    @property
    def size(self) -> int: ...


Item = TypeVar("Item", bound=Range)


class Intervals(Generic[Item]):
    """A set of ranges, found by what they cover."""

    __slots__ = ("_at", "_firsts", "_runs")

    def __init__(self) -> None:
        self._at: dict[int, Item] = {}  # start -> range
        self._runs: list[list[int]] = [[]]  # the starts, ascending
        self._firsts: list[int] = [0]  # the first start in each run; the first run may begin at 0

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[Item]:
        for run in self._runs:
            for start in run:
                yield self._at[start]

    def add(self, item: Item) -> None:
        """Put `item` in. The caller has seen to it that it overlaps nothing."""
        self._at[item.start] = item
        index = bisect_right(self._firsts, item.start) - 1
        run = self._runs[index]
        insort(run, item.start)
        if len(run) > _RUN:
            half = run[_RUN // 2 :]
            del run[_RUN // 2 :]
            self._runs.insert(index + 1, half)
            self._firsts.insert(index + 1, half[0])

    def remove(self, item: Item) -> None:
        """Take `item` out."""
        del self._at[item.start]
        index = bisect_right(self._firsts, item.start) - 1
        run = self._runs[index]
        del run[bisect_right(run, item.start) - 1]
        if not run and index:
            del self._runs[index], self._firsts[index]
        elif index:
            self._firsts[index] = run[0]  # so that what comes before it ends before it

    def clear(self) -> None:
        """Take everything out."""
        self.__init__()  # type: ignore[misc]  # the empty state, in one place

    def exact(self, start: int, size: int) -> Item | None:
        """The range of just these `size` numbers from `start`."""
        item = self._at.get(start)
        return item if item is not None and item.size == size else None

    def first(self, start: int, size: int) -> Item | None:
        """The lowest range that shares a number with the `size` numbers from `start`."""
        index = bisect_right(self._firsts, start) - 1
        while index < len(self._runs):
            run = self._runs[index]
            at = max(bisect_right(run, start) - 1, 0)
            for candidate in run[at : at + 2]:
                item = self._at[candidate]
                if candidate >= start + size:
                    return None
                if candidate + item.size > start:
                    return item
            index += 1
        return None
