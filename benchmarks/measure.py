# SPDX-License-Identifier: GPL-2.0-only
"""Taking turns, and what is said about it afterwards. Times are seconds.

A ratio is taken within each round, between measurements a moment apart, and the median of the
rounds is what counts: a slow minute slows both sides of a ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import repeat
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from kvm_vfio.errors import KvmVfioError

Call = Callable[[], object]
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


def in_batches(call: Call, calls: int, errno: int = 0) -> Meter:
    """A meter of one `call`, from `calls` in a row, all refused with `errno` or, at 0, none."""

    def once() -> float:
        answer = 0
        begin = time.perf_counter()
        for _ in repeat(None, calls):
            try:
                call()
            except OSError as error:
                answer = error.errno or 0
        seconds = time.perf_counter() - begin
        if answer != errno:
            raise KvmVfioError(f"{call} is answered with errno {answer}, not {errno}")
        return seconds / calls

    return once


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


class Idleness:
    """How much nothing there was to do, since this was made."""

    def __init__(self) -> None:
        self._start = _uptime()

    def cpus(self) -> float:
        """How many CPUs were idle on average."""
        (clock, idle), (clock_now, idle_now) = self._start, _uptime()
        return (idle_now - idle) / (clock_now - clock) if clock_now > clock else 0.0


def _uptime() -> tuple[float, float]:
    """Seconds by the clock, and idle seconds of all CPUs together."""
    clock, idle = Path("/proc/uptime").read_text(encoding="ascii").split()
    return float(clock), float(idle)
