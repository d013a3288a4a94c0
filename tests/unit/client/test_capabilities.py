# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.client.capabilities import ask_whole, capabilities
from kvm_vfio.kernel.vfio.argsz import capability_chain
from kvm_vfio.uapi.vfio import VFIO_INFO_CAP_HEADER

BASE = 24


@given(st.dictionaries(st.integers(1, 0xFFFF), st.binary(max_size=40), max_size=6))
def test_a_chain_is_read_as_it_was_written(contents: dict[int, bytes]) -> None:
    blank = bytes(VFIO_INFO_CAP_HEADER.size)
    chain = capability_chain([(number, blank + body) for number, body in contents.items()], BASE)
    answer = bytes(BASE) + chain
    found = dict(capabilities(answer, BASE if contents else 0))
    assert found.keys() == contents.keys()
    for number, body in contents.items():
        assert found[number][VFIO_INFO_CAP_HEADER.size :].startswith(body)


@pytest.mark.parametrize("following", [8, 16, 100])
def test_a_chain_that_goes_round_or_out_is_told(following: int) -> None:
    answer = bytes(8) + VFIO_INFO_CAP_HEADER.pack_fields(1, 1, following)
    with pytest.raises(ValueError, match="broken"):
        list(capabilities(answer, 8))


def test_an_answer_that_fits_is_asked_for_once() -> None:
    asked = []

    def ask(argsz: int) -> bytes:
        asked.append(argsz)
        return (24).to_bytes(4, "little")

    ask_whole(ask, 24)
    assert asked == [24]


def test_an_answer_that_does_not_fit_is_asked_for_again() -> None:
    asked = []

    def ask(argsz: int) -> bytes:
        asked.append(argsz)
        return (40).to_bytes(4, "little").ljust(argsz, b"x")

    assert len(ask_whole(ask, 24)) == 40
    assert asked == [24, 40]
