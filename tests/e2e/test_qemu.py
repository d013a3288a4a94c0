# SPDX-License-Identifier: GPL-2.0-only
"""Debian's own QEMU with a vfio-pci device, up to its monitor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kvm_vfio.trace.jsonl import read_trace
from kvm_vfio.trace.schema import Call
from tests.e2e.supervised import supervised

QEMU = ("qemu-system-x86_64", "-accel", "kvm", "-S", "-nodefaults", "-display", "none")
QMP = ("-qmp", "stdio")
SAY = "".join(
    json.dumps({"execute": command}) + "\n"
    for command in ("qmp_capabilities", "query-pci", "query-status", "quit")
)

pytestmark = [pytest.mark.qemu, pytest.mark.kvm]


def qemu(*options: str, device: str = "0000:00:10.0") -> tuple[list[dict[str, object]], str]:
    """What QEMU said on its monitor, and the summary."""
    done = supervised(*options, *QEMU, *QMP, "-device", f"vfio-pci,host={device}", stdin=SAY)
    assert done.returncode == 0
    assert "a bug in kvm-vfio" not in done.stderr
    assert "NOT MODELLED" not in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("linux", ["2013", "5.10", "6.1", "6.12", "7.3"])
def test_a_device_through_realize(linux: str) -> None:
    replies, summary = qemu("--linux", linux)
    pci = json.dumps(replies[2])
    assert '"vendor": 4660' in pci
    assert '"device": 4584' in pci
    assert '"size": 1048576' in pci
    assert "1 member added" in summary
    assert "WBINVD is executed from here" in summary
    assert "left open: VFIO group 1: fd" in summary
    assert "leaked" not in summary


def test_its_calls(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    qemu("--trace", str(file), device="0000:00:13.0")
    records = [record for record in read_trace(file) if isinstance(record, Call)]
    calls = [record.call for record in records]
    told = ["KVM_CREATE_DEVICE", "KVM_SET_DEVICE_ATTR", "VFIO_IOMMU_MAP_DMA"]
    told += ["VFIO_GROUP_GET_DEVICE_FD", "VFIO_DEVICE_GET_REGION_INFO", "VFIO_DEVICE_RESET"]
    first = [calls.index(call) for call in told]
    assert first == sorted(first)
    mapped = [r for r in records if r.call == "mmap" and r.on.startswith("device")]
    assert mapped
    assert all(record.answer == "continue" for record in mapped)
    # Of QEMU's some 190 KVM ioctls we hear these.
    attributes = {"KVM_SET_DEVICE_ATTR", "KVM_GET_DEVICE_ATTR", "KVM_HAS_DEVICE_ATTR"}
    kvm = {call for call in calls if call.startswith("KVM_")}
    assert kvm <= {"KVM_CREATE_VM", "KVM_CREATE_DEVICE", *attributes}


def test_a_group_that_is_not_viable() -> None:
    done = supervised(*QEMU, *QMP, "-device", "vfio-pci,host=0000:00:14.0", stdin=SAY)
    assert done.returncode == 1
    assert "group 5 is not viable" in done.stderr


def test_a_device_that_is_not_there() -> None:
    done = supervised(*QEMU, *QMP, "-device", "vfio-pci,host=0000:00:1e.0", stdin=SAY)
    assert done.returncode == 1
    assert "0000:00:1e.0" in done.stderr


def replayed(directory: Path, spec: str, kvm: str) -> None:
    file = directory / "trace"
    options = ("--machine", "referee", "--kvm", kvm, "--trace", str(file))
    qemu(*options, device="0000:00:13.0")
    command = [sys.executable, "-m", "kvm_vfio", "trace", "replay", str(file), "--on", spec]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.match(rf"{spec}: (\d\d+) of \1 operations are answered as recorded", done.stdout)


@pytest.mark.parametrize("kvm", ["host", "model"])
def test_its_calls_replay_on_the_model(tmp_path: Path, kvm: str) -> None:
    replayed(tmp_path, "model:6.12", kvm)


@pytest.mark.slow
@pytest.mark.parametrize("kvm", ["host", "model"])
def test_its_calls_replay_on_a_real_kernel(tmp_path: Path, kvm: str) -> None:
    replayed(tmp_path, "guest:6.12", kvm)
