# SPDX-License-Identifier: GPL-2.0-only
"""Ranges, against the plainest list that does the same."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.kernel import intervals
from kvm_vfio.kernel.intervals import Intervals


class Span(NamedTuple):
    start: int
    size: int


END = 120
SPANS = st.builds(Span, st.integers(0, END), st.integers(1, 12))
STEPS = st.lists(st.tuples(st.booleans(), SPANS), max_size=30)


def overlaps(one: Span, other: Span) -> bool:
    return one.start < other.start + other.size and other.start < one.start + one.size


@pytest.fixture(autouse=True, scope="module")
def short_runs() -> object:
    """Runs are cut in two after 4 ranges (8 numbers), so that few ranges show what many do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "_RUN", 4)
        yield


@given(STEPS)
def test_they_answer_as_a_sorted_list_does(steps: list[tuple[bool, Span]]) -> None:
    ours: Intervals[Span] = Intervals()
    plain = [Span(start, 5) for start in range(0, END, 5)]
    for span in plain:
        ours.add(span)
    for add, span in steps:
        covered = sorted(each for each in plain if overlaps(each, span))
        assert ours.exact(*span) == (span if span in plain else None)
        assert ours.first(*span) == (covered[0] if covered else None)
        for each in covered:
            ours.remove(each)
            plain.remove(each)
        if add:
            ours.add(span)
            plain.append(span)
    assert list(ours) == sorted(plain)
    assert len(ours) == len(plain)
    for number in range(END):
        there = [each for each in plain if overlaps(each, Span(number, 1))]
        assert ours.first(number, 1) == (there[0] if there else None)


def test_clear_takes_everything_out() -> None:
    ours: Intervals[Span] = Intervals()
    for start in range(0, 200, 10):
        ours.add(Span(start, 10))
    ours.clear()
    assert (len(ours), list(ours), ours.first(0, 1 << 64)) == (0, [], None)


def test_a_range_before_a_run_whose_first_range_has_gone_is_found() -> None:
    ours: Intervals[Span] = Intervals()
    spans = [Span(start, 10) for start in range(0, 60, 10)]
    for span in spans:
        ours.add(span)
    for span in spans[1:4]:
        ours.remove(span)
    ours.add(Span(10, 30))
    assert ours.first(30, 5) == Span(10, 30)


def test_ranges_reach_as_far_as_64_bits_do() -> None:
    ours: Intervals[Span] = Intervals()
    whole, top = Span(0, 1 << 64), Span((1 << 64) - 10, 10)
    for span in (whole, top):
        ours.add(span)
        assert ours.first((1 << 64) - 1, 1) == span
        assert ours.first(0, 1 << 64) == span
        ours.remove(span)
    assert len(ours) == 0
