# SPDX-License-Identifier: GPL-2.0-only
"""The IOAPIC: 24 pins, each redirected as the guest has said (arch/x86/kvm/ioapic.c).

Rule of this file: what happens when a line moves, and what reads back. The guest's own writes to it
do not happen here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from kvm_vfio.kernel.x86.interrupt import Interrupt, from_ioapic
from kvm_vfio.uapi.kvm_vm import KVM_IOAPIC_NUM_PINS, KVM_IOAPIC_STATE, kvm_ioapic_state

_BASE = 0xFEC0_0000  # IOAPIC_DEFAULT_BASE_ADDRESS
_ENTRIES = struct.Struct(f"<{KVM_IOAPIC_NUM_PINS}Q")
_REMOTE_IRR = 1 << 14
_LEVEL = 1 << 15
_MASKED = 1 << 16
_PINS = (1 << KVM_IOAPIC_NUM_PINS) - 1

Deliver = Callable[[Interrupt], int]
"""kvm_irq_delivery_to_apic."""


class Ioapic:
    """struct kvm_ioapic. `sources` has who holds a line up, a bit for each."""

    __slots__ = (
        "_base",
        "_deliver",
        "_id",
        "_ioregsel",
        "_pad",
        "delivered",
        "entries",
        "irr",
        "sources",
    )

    def __init__(self, deliver: Deliver) -> None:
        self._deliver = deliver
        self._base, self._ioregsel, self._id, self._pad = _BASE, 0, 0, 0
        self.irr = 0
        self.delivered = 0  # edges that are out, of those in irr
        self.entries = [_MASKED] * KVM_IOAPIC_NUM_PINS
        self.sources = [0] * KVM_IOAPIC_NUM_PINS

    def set_irq(self, pin: int, source: int, *, level: bool) -> int:
        """kvm_ioapic_set_irq."""
        bit = 1 << source
        self.sources[pin] = self.sources[pin] | bit if level else self.sources[pin] & ~bit
        return self._set_irq(pin, level=self.sources[pin] != 0)

    def _set_irq(self, pin: int, *, level: bool) -> int:
        """ioapic_set_irq. 1: lowered; 0: was there; -1: nobody takes it; else how many took it."""
        mask = 1 << pin
        if not level:
            self.irr &= ~mask
            return 1
        was_there = self.irr & mask
        self.irr |= mask
        if not self.entries[pin] & _LEVEL:
            self.delivered &= ~mask
            if was_there:
                return 0
        return self._service(pin)

    def _service(self, pin: int) -> int:
        """ioapic_service."""
        entry = self.entries[pin]
        level = entry & _LEVEL
        if entry & _MASKED or (level and entry & _REMOTE_IRR):
            return -1
        if not level:
            self.delivered |= 1 << pin
        result = self._deliver(from_ioapic(entry))
        if result and level:
            self.entries[pin] |= _REMOTE_IRR
        return result

    def clear_source(self, source: int) -> None:
        """kvm_ioapic_clear_all."""
        self.sources = [states & ~(1 << source) for states in self.sources]

    def get(self) -> bytes:
        """KVM_GET_IRQCHIP (kvm_get_ioapic)."""
        irr = self.irr & ~self.delivered
        entries = _ENTRIES.pack(*self.entries)
        state = kvm_ioapic_state(self._base, self._ioregsel, self._id, irr, self._pad, entries)
        return KVM_IOAPIC_STATE.pack(state)

    def set(self, data: bytes) -> None:
        """KVM_SET_IRQCHIP (kvm_set_ioapic): whatever it says; then what is pending is raised."""
        state = KVM_IOAPIC_STATE.unpack(data)
        self._base, self._ioregsel = state.base_address, state.ioregsel
        self._id, self._pad = state.id, state.pad
        self.entries = list(_ENTRIES.unpack(state.redirtbl))
        self.irr = self.delivered = 0
        for pin in range(KVM_IOAPIC_NUM_PINS):
            if state.irr >> pin & 1:
                self._set_irq(pin, level=True)
