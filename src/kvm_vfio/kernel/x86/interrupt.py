# SPDX-License-Identifier: GPL-2.0-only
"""An interrupt on its way to the local APICs (struct kvm_lapic_irq).

Rule of this file: the two ways to write one down, an entry of an IOAPIC and an MSI, become one.
"""

from __future__ import annotations

from typing import NamedTuple


class Interrupt(NamedTuple):
    """`destination` is an APIC's id or, if `logical`, a set of them; `mode` as the APIC has it."""

    vector: int
    mode: int
    logical: bool
    level_triggered: bool
    destination: int


def from_ioapic(entry: int) -> Interrupt:
    """An entry of a redirection table."""
    return Interrupt(
        vector=entry & 0xFF,
        mode=entry >> 8 & 7,
        logical=bool(entry >> 11 & 1),
        level_triggered=bool(entry >> 15 & 1),
        destination=entry >> 56,
    )


def from_msi(address: int, data: int, *, x2apic_format: bool) -> Interrupt:
    """A message (kvm_set_msi_irq). `address` has 64 bits, of which the upper ones say more."""
    destination = address >> 12 & 0xFF
    if x2apic_format:
        destination |= address >> 32 & 0xFFFF_FF00
    return Interrupt(
        vector=data & 0xFF,
        mode=data >> 8 & 7,
        logical=bool(address >> 2 & 1),
        level_triggered=bool(data >> 15 & 1),
        destination=destination,
    )
