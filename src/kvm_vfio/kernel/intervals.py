# SPDX-License-Identifier: GPL-2.0-only
"""Ranges of numbers that do not overlap, sorted, at a cost that hardly grows.

Rule of this file: it stands where the kernel has a red-black tree of DMA mappings, and is about as
fast with 65,535 of them as with ten. The ranges lie in runs, so that no insertion moves more than
one run. A search looks at bare numbers that lie side by side, and at no object: where there is
much, what takes time is to fetch it from memory, and moving some pages takes less.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

_RUN = 4096  # numbers in each half of a run that is cut in two; even


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
        self._runs = [array("Q")]  # start, last, start, last ..., ascending as the ranges do
        self._firsts = [0]  # the first start in each run; the first run may begin at 0

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[Item]:
        for run in self._runs:
            for start in run[::2]:
                yield self._at[start]

    def add(self, item: Item) -> None:
        """Put `item` in. The caller has seen to it that it overlaps nothing."""
        start = item.start
        self._at[start] = item
        index = bisect_right(self._firsts, start) - 1
        run = self._runs[index]
        at = bisect_left(run, start)
        run[at:at] = array("Q", (start, start + item.size - 1))
        if len(run) > 2 * _RUN:
            self._runs[index : index + 1] = run[:_RUN], run[_RUN:]
            self._firsts.insert(index + 1, run[_RUN])

    def remove(self, item: Item) -> None:
        """Take `item` out."""
        start = item.start
        del self._at[start]
        index = bisect_right(self._firsts, start) - 1
        run = self._runs[index]
        at = bisect_left(run, start)
        del run[at : at + 2]
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
        run = self._runs[index]
        at = bisect_left(run, start)
        if at % 2:  # after a start, and not after its last
            return self._at[run[at - 1]]
        if at == len(run):
            if index + 1 == len(self._runs):
                return None
            run, at = self._runs[index + 1], 0
        return self._at[run[at]] if run[at] < start + size else None
