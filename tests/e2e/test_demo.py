# SPDX-License-Identifier: GPL-2.0-only
"""The README's first command shows what it says it shows."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.__main__ import host_kvm

ROOT = Path(__file__).parents[2]
CONVERSATION = [
    r"KVM_CREATE_DEVICE\(.*KVM_DEV_TYPE_VFIO\) += 0, fd \d+: kvm-vfio 1$",
    r"GROUP_ADD, group 3 \(fd \d+\)\) += 0$",
    r"-> kvm-vfio 1 of vm 1 holds group 3$",
    r"-> vm 1: noncoherent DMA on \(group 3: dmar0 has no snoop control\)$",
    r"VFIO_IOMMU_MAP_DMA\(container \d, iova 0x0 \+ 0x\w+, .*\) += 0$",
    r"VFIO_GROUP_GET_DEVICE_FD\(group 3, 0000:00:12.0\) += fd \d+: device 0000:00:12.0$",
    r"GROUP_DEL, group 3 \(fd \d+\)\) += 0$",
    r"-> vm 1: noncoherent DMA off$",
    r"kvm-vfio: VM 1: WBINVD is executed from here: .*dmar0 has no snoop control$",
    r"kvm-vfio: VM 1: WBINVD is a no-op from here: ",
    r"nothing leaked\.$",
]


def demo(*arguments: str) -> list[str]:
    command = [sys.executable, "-m", "demo", *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout.splitlines()


def require_in_order(lines: list[str], patterns: list[str]) -> None:
    rest = iter(lines)
    for pattern in patterns:
        assert any(re.search(pattern, line) for line in rest), pattern


@pytest.mark.qemu
@pytest.mark.parametrize("arguments", [(), ("--model-kvm",)])
def test_an_unmodified_qemu_adds_its_group_and_takes_it_away(arguments: tuple[str, ...]) -> None:
    lines = demo(*arguments)
    assert lines[0].startswith("QEMU emulator version")
    assert lines[1].startswith("so KVM is the model's own") == (bool(arguments) or not host_kvm())
    require_in_order(lines, CONVERSATION)
    assert sum("GROUP_ADD" in line and line.endswith("= 0") for line in lines) == 2


def test_without_qemu_a_small_program_makes_its_calls() -> None:
    lines = demo("--without-qemu")
    assert lines[0].endswith("so a small program of ours makes QEMU's calls,")
    require_in_order(lines, CONVERSATION)
