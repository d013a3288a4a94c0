# SPDX-License-Identifier: GPL-2.0-only
"""What a PCI function does on the bus by itself: DMA, and interrupts.

Rule of this file: the function acts, and its configuration space says what it may. Both DMA and
message interrupts are writes of a bus master, so neither happens while COMMAND has that off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_vfio.kernel.iommu import dma
from kvm_vfio.kernel.iommu.dma import DmaFault
from kvm_vfio.uapi.pci import PCI_COMMAND, PCI_COMMAND_MASTER

if TYPE_CHECKING:
    from kvm_vfio.kernel.file import Mapping
    from kvm_vfio.kernel.iommu.group import PciFunction
    from kvm_vfio.kernel.pci.storage import Storage


class FunctionBus:
    """The bus as one function sees it: `dma`, `irq`, the memory of its BARs, files behind it."""

    __slots__ = ("_function", "dma", "irq")

    def __init__(self, function: PciFunction) -> None:
        self._function = function
        self.dma = FunctionDma(function)
        self.irq = FunctionInterrupts(function)

    def memory(self, bar: int) -> Mapping:
        """A BAR's memory, as far as it is memory. The device is open."""
        device = self._function.vfio_device
        if device is None:
            raise RuntimeError(f"{self._function.static.address} is not VFIO's")
        return device.bar(bar)

    def storage(self, path: str) -> Storage:
        """The file at `path`, which the function keeps its data in. InputError."""
        return self._function.iommu_group.kernel.open_storage(path)


def _require_master(function: PciFunction, iova: int) -> None:
    if not _is_master(function):
        raise DmaFault(iova, "the function is no bus master")


def _is_master(function: PciFunction) -> bool:
    device = function.vfio_device
    return device is not None and bool(device.config.data[PCI_COMMAND] & PCI_COMMAND_MASTER)


class FunctionDma:
    """Memory as the function reaches it: by iova."""

    __slots__ = ("_function",)

    def __init__(self, function: PciFunction) -> None:
        self._function = function

    def read(self, iova: int, size: int, *, no_snoop: bool = False) -> bytes:
        """`Dma.read`. DmaFault: not a bus master, or what the IOMMU says."""
        try:
            _require_master(self._function, iova)
            return dma.read(self._function, iova, size, no_snoop=no_snoop)
        except DmaFault as fault:
            self._tell(fault)
            raise

    def write(self, iova: int, data: bytes, *, no_snoop: bool = False) -> None:
        """`Dma.write`. DmaFault, with what lies before the fault written."""
        try:
            _require_master(self._function, iova)
            dma.write(self._function, iova, data, no_snoop=no_snoop)
        except DmaFault as fault:
            self._tell(fault)
            raise

    def _tell(self, fault: DmaFault) -> None:
        self._function.iommu_group.kernel.observer.dma_faulted(fault, self._function)


class FunctionInterrupts:
    """The function's interrupts: whichever kind its driver has enabled."""

    __slots__ = ("_function",)

    def __init__(self, function: PciFunction) -> None:
        self._function = function

    def trigger(self, vector: int = 0) -> None:
        """Interrupt: a message for `vector`, or without MSI and MSI-X the line until `clear`."""
        device = self._function.vfio_device
        if device is None:
            return
        if not device.irqs.sends_messages:
            device.set_intx(asserted=True)
        elif _is_master(self._function):
            device.irqs.message(vector)

    def clear(self) -> None:
        """Let the line go. A message that was sent is sent."""
        device = self._function.vfio_device
        if device is not None:
            device.set_intx(asserted=False)
