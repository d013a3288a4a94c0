# SPDX-License-Identifier: GPL-2.0-only
"""The configuration space of one function: what it reads, and which bits a write changes.

Rule of this file: bytes and a mask of writable bits of the same length; a device's behaviour is
not here. BAR sizing needs nothing special: the low bits of a BAR are not writable, so all ones
read back as the size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_vfio.machine.model import BarKind
from kvm_vfio.uapi.pci import (
    PCI_BASE_ADDRESS_0,
    PCI_BASE_ADDRESS_MEM_PREFETCH,
    PCI_BASE_ADDRESS_MEM_TYPE_64,
    PCI_BASE_ADDRESS_SPACE_IO,
    PCI_CACHE_LINE_SIZE,
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_CAP_ID_PM,
    PCI_CAPABILITY_LIST,
    PCI_CFG_SPACE_EXP_SIZE,
    PCI_CFG_SPACE_SIZE,
    PCI_CLASS_PROG,
    PCI_COMMAND,
    PCI_COMMAND_INTX_DISABLE,
    PCI_COMMAND_IO,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    PCI_COMMAND_SERR,
    PCI_DEVICE_ID,
    PCI_EXP_DEVCAP_FLR,
    PCI_EXP_DEVCAP_RBER,
    PCI_HEADER_TYPE,
    PCI_HEADER_TYPE_MFD,
    PCI_INTERRUPT_LINE,
    PCI_INTERRUPT_PIN,
    PCI_LATENCY_TIMER,
    PCI_MSI_FLAGS_64BIT,
    PCI_MSI_FLAGS_ENABLE,
    PCI_MSI_FLAGS_MASKBIT,
    PCI_MSI_FLAGS_QSIZE,
    PCI_PM_CTRL_STATE_MASK,
    PCI_REVISION_ID,
    PCI_STATUS,
    PCI_STATUS_CAP_LIST,
    PCI_STD_HEADER_SIZEOF,
    PCI_SUBSYSTEM_ID,
    PCI_SUBSYSTEM_VENDOR_ID,
    PCI_VENDOR_ID,
)

if TYPE_CHECKING:
    from kvm_vfio.machine.model import Msi, Msix, PciDevice

_COMMAND_AFTER_OPEN = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR  # measured: 0x0103
_COMMAND_WRITABLE = _COMMAND_AFTER_OPEN | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE


class ConfigSpace:
    """256 bytes, 4096 for a PCI Express function."""

    __slots__ = ("_next_capability", "_previous_link", "data", "writable")

    def __init__(self, device: PciDevice) -> None:
        size = PCI_CFG_SPACE_EXP_SIZE if device.pci_express else PCI_CFG_SPACE_SIZE
        self.data = bytearray(size)
        self.writable = bytearray(size)
        self._previous_link = PCI_CAPABILITY_LIST
        self._next_capability = PCI_STD_HEADER_SIZEOF
        self._header(device)
        self._bars(device)
        if device.power_management:
            self._capability(PCI_CAP_ID_PM, bytes([3, 0, 0, 0, 0, 0]), {2: PCI_PM_CTRL_STATE_MASK})
        if device.msi:
            self._msi(device.msi)
        if device.pci_express:
            self._pci_express(function_level_reset=device.reset)
        if device.msix:
            self._msix(device.msix)

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes; the caller has checked that they exist."""
        return bytes(self.data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Change the writable bits; the caller has checked that they exist."""
        for at, byte in enumerate(data, offset):
            mask = self.writable[at]
            self.data[at] = self.data[at] & ~mask | byte & mask

    def value(self, offset: int, width: int) -> int:
        """The little-endian number of `width` bytes at `offset`."""
        return int.from_bytes(self.data[offset : offset + width], "little")

    def _set(self, offset: int, width: int, value: int, writable: int = 0) -> None:
        self.data[offset : offset + width] = value.to_bytes(width, "little")
        self.writable[offset : offset + width] = writable.to_bytes(width, "little")

    def _header(self, device: PciDevice) -> None:
        self._set(PCI_VENDOR_ID, 2, device.vendor)
        self._set(PCI_DEVICE_ID, 2, device.device)
        self._set(PCI_COMMAND, 2, _COMMAND_AFTER_OPEN, _COMMAND_WRITABLE)
        self._set(PCI_REVISION_ID, 1, device.revision)
        self._set(PCI_CLASS_PROG, 3, device.class_code)
        self._set(PCI_CACHE_LINE_SIZE, 1, 0, 0xFF)
        self._set(PCI_LATENCY_TIMER, 1, 0, 0xFF)
        self._set(PCI_HEADER_TYPE, 1, PCI_HEADER_TYPE_MFD if device.multifunction else 0)
        self._set(PCI_SUBSYSTEM_VENDOR_ID, 2, device.subsystem_vendor)
        self._set(PCI_SUBSYSTEM_ID, 2, device.subsystem_device)
        self._set(PCI_INTERRUPT_LINE, 1, 0, 0xFF)
        self._set(PCI_INTERRUPT_PIN, 1, device.interrupt_pin)

    def _bars(self, device: PciDevice) -> None:
        for bar in device.bars:
            offset = PCI_BASE_ADDRESS_0 + 4 * bar.index
            flags = PCI_BASE_ADDRESS_MEM_PREFETCH if bar.prefetchable else 0
            if bar.kind is BarKind.IO:
                self._set(offset, 4, PCI_BASE_ADDRESS_SPACE_IO, -bar.size & 0xFFFF_FFFC)
            elif bar.kind is BarKind.MEMORY32:
                self._set(offset, 4, flags, -bar.size & 0xFFFF_FFF0)
            else:
                address = -bar.size & 0xFFFF_FFFF_FFFF_FFF0
                self._set(offset, 8, flags | PCI_BASE_ADDRESS_MEM_TYPE_64, address)

    def _capability(self, kind: int, body: bytes, writable: dict[int, int]) -> None:
        """Append one to the list; `writable` maps an offset in `body` to a 16-bit mask."""
        offset = self._next_capability
        self._set(self._previous_link, 1, offset)
        self._set(PCI_STATUS, 2, self.value(PCI_STATUS, 2) | PCI_STATUS_CAP_LIST)
        self._set(offset, 2, kind)
        self.data[offset + 2 : offset + 2 + len(body)] = body
        for at, mask in writable.items():
            self.writable[offset + 2 + at : offset + 4 + at] = mask.to_bytes(2, "little")
        self._previous_link = offset + 1
        self._next_capability = offset + -(-(2 + len(body)) // 4) * 4

    def _msi(self, msi: Msi) -> None:
        flags = PCI_MSI_FLAGS_64BIT | (msi.vectors.bit_length() - 1) << 1
        body = bytes(12)
        writable = {0: PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE}
        writable |= {2: 0xFFFC, 4: 0xFFFF, 6: 0xFFFF, 8: 0xFFFF, 10: 0xFFFF}
        if msi.maskable:
            flags |= PCI_MSI_FLAGS_MASKBIT
            body += bytes(8)
            mask = (1 << msi.vectors) - 1
            writable |= {14: mask & 0xFFFF, 16: mask >> 16}
        self._capability(PCI_CAP_ID_MSI, flags.to_bytes(2, "little") + body, writable)

    def _pci_express(self, *, function_level_reset: bool) -> None:
        capabilities = PCI_EXP_DEVCAP_RBER | (PCI_EXP_DEVCAP_FLR if function_level_reset else 0)
        body = (2).to_bytes(2, "little") + capabilities.to_bytes(4, "little") + bytes(52)
        self._capability(PCI_CAP_ID_EXP, body, {})

    def _msix(self, msix: Msix) -> None:
        words = (msix.table_offset | msix.table_bar, msix.pba_offset | msix.pba_bar)
        body = (msix.vectors - 1).to_bytes(2, "little")
        body += b"".join(word.to_bytes(4, "little") for word in words)
        self._capability(PCI_CAP_ID_MSIX, body, {})
