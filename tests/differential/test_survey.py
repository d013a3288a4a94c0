# SPDX-License-Identifier: GPL-2.0-only
"""What inspect foretells of a VM's WBINVD comes true, on real kernels and their own /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvm_vfio.client import Container, Group, Kvm
from kvm_vfio.guest.process import GuestSyscalls
from kvm_vfio.survey.judge import Answer, judge, shortcomings
from kvm_vfio.survey.system import survey
from kvm_vfio.survey.tree import Tree
from tools.sysfs.guests import There, booted
from tools.sysfs.trees import record, unpack

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.gcc]

INTEL = "intel-iommu,intremap=on,snoop-control="
KERNELS = ("5.10", "6.1", "6.12", "6.18", "7.3")
MACHINES = [
    *((linux, INTEL + snoop) for linux in KERNELS for snoop in ("off", "on")),
    *((linux, "amd-iommu,intremap=on") for linux in KERNELS[:4]),
]
GROUP = 4


def what_comes(process: GuestSyscalls) -> Answer:
    """Give a group to a VM, and see whether noncoherent DMA is registered."""
    container, group = Container(process), Group(process, GROUP)
    group.set_container(container)
    container.set_iommu()
    device = Kvm(process).create_vm().create_kvm_vfio()
    device.add(group)
    return Answer.EXECUTED if "is executed" in process.explain() else Answer.NO_OP


@pytest.mark.parametrize(("linux", "iommu"), MACHINES)
def test_what_is_foretold_comes(linux: str, iommu: str, tmp_path: Path) -> None:
    with booted(linux, iommu) as process:
        unpack("\n".join(record(There(process))), tmp_path)
        there = survey(Tree(tmp_path))
        (group,) = (group for group in there.groups if group.number == GROUP)
        judgement = judge(there, group)
        assert judgement.missing == ()
        assert judgement.wbinvd.answer is what_comes(process)


@pytest.mark.parametrize(
    ("linux", "iommu"), [("7.3", "amd-iommu,intremap=on"), ("6.1", "intel-iommu,intremap=off")]
)
def test_a_refusal_is_foretold(linux: str, iommu: str, tmp_path: Path) -> None:
    with booted(linux, iommu) as process:
        unpack("\n".join(record(There(process))), tmp_path)
        (sentence,) = shortcomings(survey(Tree(tmp_path)))
        assert sentence.startswith("Interrupt remapping is off, so SET_IOMMU is EPERM")
        with pytest.raises(PermissionError):
            what_comes(process)
