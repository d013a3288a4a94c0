# SPDX-License-Identifier: GPL-2.0-only
"""What a person looks at first: mistakes, then why WBINVD is executed, then calls that failed.

Rule of this file: pure; each problem names the row where it shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from kvm_vfio.report.history import History

_MOST = 200
_NUMBERS = re.compile(r"0x[0-9a-f]+|\b[0-9]+\b")


@dataclass(slots=True)
class Problem:
    """`kind` is "mistake", "cost" or "failed"; it showed `times` times, first at `row`."""

    row: int
    kind: str
    text: str
    times: int = 1


def problems(history: History) -> list[Problem]:
    """The first 200, in the order in which a person wants them."""
    found = [*_mistakes(history), *_costs(history), *_failures(history)]
    return found[:_MOST]


def _mistakes(history: History) -> Iterator[Problem]:
    names = [node.name for node in history.nodes]
    for span in history.spans:
        if span.what == "leaked":
            text = f"{names[span.x]} can never let go of {names[span.y]}: the reference leaked"
            yield Problem(span.begin, "mistake", text)
        elif span.what == "stale":
            yield Problem(span.begin, "mistake", span.text)


def _costs(history: History) -> Iterator[Problem]:
    found: dict[str, Problem] = {}
    for span in history.spans:
        if span.what == "executed":
            name = history.nodes[span.x].name
            problem = Problem(span.begin, "cost", f"{name}: WBINVD is executed: {span.text}")
            _count(found, span.text, problem)
    yield from found.values()


def _failures(history: History) -> Iterator[Problem]:
    """One for all calls that were refused alike, whichever objects they were about."""
    found: dict[str, Problem] = {}
    for index, row in enumerate(history.rows):
        if row.failed:
            alike = _NUMBERS.sub("#", row.text)
            _count(found, alike, Problem(index, "failed", row.text))
    yield from found.values()


def _count(found: dict[str, Problem], alike: str, problem: Problem) -> None:
    first = found.setdefault(alike, problem)
    if first is not problem:
        first.times += 1
