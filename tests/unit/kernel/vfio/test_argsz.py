# SPDX-License-Identifier: GPL-2.0-only
"""argsz at the front of a structure, capabilities behind it."""

from __future__ import annotations

from errno import EFAULT, EINVAL

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.kernel.vfio.argsz import capability_chain, read_argsz
from kvm_vfio.uapi.vfio import VFIO_INFO_CAP_HEADER
from tests.unit.kernel.program import boot


@given(st.lists(st.tuples(st.integers(1, 9), st.binary(min_size=8, max_size=40)), max_size=5))
def test_a_chain_leads_through_every_capability_in_order(bodies: list[tuple[int, bytes]]) -> None:
    base = 24
    answer = bytes(base) + capability_chain(bodies, base)
    assert len(answer) % 8 == 0
    found: list[int] = []
    at = base if bodies else 0
    while at:
        header = VFIO_INFO_CAP_HEADER.unpack(answer[at : at + 8])
        body = bodies[len(found)][1]
        assert answer[at + 8 : at + len(body)] == body[8:]
        assert (at % 8, header.version) == (0, 1)
        found.append(header.id)
        at = header.next
    assert found == [capability for capability, _ in bodies]


@pytest.mark.parametrize(
    ("argsz", "expected"), [(0, -EINVAL), (15, -EINVAL), (16, 16), (0xFFFF_FFFF, 0xFFFF_FFFF)]
)
def test_argsz_is_at_least_what_every_caller_must_have(argsz: int, expected: int) -> None:
    program = boot()
    address = program.put_at_page_end(argsz.to_bytes(4, "little") + bytes(12))
    assert program.number(read_argsz, program.task, address, 16) == expected


def test_memory_is_judged_before_argsz() -> None:
    program = boot()
    address = program.put_at_page_end(bytes(16), cut=1)
    assert program.number(read_argsz, program.task, address, 16) == -EFAULT
