# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU domains: one page table, the groups that translate through it, and its coherency.

Rule of this file: whether a domain enforces coherency is decided when the domain is made and stays.

A domain enforces coherency when the hardware makes every DMA through it snoop the CPU caches,
whatever the device asks for. VT-d can do that where a unit has snoop control; which units count
is a matter of the kernel (`DomainScope`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_vfio.profiles.profile import DomainScope

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import IommuGroup


class Domain:
    """The domain of one or more IOMMU groups."""

    __slots__ = ("enforces_coherency", "iommu_groups", "number")

    def __init__(self, iommu_group: IommuGroup) -> None:
        self.number = 0  # until a container keeps it
        self.iommu_groups = [iommu_group]
        self.enforces_coherency = _enforceable(iommu_group)

    def compatible(self, other: Domain) -> bool:
        """Whether groups of both could share one page table."""
        return self.enforces_coherency == other.enforces_coherency


def _enforceable(iommu_group: IommuGroup) -> bool:
    kernel = iommu_group.kernel
    if kernel.profile.domain_scope is DomainScope.EVERY_UNIT:
        return kernel.every_unit_snoops()
    return iommu_group.iommu.enforces_coherency


def device_can_enforce_coherency(iommu_group: IommuGroup) -> bool:
    """IOMMU_CAP_ENFORCE_CACHE_COHERENCY of a device in `iommu_group`."""
    return iommu_group.iommu.enforces_coherency
