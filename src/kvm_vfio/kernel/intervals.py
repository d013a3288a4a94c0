# SPDX-License-Identifier: GPL-2.0-only
"""Ranges of numbers that do not overlap, sorted, at a cost that stays flat.

Rule of this file: it stands where the kernel has a red-black tree of DMA mappings, and is about as
fast with 65,535 of them as with ten. The ranges lie in short runs, so that no insertion moves more
than one run. A search looks at bare numbers that lie side by side, and at no object: where there is
much, what takes time is to fetch it from memory.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
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

    __slots__ = ("_at", "_firsts", "_lasts", "_starts")

    def __init__(self) -> None:
        self._at: dict[int, Item] = {}  # start -> range
        self._starts = [array("Q")]  # runs of the starts, ascending
        self._lasts = [array("Q")]  # for each start the last number of its range
        self._firsts = [0]  # the first start in each run; the first run may begin at 0

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[Item]:
        for starts in self._starts:
            for start in starts:
                yield self._at[start]

    def add(self, item: Item) -> None:
        """Put `item` in. The caller has seen to it that it overlaps nothing."""
        start = item.start
        self._at[start] = item
        index = bisect_right(self._firsts, start) - 1
        starts, lasts = self._starts[index], self._lasts[index]
        at = bisect_right(starts, start)
        starts.insert(at, start)
        lasts.insert(at, start + item.size - 1)
        if len(starts) > _RUN:
            self._firsts.insert(index + 1, starts[_RUN // 2])
            for runs in (self._starts, self._lasts):
                run = runs[index]
                runs[index : index + 1] = run[: _RUN // 2], run[_RUN // 2 :]

    def remove(self, item: Item) -> None:
        """Take `item` out."""
        start = item.start
        del self._at[start]
        index = bisect_right(self._firsts, start) - 1
        starts = self._starts[index]
        at = bisect_right(starts, start) - 1
        del starts[at], self._lasts[index][at]
        if not index:
            return
        if starts:
            self._firsts[index] = starts[0]  # so that what comes before it ends before it
        else:
            del self._starts[index], self._lasts[index], self._firsts[index]

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
        starts = self._starts[index]
        at = bisect_right(starts, start)
        if at and self._lasts[index][at - 1] >= start:
            return self._at[starts[at - 1]]
        if at == len(starts):
            if index + 1 == len(self._starts):
                return None
            starts, at = self._starts[index + 1], 0
        return self._at[starts[at]] if starts[at] < start + size else None
