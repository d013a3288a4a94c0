# SPDX-License-Identifier: GPL-2.0-only
"""Finding a difference, and making the script that shows it short."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.scenario.compare import Difference, difference, results_only, shrink


def test_the_first_line_that_differs_is_the_difference() -> None:
    assert difference(["a", "b ", "c"], ["a", "b", "d"]) == Difference(2, "c", "d")
    assert difference(["a"], ["a"]) is None
    assert difference(["a", "b"], ["a"]) == Difference(1, "b", "(nothing)")


def test_effects_can_be_left_out() -> None:
    with_effects = "4 close v => 0 reg=0 unreg=0 net[v:gone=0] | vmdel(v)"
    assert results_only([with_effects, "--- text"]) == ["4 close v => 0", "--- text"]


def test_a_kind_of_difference_is_the_operation_and_both_results() -> None:
    one = Difference(0, "7 group_add d g => -EBADF reg=0", "7 group_add d g => 0 reg=1")
    assert one.kind == ("group_add", "-EBADF 0")
    assert Difference(0, "(nothing)", "--- text").kind == ("", " ")


@given(st.lists(st.integers(0, 9), max_size=30), st.sets(st.integers(0, 9), max_size=3))
def test_what_is_left_is_what_it_takes(script: list[int], needed: set[int]) -> None:
    def differ(lines: Sequence[str]) -> bool:
        return needed <= {int(line) for line in lines}

    lines = [str(number) for number in script]
    if differ(lines):
        assert sorted(map(int, shrink(lines, differ))) == sorted(needed)
