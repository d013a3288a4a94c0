# SPDX-License-Identifier: GPL-2.0-only
"""The table of an ioctl interface."""

from __future__ import annotations

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support, not_modelled
from kvm_vfio.uapi.layout import io

FIRST, SECOND = io("FIRST", 1, 1), io("SECOND", 1, 2)


def answer(file: object, task: object, arg: int) -> int:
    return arg


def test_a_table_finds_a_handler_by_number_and_keeps_the_order_of_its_rows() -> None:
    rows = [Row(SECOND, answer, Argument.VALUE), Row(FIRST, answer, Argument.VALUE)]
    table = IoctlTable(*rows)
    assert list(table) == rows
    assert table.handlers == {int(SECOND): answer, int(FIRST): answer}


def test_a_request_stands_in_a_table_once() -> None:
    with pytest.raises(TypeError, match="twice"):
        IoctlTable(Row(FIRST, answer, Argument.VALUE), not_modelled(FIRST, Argument.VALUE))


@pytest.mark.parametrize(
    ("note", "message"),
    [("", "FIRST is not modelled"), ("no vCPUs", "FIRST is not modelled: no vCPUs")],
)
def test_what_is_not_modelled_says_so_by_name(note: str, message: str) -> None:
    row = not_modelled(FIRST, Argument.FIXED, note)
    assert (row.support, row.argument, row.note) == (Support.NONE, Argument.FIXED, note)
    with pytest.raises(NotModelled) as caught:
        row.handler(None, None, 0)
    assert str(caught.value) == message
