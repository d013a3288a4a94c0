# SPDX-License-Identifier: GPL-2.0-only
"""What of the described machines is measured."""

from __future__ import annotations

from kvm_vfio.machine.load import load_machine
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine, PciDevice


def assignable() -> tuple[int, str]:
    """An IOMMU group of the default machine that can be assigned, and a PCI device in it."""
    return next(
        (group.number, group.devices[0].address)
        for _, group in load_machine("default").groups()
        if group.devices and all(device.driver == "vfio-pci" for device in group.devices)
    )


def many_groups(count: int) -> Machine:
    """A machine of `count` IOMMU groups, 1 to `count`, with one assignable device each."""
    groups = tuple(
        IommuGroup(
            number,
            (PciDevice(f"0000:{number >> 5:02x}:{number & 31:02x}.0", 0x1234, 0x11E8, 0x00FF00),),
        )
        for number in range(1, count + 1)
    )
    return Machine("many groups", (Iommu("dmar0", groups),))
