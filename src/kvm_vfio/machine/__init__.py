# SPDX-License-Identifier: GPL-2.0-only
"""The machine: which PCI devices there are, in which IOMMU groups, behind which IOMMU."""

from kvm_vfio.machine.model import (
    Bar,
    BarKind,
    Iommu,
    IommuGroup,
    Machine,
    Msi,
    Msix,
    PciDevice,
    with_snoop_control,
)

__all__ = [
    "Bar",
    "BarKind",
    "Iommu",
    "IommuGroup",
    "Machine",
    "Msi",
    "Msix",
    "PciDevice",
    "with_snoop_control",
]
