# SPDX-License-Identifier: GPL-2.0-only
"""Where BARs are: the addresses that firmware and Linux have given them.

Rule of this file: only addresses. Nothing here decodes anything; programs read them in sysfs and in
configuration space.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kvm_vfio.machine.model import BarKind, Machine

# Where BARs without a described address are, one after the other.
_WINDOWS = MappingProxyType(
    {
        BarKind.IO: 0x1000,
        BarKind.MEMORY32: 0x8000_0000,
        BarKind.MEMORY64: 0x20_0000_0000,
    }
)


def assign(machine: Machine) -> Mapping[str, Mapping[int, int]]:
    """The address of every BAR, by the device's own address and the BAR's index."""
    windows = dict(_WINDOWS)
    assigned: dict[str, dict[int, int]] = {}
    for _, device in machine.devices():
        places = assigned[device.address] = dict(device.addresses)
        for bar in device.bars:
            if bar.index not in places:
                places[bar.index] = -(-windows[bar.kind] // bar.size) * bar.size
                windows[bar.kind] = places[bar.index] + bar.size
    return assigned
