# SPDX-License-Identifier: GPL-2.0-only
"""A device model of somebody else: a page of memory, and a doorbell that reverses what is in it."""

from __future__ import annotations

from kvm_vfio import Bar, DeviceModel, PciDevice, Register
from kvm_vfio.kernel.pci.model import Area


class Mailbox(DeviceModel):
    function = PciDevice(
        address="", vendor=0x1234, device=3, class_code=0x120000, bars=(Bar(0, 8192),)
    )
    memory = (Area(bar=0, offset=4096, size=4096),)
    length = Register(0x00, writable=0xFFF)
    doorbell = Register(0x04, reads=False)

    @doorbell.written
    def _ring(self, _: int) -> None:
        memory, end = self.bus.memory(0), 4096 + self.length
        memory[4096:end] = bytes(memory[4096:end])[::-1]
