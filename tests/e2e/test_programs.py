# SPDX-License-Identifier: GPL-2.0-only
"""Whole outputs of VFIO programs under `kvm-vfio run`, as on the real kernels they come from.

The programs are in tests/e2e/programs/vfio, their outputs in tests/data/programs; `python -m
tools.programs` records them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest

from kvm_vfio.guest.guest import Guest
from tests.e2e.supervised import COMMAND, TIMEOUT
from tests.support import need_guest_kernel
from tools.programs import DEVICES, KERNELS, NAMES, build, recorded, transcript
from tools.programs.guest import run_in

ALL = list(product(NAMES, DEVICES, KERNELS))
# One of each program and one of each kernel for each device: what a change would hit first.
FAST = [
    each
    for each in ALL
    if each[1:] == ("0000:00:13.0", KERNELS[NAMES.index(each[0]) % len(KERNELS)])
    or each in (("state", "0000:00:10.0", "7.3"), ("regions", "0000:00:11.0", "6.12"))
    or each == ("device", "0000:00:14.0", "6.1")
]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("programs")
    return {name: build(name, directory) for name in NAMES}


def compare(program: Path, device: str, linux: str) -> None:
    options = ["--machine", "referee", "--linux", linux, "--kvm", "model", "--quiet"]
    done = subprocess.run(
        [*COMMAND, *options, str(program), device],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT,
        check=False,
    )
    said = transcript(done.stdout, done.returncode)
    assert said.splitlines() == recorded(program.name, device, linux).splitlines()


@pytest.mark.gcc
@pytest.mark.parametrize(("name", "device", "linux"), FAST)
def test_a_program_says_what_it_said_on_the_real_kernel(
    programs: dict[str, Path], name: str, device: str, linux: str
) -> None:
    compare(programs[name], device, linux)


@pytest.mark.slow
@pytest.mark.gcc
@pytest.mark.parametrize(("name", "device", "linux"), [each for each in ALL if each not in FAST])
def test_so_it_does_everywhere(
    programs: dict[str, Path], name: str, device: str, linux: str
) -> None:
    compare(programs[name], device, linux)


@pytest.fixture(scope="module", params=KERNELS)
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with Guest(need_guest_kernel(request.param), snoop=False) as booting:
        yield booting.ready()


@pytest.mark.slow
@pytest.mark.gcc
@pytest.mark.qemu
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_the_real_kernel_says_it_again(
    guest: Guest, programs: dict[str, Path], name: str, device: str
) -> None:
    said = run_in(guest, programs[name], device)
    assert said.splitlines() == recorded(name, device, guest.kernel.version).splitlines()
