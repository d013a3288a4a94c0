# SPDX-License-Identifier: GPL-2.0-only
"""Debian's own QEMU on the model's KVM: no /dev/kvm is needed to come to its monitor."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from demo.machine_monitor import Qemu

pytestmark = pytest.mark.qemu

RUN = [sys.executable, "-m", "kvm_vfio", "run", "--kvm", "model"]
QEMU = ["qemu-system-x86_64", "-accel", "kvm", "-S", "-nodefaults", "-display", "none"]
DEVICE = "0000:00:12.0"

MACHINES: dict[str, Sequence[str]] = {
    "q35": ("-machine", "q35"),
    "pc": ("-machine", "pc"),
    "four processors": ("-machine", "pc", "-smp", "4", "-m", "4G"),
    "host's processor": ("-machine", "pc", "-cpu", "host"),
    "split irqchip": ("-machine", "q35,kernel-irqchip=split"),
}
# The root bus of a q35 takes nothing while it runs, a port does.
PORT = ("-device", "pcie-root-port,id=below,chassis=1")


async def converse(directory: Path, options: Sequence[str], linux: str) -> dict[str, Any]:
    """What QEMU says of itself, after its device was unplugged and plugged in again."""
    summary = directory / "summary"
    wrapper = [*RUN, "--linux", linux, "--summary", str(summary), "--"]
    command = [*wrapper, *QEMU, *options]
    where = {"driver": "vfio-pci", "host": DEVICE, "id": "drive"}
    if "q35" in options[1]:
        command += PORT
        where["bus"] = "below"
    properties = ",".join(f"{name}={value}" for name, value in where.items())
    command += ["-device", properties]
    said: dict[str, Any] = {}
    async with Qemu(command, directory / "qmp") as monitor:
        for what in ("registers", "mtree", "irq", "pic"):
            line = {"command-line": f"info {what}"}
            said[what] = await monitor.execute("human-monitor-command", **line)
        said["status"] = await monitor.execute("query-status")
        said["cpus"] = await monitor.execute("query-cpus-fast")
        await monitor.unplug("drive")
        await monitor.execute("device_add", **where)
        line = {"command-line": "info qtree"}
        said["devices"] = await monitor.execute("human-monitor-command", **line)
        await monitor.unplug("drive")
    said["exit status"] = monitor.status
    said["summary"] = summary.read_text()
    return said


def conversation(directory: Path, *options: str, linux: str = "6.12") -> dict[str, Any]:
    said = asyncio.run(converse(directory, options, linux))
    print(said["summary"])
    assert said["exit status"] == 0
    assert "a bug in kvm-vfio" not in said["summary"]
    assert "NOT MODELLED" not in said["summary"]
    return said


@pytest.mark.parametrize("options", MACHINES.values(), ids=MACHINES)
def test_to_its_monitor_and_back(tmp_path: Path, options: Sequence[str]) -> None:
    said = conversation(tmp_path, *options)
    assert re.search(r"EIP=0000fff0 EFL=00000002", said["registers"])
    assert re.search(r"CS =f000 ffff0000 0000ffff 00009b00", said["registers"])
    assert "CR0=60000010" in said["registers"]
    assert re.search(r"\(prio 0, ram\): .*pc\.ram", said["mtree"])
    assert "address-space: vfio-pci" in said["mtree"]
    assert said["status"]["status"] == "prelaunch"
    assert len(said["cpus"]) == (4 if "4" in options else 1)
    assert 'dev: vfio-pci, id "drive"' in said["devices"]
    assert "the model's KVM, which runs no guest code" in said["summary"]
    assert "2 members added" in said["summary"]
    assert said["summary"].count("WBINVD is executed from here") == 2
    assert "leaked" not in said["summary"]


async def run_the_guest(directory: Path) -> tuple[Any, str]:
    """What QEMU's monitor says after `cont`, and the summary."""
    status: dict[str, Any] = {}
    command = [*RUN, "--summary", str(directory / "summary"), "--", *QEMU]
    async with Qemu(command, directory / "qmp") as monitor:
        await monitor.execute("cont")
        for _ in range(100):
            status = await monitor.execute("query-status")
            if status["status"] != "running":
                break
            await asyncio.sleep(0.05)
    return status, (directory / "summary").read_text()


def test_a_guest_that_is_let_run_stops_at_once_and_the_monitor_goes_on(tmp_path: Path) -> None:
    status, summary = asyncio.run(run_the_guest(tmp_path))
    assert status["status"] == "internal-error"
    assert re.search(r"guest code was to run, \d+ x, and this KVM runs none", summary)


@pytest.mark.parametrize("linux", ["5.10", "6.1", "6.18", "7.3"])
def test_on_other_kernels(tmp_path: Path, linux: str) -> None:
    said = conversation(tmp_path, "-machine", "pc", linux=linux)
    assert "EIP=0000fff0" in said["registers"]
    assert "2 members added" in said["summary"]
