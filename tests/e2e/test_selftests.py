# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's own VFIO tests: the same passes, skips and failures as on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest.packages import prepare, prepared
from kvm_vfio.guest.process import GuestSyscalls, boot
from tools.selftests.build import TESTS, built
from tools.selftests.verdicts import DEVICES, on_guest, under_run, verdicts

TAP = """\
TAP version 13
1..3
#  RUN           a.b.c ...
ok 1 a.b.c
ok 2 a.b.d # SKIP too small
not ok 3 a.b.e
# Totals: pass:1 fail:1 xfail:0 xpass:0 skip:1 error:0
"""


def test_verdicts_are_read_from_tap() -> None:
    assert verdicts(TAP) == {"a.b.c": "pass", "a.b.d": "skip", "a.b.e": "fail"}


@pytest.fixture(scope="module")
def directory() -> Path:
    try:
        return built()
    except Unsupported as error:
        pytest.skip(f"{error}")


@pytest.fixture(scope="module", params=["6.12", "7.3"])
def process(request: pytest.FixtureRequest) -> Iterator[GuestSyscalls]:
    try:
        _ = prepared(request.param) or prepare(request.param, lambda _text: None)
    except Unsupported as error:
        pytest.skip(f"{error}; run: kvm-vfio guest prepare {request.param}")
    with boot(request.param) as booted:
        yield booted


@pytest.mark.slow
@pytest.mark.gcc
@pytest.mark.qemu
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("test", TESTS)
def test_they_end_as_on_the_real_kernel(
    process: GuestSyscalls, directory: Path, test: str, device: str
) -> None:
    real = on_guest(process, directory / test, device)
    assert real
    assert under_run(process.guest.kernel.version, directory / test, device) == real
