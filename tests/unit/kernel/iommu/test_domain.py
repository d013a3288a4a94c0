# SPDX-License-Identifier: GPL-2.0-only
"""Domains: whose snoop control counts, and who can share one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvm_vfio.kernel.iommu.domain import Domain, device_can_enforce_coherency
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles import Profile
from tests.unit.kernel.program import MACHINE, SNOOPING, boot, profiles, since

AMD = replace(MACHINE, iommus=tuple(replace(iommu, kind="amd") for iommu in MACHINE.iommus))


@since({"2013": False, "6.1": True})
def test_whether_one_unit_without_snoop_control_spoils_the_domains_of_the_others(
    profile: Profile, expected: bool
) -> None:
    groups = boot(profile).kernel.iommu_groups
    assert Domain(groups[7]).enforces_coherency == expected
    assert not Domain(groups[1]).enforces_coherency
    assert Domain(groups[1]).compatible(Domain(groups[2]))
    assert Domain(groups[1]).compatible(Domain(groups[7])) != expected


@profiles()
@pytest.mark.parametrize("machine", [SNOOPING, AMD], ids=["snoop control", "amd"])
def test_where_every_unit_enforces_coherency_every_domain_does(
    profile: Profile, machine: Machine
) -> None:
    groups = boot(profile, machine).kernel.iommu_groups
    assert all(Domain(group).enforces_coherency for group in groups.values())


def test_what_a_device_can_depends_on_its_own_unit() -> None:
    groups = boot().kernel.iommu_groups
    assert [n for n, group in groups.items() if device_can_enforce_coherency(group)] == [7]
