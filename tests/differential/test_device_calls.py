# SPDX-License-Identifier: GPL-2.0-only
"""Random calls on VFIO devices: the model beside a real Linux."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvm_vfio.client.in_process import model
from kvm_vfio.guest.guest import Guest
from kvm_vfio.guest.process import GuestSyscalls
from tests.differential.device_calls import GROUPS, answers
from tests.support import need_guest_kernel

CALLS = 300


@pytest.mark.parametrize("address", GROUPS)
def test_the_same_calls_get_the_same_answers(address: str) -> None:
    first, again = (list(answers(model(machine="referee"), address, 1, CALLS)) for _ in range(2))
    assert first == again
    assert len({result for _, result in map(_plain, first)}) > CALLS // 10


def _plain(answer: tuple[str, object]) -> tuple[str, str]:
    return answer[0], str(answer[1])


@pytest.fixture(scope="module", params=["5.10", "6.1", "6.12", "6.18", "7.3"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with Guest(need_guest_kernel(request.param), snoop=False) as booting:
        yield booting.ready()


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.gcc
@pytest.mark.parametrize("address", GROUPS)
@pytest.mark.parametrize("seed", range(4))
def test_a_real_linux_answers_alike(guest: Guest, seed: int, address: str) -> None:
    process = GuestSyscalls(guest)
    real = list(answers(process, address, seed, CALLS))
    guest.renew()
    linux = model(guest.kernel.version, machine="referee")
    ours = answers(linux, address, seed, CALLS)
    for number, (there, here) in enumerate(zip(real, ours, strict=True)):
        assert here == there, f"call {number}, after {real[max(0, number - 5) : number]}"
