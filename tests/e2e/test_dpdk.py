# SPDX-License-Identifier: GPL-2.0-only
"""DPDK on the described machine: its tools, and its way through VFIO to a device's BARs."""

from __future__ import annotations

import re

import pytest

from tests.e2e.supervised import supervised
from tests.support import need_program

REFEREE = ("--machine", "referee", "--kvm", "model", "--quiet")
NIC = "0000:00:13.0"
pytestmark = pytest.mark.slow

# What EAL says where something of VFIO does not go well.
COMPLAINTS = re.compile(
    r".*(cannot|error|failed|not viable|unable).*(vfio|iommu|group|BAR).*", re.IGNORECASE
)


def test_devbind_sees_a_device_that_dpdk_can_use() -> None:
    done = supervised(*REFEREE, need_program("dpdk-devbind.py", apt="dpdk"), "--status")
    usable = done.stdout.partition("DPDK-compatible driver")[2].partition("\n\n")[0]
    assert f"{NIC} '82574L Gigabit Network Connection 10d3' drv=vfio-pci" in usable


def test_eal_gets_through_vfio_to_the_bars() -> None:
    """What its network driver then finds there is a register file: it says so and goes on."""
    done = supervised(
        *REFEREE,
        need_program("dpdk-testpmd", apt="dpdk-dev"),
        *("--no-huge", "-m", "64", "--no-telemetry", "--log-level=lib.eal:8", "-a", NIC),
        *("--", "-i", "--total-num-mbufs=2048"),
        stdin="quit\n",
    )
    said = done.stdout + done.stderr
    for line in (
        "EAL: VFIO support initialized",
        "EAL: Using IOMMU type 1 (Type 1)",
        "EAL: VFIO reports MSI-X BAR as mappable",
        f"EAL: Probe PCI driver: net_e1000_em (8086:10d3) device: {NIC}",
    ):
        assert line in said
    assert said.count("EAL:   PCI memory mapped at") == 3  # memory BARs
    assert [line for line in said.splitlines() if COMPLAINTS.match(line)] == []
