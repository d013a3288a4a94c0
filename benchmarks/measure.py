# SPDX-License-Identifier: GPL-2.0-only
"""Taking turns, and what is said about it afterwards. Times are seconds.

A ratio is taken within each round, between measurements a moment apart, and the median of the
rounds is what counts: a slow minute slows both sides of a ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import NamedTuple

Meter = Callable[[], float]
Samples = dict[str, list[float]]


class Row(NamedTuple):
    """A line of the table: two medians, the ratio with its quartiles, the limit if there is one."""

    part: str
    case: str
    against: str
    ours: float
    other: float
    ratio: float
    low: float
    high: float
    limit: float | None

    @property
    def over(self) -> bool:
        return self.limit is not None and self.ratio > self.limit


Finding = Row | str  # a string says what could not be measured, and the remedy


def take_turns(rounds: int, meters: Mapping[str, Meter]) -> Samples:
    """After a round to warm up, each meter once per round, in one order and then in the other."""
    samples: Samples = {name: [] for name in meters}
    for meter in meters.values():
        meter()
    order = list(meters)
    for _ in range(rounds):
        for name in order:
            samples[name].append(meters[name]())
        order.reverse()
    return samples


def compare(
    part: str, case: str, samples: Samples, ours: str, other: str, limit: float | None = None
) -> Row:
    """The row that sets `ours` against `other`, two names in `samples`."""
    ratios = [a / b for a, b in zip(samples[ours], samples[other], strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return Row(
        part,
        case,
        other,
        median(samples[ours]),
        median(samples[other]),
        middle,
        low,
        high,
        limit,
    )
