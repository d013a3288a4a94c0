# SPDX-License-Identifier: GPL-2.0-only
"""Turns, batches, and the row that is made of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EBADF, ENOENT

import pytest

from benchmarks.measure import Meter, compare, in_batches, take_turns
from kvm_vfio.errors import KvmVfioError


def test_meters_take_turns_in_one_order_and_then_in_the_other() -> None:
    turns: list[str] = []

    def meter(name: str) -> Meter:
        def once() -> float:
            turns.append(name)
            return float(len(turns))

        return once

    samples = take_turns(2, {"a": meter("a"), "b": meter("b")})
    assert turns == ["a", "b", "a", "b", "b", "a"]
    assert samples == {"a": [3.0, 6.0], "b": [4.0, 5.0]}


def test_a_ratio_is_taken_within_each_round() -> None:
    samples = {"ours": [2.0, 40.0, 3.0], "other": [1.0, 20.0, 1.0]}
    row = compare("x", "case", samples, "ours", "other", limit=2.0)
    assert (row.ours, row.other) == (3.0, 1.0)
    assert (row.low, row.ratio, row.high) == (2.0, 2.0, 2.5)


def test_a_row_is_over_beyond_its_limit() -> None:
    row = compare("x", "case", {"ours": [2.0, 2.0], "other": [1.0, 1.0]}, "ours", "other")
    assert not row.over
    assert not row._replace(limit=2.0).over
    assert row._replace(limit=1.99).over


def refuse(number: int) -> Callable[[], object]:
    def call() -> object:
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize(
    ("call", "expected", "answer"),
    [(refuse(ENOENT), EBADF, ENOENT), (refuse(ENOENT), 0, ENOENT), (lambda: None, EBADF, 0)],
)
def test_a_call_with_another_answer_is_not_measured(
    call: Callable[[], object], expected: int, answer: int
) -> None:
    with pytest.raises(KvmVfioError, match=f"errno {answer}, not {expected}"):
        in_batches(call, 3, expected)()


def test_a_refusal_that_is_expected_is_measured() -> None:
    assert in_batches(refuse(ENOENT), 3, ENOENT)() > 0
