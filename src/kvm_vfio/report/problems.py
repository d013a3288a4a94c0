# SPDX-License-Identifier: GPL-2.0-only
"""What a person looks at first: mistakes, why WBINVD is executed, calls that were refused.

Rule of this file: pure, and it finds nothing: `trace.history` does, and `kvm-vfio explain` says the
same. Each problem names the row where it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvm_vfio.report.course import Course
from kvm_vfio.trace.explanation import Explanation

NOWHERE = -1
_MOST = 200


@dataclass(slots=True)
class Problem:
    """`kind` is "mistake", "cost", "refused" or "not modelled"; it showed `times` times.

    `row` is where it showed first; `fix` is what to do instead.
    """

    row: int
    kind: str
    text: str
    fix: str = ""
    times: int = 1


def problems(made: Course) -> list[Problem]:
    """The first 200, in the order in which a person wants them."""
    told = made.told
    found = list(_costs(made))
    if told is not None:
        rows: dict[int, int] = {}
        for index, row in enumerate(made.rows):
            rows.setdefault(row.n, index)
        found = [*_mistakes(told, rows), *found, *_refusals(told, rows)]
        found += [Problem(NOWHERE, "not modelled", what) for what in told.not_modelled]
    return found[:_MOST]


def _mistakes(told: Explanation, rows: dict[int, int]) -> Iterator[Problem]:
    for problem in told.problems:
        row = rows.get(problem.call.n, NOWHERE)
        yield Problem(row, "mistake", problem.what, problem.remedy)


def _costs(made: Course) -> Iterator[Problem]:
    """One for each reason, however many VMs have it."""
    found: dict[str, Problem] = {}
    for span in made.spans:
        if span.what == "executed":
            name = made.nodes[span.x].name
            problem = Problem(span.begin, "cost", f"{name}: WBINVD is executed: {span.text}")
            first = found.setdefault(span.text, problem)
            first.times += first is not problem
    yield from found.values()


def _refusals(told: Explanation, rows: dict[int, int]) -> Iterator[Problem]:
    for refusal in told.refusals:
        row = rows.get(refusal.call.n, NOWHERE)
        text = f"{refusal.call.text}: {refusal.errno}: {refusal.rule}"
        yield Problem(row, "refused", text, refusal.remedy, refusal.times)
