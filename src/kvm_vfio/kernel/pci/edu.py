# SPDX-License-Identifier: GPL-2.0-only
"""`edu`, QEMU's educational device: a first device to write a driver for.

Rule of this file: the registers are those of its specification (QEMU, docs/specs/edu). Where it
leaves open what an odd access does, this does what Linux 6.1 to 7.3 read from the device itself.

It inverts a number, computes a factorial, raises interrupts on demand, and copies between memory
and a buffer of its own. Both the factorial and a copy end within the write that starts them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import ClassVar

from kvm_vfio.kernel.iommu.dma import DmaFault
from kvm_vfio.kernel.pci.model import Bus, DeviceModel, Register
from kvm_vfio.machine.model import Bar, Msi, PciDevice

_ALL_32 = 0xFFFF_FFFF
_ALL_64 = 0xFFFF_FFFF_FFFF_FFFF

_STATUS_INTERRUPT = 0x80  # interrupt when the factorial is there
_COMMAND_RUN, _COMMAND_TO_MEMORY, _COMMAND_INTERRUPT = 1, 2, 4
_COMMAND_BITS = _COMMAND_RUN | _COMMAND_TO_MEMORY | _COMMAND_INTERRUPT
_FACTORIAL_DONE, _DMA_DONE = 0x001, 0x100  # in the interrupt status

_BUFFER = 0x40000  # where the device's own memory is, for its DMA engine
_BUFFER_BYTES = 4096
_NARROWEST = 4  # bytes of an access that the device takes
_OVERFLOWS = 34  # from here on 32 bits of a factorial are 0


@dataclass(frozen=True, slots=True)
class EduOptions:
    """`dma_mask`: which bits of an address the DMA engine drives; 28 of them unless it is told.

    `no_snoop`: its DMA has the No-Snoop attribute. QEMU's does not.
    """

    dma_mask: int = (1 << 28) - 1
    no_snoop: bool = False

    def __post_init__(self) -> None:
        if self.dma_mask < 0:
            raise ValueError("a mask of address bits is not negative; write such as 0xfffffff")


class Edu(DeviceModel):
    """The device. It has no reset of its own: what its registers hold outlives a driver."""

    options_type = EduOptions
    options: EduOptions
    unclaimed: ClassVar[int] = -1
    function = PciDevice(
        address="",
        vendor=0x1234,
        device=0x11E8,
        class_code=0x00FF00,
        subsystem_vendor=0x1AF4,
        subsystem_device=0x1100,
        revision=0x10,
        bars=(Bar(0, 1 << 20),),
        interrupt_pin=1,
        msi=Msi(),
    )

    identification = Register(0x00, initial=0x010000ED)
    liveness = Register(0x04)
    factorial = Register(0x08)
    status = Register(0x20, writable=_STATUS_INTERRUPT)
    interrupt_status = Register(0x24)
    interrupt_raise = Register(0x60, reads=False)
    interrupt_acknowledge = Register(0x64, reads=False)
    dma_source = Register(0x80, 8, writable=_ALL_64, parts=False)
    dma_destination = Register(0x88, 8, writable=_ALL_64, parts=False)
    dma_count = Register(0x90, 8, writable=_ALL_64, parts=False)
    dma_command = Register(0x98, 8, parts=False)

    def __init__(self, bus: Bus, options: EduOptions | None = None) -> None:
        super().__init__(bus, options)
        self.buffer = bytearray(_BUFFER_BYTES)

    def read(self, bar: int, offset: int, width: int) -> int:
        """Narrow accesses do nothing and read as 0."""
        return 0 if width < _NARROWEST else super().read(bar, offset, width)

    def write(self, bar: int, offset: int, width: int, value: int) -> None:
        """Narrow accesses do nothing and read as 0."""
        if width >= _NARROWEST:
            super().write(bar, offset, width, value)

    @liveness.written
    def _invert(self, value: int) -> None:
        self.liveness = ~value

    @factorial.written
    def _compute(self, value: int) -> None:
        self.factorial = factorial(value) & _ALL_32 if value < _OVERFLOWS else 0
        if self.status & _STATUS_INTERRUPT:
            self._raise(_FACTORIAL_DONE)

    @interrupt_raise.written
    def _raise(self, value: int) -> None:
        self.interrupt_status |= value
        if self.interrupt_status:
            self.irq.trigger()

    @interrupt_acknowledge.written
    def _acknowledge(self, value: int) -> None:
        self.interrupt_status &= ~value
        if not self.interrupt_status:
            self.irq.clear()

    @dma_command.written
    def _copy(self, value: int) -> None:
        if not value & _COMMAND_RUN:
            return
        self.dma_command = value & _COMMAND_BITS & ~_COMMAND_RUN
        if value & _COMMAND_TO_MEMORY:
            self._to_memory(self.dma_source - _BUFFER, self.dma_destination)
        else:
            self._from_memory(self.dma_source, self.dma_destination - _BUFFER)
        if value & _COMMAND_INTERRUPT:
            self._raise(_DMA_DONE)

    def _drives(self, address: int) -> int:
        return address & self.options.dma_mask

    def _to_memory(self, at: int, address: int) -> None:
        end = at + self.dma_count
        if 0 <= at <= end <= _BUFFER_BYTES:
            try:
                data = bytes(self.buffer[at:end])
                self.dma.write(self._drives(address), data, no_snoop=self.options.no_snoop)
            except DmaFault:
                return  # nobody tells the device

    def _from_memory(self, address: int, at: int) -> None:
        end = at + self.dma_count
        if 0 <= at <= end <= _BUFFER_BYTES:
            try:
                size, no_snoop = end - at, self.options.no_snoop
                data = self.dma.read(self._drives(address), size, no_snoop=no_snoop)
            except DmaFault:
                data = bytes(end - at)  # what an aborted read leaves
            self.buffer[at:end] = data
