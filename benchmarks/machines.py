# SPDX-License-Identifier: GPL-2.0-only
"""What of the described machines is measured."""

from __future__ import annotations

from kvm_vfio.machine.load import load_machine


def assignable() -> tuple[int, str]:
    """An IOMMU group of the default machine that can be assigned, and a PCI device in it."""
    return next(
        (group.number, group.devices[0].address)
        for _, group in load_machine("default").groups()
        if group.devices and all(device.driver == "vfio-pci" for device in group.devices)
    )
