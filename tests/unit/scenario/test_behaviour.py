# SPDX-License-Identifier: GPL-2.0-only
"""The behaviour behind a difference of two models is found by trying."""

from __future__ import annotations

import pytest

from kvm_vfio.profiles import DeviceEnd
from kvm_vfio.scenario.behaviour import behaviours
from kvm_vfio.scenario.compare import difference
from kvm_vfio.scenario.kernels import model_kernel, performed
from kvm_vfio.scenario.language import parse

IN_CONTAINER = "container_open c\ngroup_open g @00:10.0\nset_container g c\n"
END_5_10, END_6_1 = DeviceEnd.DESTROYED_WITH_VM.value, DeviceEnd.RELEASED_ON_CLOSE.value
WITH_DEVICE = "kvm_open k\nvm_create v\ndev_create d v\n"


@pytest.mark.parametrize(
    ("kernels", "script", "expected"),
    [
        (
            ("6.1", "6.12"),
            "container_open c\ngroup_open g @00:10.0\nset_container g g",
            ["wrong_container_errno: EINVAL in 6.1, EBADFD in 6.12"],
        ),
        (
            ("5.10", "6.1"),
            WITH_DEVICE + "close d\ndev_create d v",
            [f"device_end: {END_5_10} in 5.10, {END_6_1} in 6.1"],
        ),
        (
            ("6.12", "6.18"),
            WITH_DEVICE + "group_open g @00:10.0\ngroup_add d g",
            ["reports_assignment: yes in 6.12, no in 6.18"],
        ),
        (
            ("2013", "6.12"),
            IN_CONTAINER + "set_iommu c",
            ["type1v2: no in 2013, yes in 6.12"],
        ),
    ],
)
def test_the_behaviour_has_a_name(
    kernels: tuple[str, str], script: str, expected: list[str]
) -> None:
    one, other = (model_kernel(linux, snoop=False) for linux in kernels)
    operations = parse(script)
    found = difference(performed(one, operations).lines, performed(other, operations).lines)
    assert found is not None
    assert behaviours(one, other, operations, found.place) == expected


def test_where_several_are_needed_each_is_named() -> None:
    one, other = (model_kernel(linux, snoop=False) for linux in ("5.10", "6.12"))
    operations = parse(WITH_DEVICE + "group_open g @00:10.0\ngroup_add d g")
    names = [line.partition(":")[0] for line in behaviours(one, other, operations, 4)]
    assert names == ["coherency", "member_is_group"]


def test_a_reason_is_that_of_its_line() -> None:
    answers = performed(model_kernel("6.1", snoop=False), parse("close a\nkvm_open k"))
    assert answers.reason(answers.lines[0]) == "close fd -1: it is not open"
    assert answers.reason(answers.lines[1]) == ""
    assert answers.reason("no line of it") == ""
