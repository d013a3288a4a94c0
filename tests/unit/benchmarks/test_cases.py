# SPDX-License-Identifier: GPL-2.0-only
"""What is measured on the model is what its name says, and can be measured again and again."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from benchmarks import growth, inprocess
from benchmarks.machines import many_groups
from benchmarks.measure import in_batches
from kvm_vfio.client import model
from kvm_vfio.machine.check import faults


@pytest.mark.parametrize("case", inprocess.CASES, ids=lambda case: case[0])
def test_the_model_answers_as_the_row_says_and_keeps_nothing(case: inprocess.Case) -> None:
    _, prepare, errno, _ = case
    with ExitStack() as stack:
        process = model()
        call = in_batches(prepare(inprocess.side(process, stack)), 3, errno)
        before = process.kernel.snapshot(), process.files.numbers()
        call()
        assert (process.kernel.snapshot(), process.files.numbers()) == before


def test_a_machine_of_many_groups_is_one_that_can_be() -> None:
    machine = many_groups(1_000 * growth.GROUPS_OF_A_VM)
    assert [group.number for _, group in machine.groups()] == [*range(1, 8_001)]
    assert list(faults(machine)) == []


@pytest.mark.parametrize("linux", ["2013", "6.12"])
@pytest.mark.parametrize("snoop_control", [False, True])
def test_members_come_and_go_beside_others(linux: str, snoop_control: bool) -> None:
    call = growth.members(3, linux, snoop_control=snoop_control)
    for _ in range(3):
        call()  # an OSError if the one before had left anything


@pytest.mark.parametrize("shuffled", [False, True])
def test_mappings_come_and_go_in_every_gap(shuffled: bool) -> None:
    call = growth.mappings(5, shuffled=shuffled)
    for _ in range(11):
        call()


def test_every_call_beside_other_vms_can_be_made_again() -> None:
    for call in growth.vms(3).values():
        in_batches(call, 3)()
