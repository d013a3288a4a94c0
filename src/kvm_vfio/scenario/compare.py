# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels, one script: where they differ, and the shortest script that shows it.

Rule of this file: a kernel is a function from lines of a script to lines of results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import NamedTuple

from kvm_vfio.scenario.language import Operation, parse

Kernel = Callable[[Sequence[Operation]], Iterable[str]]
"""Performs a script on a kernel as it is after booting."""


class Difference(NamedTuple):
    """The first line on which two kernels differ: its place among the lines, and both answers."""

    place: int
    one: str
    other: str

    @property
    def kind(self) -> tuple[str, str]:
        """The operation and both results, which tell one cause from another well enough."""
        operation, _, result = self.one.partition(" => ")
        verb = operation.split(" ")[1] if " " in operation else ""
        return verb, f"{result.split(' ')[0]} {self.other.partition(' => ')[2].split(' ')[0]}"


def difference(one: Iterable[str], other: Iterable[str]) -> Difference | None:
    """The first difference between two texts. Trailing blanks count for nothing."""
    for place, (left, right) in enumerate(zip_longest(one, other, fillvalue="(nothing)")):
        if left.rstrip() != right.rstrip():
            return Difference(place, left.rstrip(), right.rstrip())
    return None


def results_only(lines: Iterable[str]) -> list[str]:
    """The lines without the effects, which not every kernel shows."""
    return [line.partition(" reg=")[0].rstrip() for line in lines]


def shrink(script: Sequence[str], differ: Callable[[Sequence[str]], bool]) -> list[str]:
    """The shortest script, by leaving out lines, for which `differ` still holds."""
    kept = list(script)
    size = max(len(kept) // 2, 1)
    while size:
        shorter = next(filter(differ, _without(kept, size)), None)
        if shorter is not None:
            kept = list(shorter)
            size = min(size, max(len(kept) // 2, 1))
        elif size == 1:
            break
        else:
            size //= 2
    return kept


def _without(lines: Sequence[str], size: int) -> Iterator[list[str]]:
    """The script without `size` lines, the last ones first."""
    for end in range(len(lines), 0, -size):
        yield [*lines[: max(end - size, 0)], *lines[end:]]


def operations(script: Sequence[str], name: str = "<script>") -> list[Operation]:
    """The operations of a script that is given as lines."""
    return parse("\n".join(script), name)
