# SPDX-License-Identifier: GPL-2.0-only
"""Judgements on the recorded trees of real kernels, and on trees with one thing changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvm_vfio.profiles import PROFILES, Coherency
from kvm_vfio.survey.facts import Computer, Group, Unit
from kvm_vfio.survey.judge import Answer, Wbinvd, era, judge, shortcomings
from tests.unit.survey.recorded import TWO_UNITS, computer

_OFF = "dmar0 has no snoop control (ECAP f00f4a: bit 7 is 0)"


def group(there: Computer, number: int) -> Group:
    return next(group for group in there.groups if group.number == number)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "intel-5.10",
            Wbinvd(Answer.EXECUTED, f"{_OFF}; Linux 5.10 asks every IOMMU of the machine"),
        ),
        ("intel-6.12", Wbinvd(Answer.EXECUTED, _OFF)),
        (
            "intel-7.3-snoop",
            Wbinvd(Answer.NO_OP, "dmar0 has snoop control (ECAP f00fca: bit 7 is 1)"),
        ),
        ("amd-6.12", Wbinvd(Answer.NO_OP, "ivhd0 is AMD-Vi, which enforces coherency")),
    ],
)
def test_wbinvd_on_real_kernels(name: str, expected: Wbinvd, tmp_path: Path) -> None:
    there = computer(name, tmp_path)
    assert {judge(there, group).wbinvd for group in there.groups} == {expected}


def test_a_unit_without_snoop_control_counts_for_its_own_groups_only(tmp_path: Path) -> None:
    there = computer("intel-6.12", tmp_path, *TWO_UNITS)
    assert judge(there, group(there, 4)).wbinvd == Wbinvd(
        Answer.NO_OP, "dmar1 has snoop control (ECAP f050da: bit 7 is 1)"
    )
    assert judge(there, group(there, 3)).wbinvd == Wbinvd(Answer.EXECUTED, _OFF)


def test_until_5_18_it_counts_for_every_group(tmp_path: Path) -> None:
    old = ("6.12.118+deb13-amd64", "5.18.0")
    there = computer("intel-6.12", tmp_path, *TWO_UNITS, old)
    assert judge(there, group(there, 4)).wbinvd == Wbinvd(
        Answer.EXECUTED, f"{_OFF}; Linux 5.18 asks every IOMMU of the machine"
    )


def test_the_eras_are_those_of_the_profiles() -> None:
    for name, profile in PROFILES.items():
        found = era(profile.measured or {"2013": "3.13.0"}.get(name, name))
        assert found is not None, name
        assert (found.coherency, found.scope) == (profile.coherency, profile.domain_scope), name


@pytest.mark.parametrize(
    ("release", "coherency"),
    [
        ("3.12.74", None),
        ("3.14.1", Coherency.NEVER),
        ("3.15.0", Coherency.CONTAINER),
        ("5.18.19-300.fc36", Coherency.CONTAINER),
        ("5.19.0", Coherency.GROUP_CONTAINER),
        ("6.1.192", Coherency.GROUP_CONTAINER),
        ("6.2.0", Coherency.DEVICES),
        ("10.0", Coherency.DEVICES),
        ("nonsense", None),
        ("", None),
    ],
)
def test_eras(release: str, coherency: Coherency | None) -> None:
    found = era(release)
    assert (found.coherency if found else None) is coherency


def test_what_nobody_says_is_unknown(tmp_path: Path) -> None:
    there = computer("intel-6.12", tmp_path, ("/intel-iommu/ecap ", "/intel-iommu/escape "))
    assert judge(there, there.groups[0]).wbinvd == Wbinvd(
        Answer.UNKNOWN, "nothing says whether dmar0 has snoop control"
    )


def test_another_kind_of_iommu_is_unknown() -> None:
    there = Computer("6.12.0", "x86_64", units=(Unit("virtio0", "other"),), groups=(Group(0),))
    assert judge(there, there.groups[0]).wbinvd.answer is Answer.UNKNOWN


def test_another_architecture_has_no_wbinvd() -> None:
    there = Computer("6.12.0", "aarch64", units=(Unit("smmu3.0x1", "other"),), groups=(Group(0),))
    assert judge(there, there.groups[0]).wbinvd == Wbinvd(Answer.ABSENT, "aarch64 has no WBINVD")


def test_viable_and_missing(tmp_path: Path) -> None:
    there = computer("intel-6.12", tmp_path)
    judged = {g.number: (judge(there, g).viable, judge(there, g).missing) for g in there.groups}
    assert judged == {
        0: (True, ("a device: bridges are not assigned",)),
        1: (True, ()),
        2: (True, ()),
        3: (True, ()),
        4: (True, ()),
        5: (False, ("unbind 0000:00:14.1 (serial)",)),
        6: (True, ("a device: bridges are not assigned",)),
        7: (True, ("bind a device to vfio-pci",)),
        8: (True, ("bind a device to vfio-pci",)),
        9: (True, ("bind a device to vfio-pci",)),
    }


@pytest.mark.parametrize(("linux", "viable"), [("5.18.0", True), ("5.19.0", False)])
def test_a_driver_of_a_bridge(linux: str, viable: bool, tmp_path: Path) -> None:
    there = computer(
        "intel-6.12",
        tmp_path,
        ("6.12.118+deb13-amd64", linux),
        ("drivers/pcieport", "drivers/shpchp"),
    )
    assert judge(there, group(there, 6)).viable is viable


def test_a_group_whose_node_is_not_there(tmp_path: Path) -> None:
    there = computer("intel-6.12", tmp_path, ('file dev/vfio/3 ""\n', ""))
    assert judge(there, group(there, 3)).missing == ("the node in /dev/vfio",)


# -- the computer ---------------------------------------------------------------------------------


def test_a_good_computer_lacks_nothing(tmp_path: Path) -> None:
    assert list(shortcomings(computer("intel-6.12", tmp_path))) == []


def test_interrupt_remapping(tmp_path: Path) -> None:
    (sentence,) = shortcomings(computer("intel-6.1-no-remapping", tmp_path / "off"))
    assert sentence.startswith("Interrupt remapping is off, so SET_IOMMU is EPERM")
    unsafe = ('allow_unsafe_interrupts "N', 'allow_unsafe_interrupts "Y')
    there = computer("intel-6.1-no-remapping", tmp_path / "unsafe", unsafe)
    assert list(shortcomings(there)) == []


@pytest.mark.parametrize(
    ("change", "remedy"),
    [
        ((), "This is a virtual machine: give it a virtual IOMMU (QEMU: -device intel-iommu)."),
        ((("hypervisor", "sse2"),), "Enable VT-d or AMD-Vi in the firmware's set-up."),
        (
            (("dir sys/module/vfio\n", 'file sys/firmware/acpi/tables/DMAR ""\n'),),
            "The firmware describes VT-d: boot Linux with intel_iommu=on.",
        ),
        (
            (("dir sys/module/vfio\n", 'file sys/firmware/acpi/tables/IVRS ""\n'),),
            "The firmware describes AMD-Vi: boot Linux without amd_iommu=off and iommu=off.",
        ),
    ],
)
def test_no_iommu(change: tuple[tuple[str, str], ...], remedy: str, tmp_path: Path) -> None:
    there = computer("none-6.1", tmp_path, *change)
    assert next(shortcomings(there)) == f"No IOMMU, so no device can be given to a VM. {remedy}"
    assert (there.groups, len(there.ungrouped)) == ((), 13)


def test_no_kvm(tmp_path: Path) -> None:
    (sentence,) = shortcomings(computer("intel-6.12", tmp_path, ('file dev/kvm ""\n', "")))
    assert sentence.startswith("There is no /dev/kvm: as root, modprobe kvm_amd, ")
