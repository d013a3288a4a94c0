# SPDX-License-Identifier: GPL-2.0-only
"""Devices that behave, driven by programs without a VM."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Builder
from tests.e2e.supervised import steps, supervised

MACHINE = """\
[[iommu]]
[[iommu.group]]
number = 1
[[iommu.group.device]]
address = "0000:00:10.0"
model = "edu"
"""
EDU = ("0000:00:10.0", "/dev/vfio/1")


@pytest.fixture
def machine(tmp_path: Path) -> str:
    file = tmp_path / "machine.toml"
    file.write_text(MACHINE)
    return str(file)


@pytest.mark.gcc
def test_edu_and_the_memory_it_reaches(build: Builder, machine: str) -> None:
    done = supervised("--kvm", "model", "--machine", machine, build("edu.c"), *EDU)
    assert steps(done.stdout) == {
        "device": "0",
        "identification": "10000ed",
        "liveness": "edcba987",
        "factorial": "3628800",
        "hear": "0",
        "interrupts": "1",
        "map a bar with registers": "EINVAL",
        "map": "0",
        "map for reading": "0",
        "map for writing": "0",
        "done": "1",
        "there and back": "to edu",
        "written to what is for reading": "read me",
        "read from what is for writing": "",
        "written up to the end": "half",
        "of a child": "forked",
        "read by a child": "forked",
        "map what goes": "0",
        "what is gone": "0",
        "interrupts of all": "6",
        "map what is shared": "0",
        "written by a child": "forked",
        "alive": "1",
    }
    faults = [line for line in done.stderr.splitlines() if "DMA fault" in line]
    assert [line.partition(" at iova ")[2].split(": ")[1].split(" 0x")[0] for line in faults] == [
        "it is mapped for reading only",
        "it is mapped for writing only",
        "nothing is mapped there",
        "the program has nothing at",
        "the program that mapped it is gone",
    ]
    assert "a bug in kvm-vfio" not in done.stderr
