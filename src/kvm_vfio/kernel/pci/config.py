# SPDX-License-Identifier: GPL-2.0-only
"""The configuration space that a function itself has.

Rule of this file: bytes and a mask of writable bits of the same length, as the hardware has them
after Linux has set it up; what VFIO lets through is in `kvm_vfio.kernel.vfio.config`. BAR sizing
needs nothing special: the low bits of a BAR are not writable, so all ones read back as the size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from kvm_vfio.machine.model import BarKind
from kvm_vfio.uapi.pci import (
    PCI_BASE_ADDRESS_0,
    PCI_BASE_ADDRESS_MEM_PREFETCH,
    PCI_BASE_ADDRESS_MEM_TYPE_64,
    PCI_BASE_ADDRESS_SPACE_IO,
    PCI_CACHE_LINE_SIZE,
    PCI_CAP_ID_AF,
    PCI_CAP_ID_EXP,
    PCI_CAP_ID_MSI,
    PCI_CAP_ID_MSIX,
    PCI_CAP_ID_PM,
    PCI_CAP_ID_VNDR,
    PCI_CAP_ID_VPD,
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
    PCI_ERR_COR_ADV_NFAT,
    PCI_ERR_COR_MASK,
    PCI_EXP_DEVCAP_FLR,
    PCI_EXP_DEVCAP_RBER,
    PCI_EXP_FLAGS_VERS,
    PCI_EXT_CAP_ID_DSN,
    PCI_EXT_CAP_ID_ERR,
    PCI_HEADER_TYPE,
    PCI_HEADER_TYPE_MFD,
    PCI_INTERRUPT_LINE,
    PCI_INTERRUPT_PIN,
    PCI_MSI_FLAGS_64BIT,
    PCI_MSI_FLAGS_MASKBIT,
    PCI_PM_CTRL,
    PCI_PM_CTRL_STATE_MASK,
    PCI_PM_SIZEOF,
    PCI_REVISION_ID,
    PCI_STATUS,
    PCI_STATUS_CAP_LIST,
    PCI_STD_HEADER_SIZEOF,
    PCI_SUBSYSTEM_ID,
    PCI_SUBSYSTEM_VENDOR_ID,
    PCI_VENDOR_ID,
)

if TYPE_CHECKING:
    from kvm_vfio.machine.model import Bar, Msi, Msix, PciDevice
    from kvm_vfio.profiles.profile import Profile

_COMMAND_AFTER_OPEN = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_SERR  # measured: 0x0103
_COMMAND_WRITABLE = _COMMAND_AFTER_OPEN | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE

# The bytes of capabilities that are always as long; VFIO hides what it knows no size of.
_SIZES = MappingProxyType(
    {
        PCI_CAP_ID_PM: PCI_PM_SIZEOF,
        PCI_CAP_ID_VPD: 8,
        PCI_CAP_ID_MSIX: 12,
        PCI_CAP_ID_AF: 6,
    }
)
_EXTENDED_SIZES = MappingProxyType({PCI_EXT_CAP_ID_ERR: 0x48, PCI_EXT_CAP_ID_DSN: 12})
_EXPRESS_SIZES = MappingProxyType({1: 20, 2: 60})  # of an endpoint, by the capability's version


def hardware(
    device: PciDevice, profile: Profile, addresses: Mapping[int, int]
) -> tuple[bytearray, bytearray]:
    """What the function has after Linux has set it up, and which bits of it a write changes.

    `addresses` says where Linux has put each BAR. A described `config` stands in the place of
    capabilities that would be laid out here.
    """
    space = _Hardware(device)
    space.header(device)
    space.bars(device.bars, addresses)
    if device.config:
        space.overlay(device)
    else:
        space.capabilities(device)
    if space.data[PCI_CAPABILITY_LIST]:
        space.data[PCI_STATUS] |= PCI_STATUS_CAP_LIST
    if profile.aer_reports_advisory:
        space.unmask_advisory_errors()
    return space.data, space.writable


class _Hardware:
    """Configuration space that is being laid out."""

    def __init__(self, device: PciDevice) -> None:
        size = PCI_CFG_SPACE_EXP_SIZE if device.pci_express else PCI_CFG_SPACE_SIZE
        self.data = bytearray(size)
        self.writable = bytearray(size)
        # What no capability claims is memory: measured on QEMU's devices.
        self.writable[PCI_STD_HEADER_SIZEOF:] = b"\xff" * (size - PCI_STD_HEADER_SIZEOF)
        self._previous_link = PCI_CAPABILITY_LIST
        self._next_capability = PCI_STD_HEADER_SIZEOF

    def _set(self, offset: int, width: int, value: int, writable: int = 0) -> None:
        self.data[offset : offset + width] = value.to_bytes(width, "little")
        self.writable[offset : offset + width] = writable.to_bytes(width, "little")

    def header(self, device: PciDevice) -> None:
        """The first 64 bytes, without BARs."""
        self._set(PCI_VENDOR_ID, 2, device.vendor)
        self._set(PCI_DEVICE_ID, 2, device.device)
        self._set(PCI_COMMAND, 2, _COMMAND_AFTER_OPEN, _COMMAND_WRITABLE)
        self._set(PCI_REVISION_ID, 1, device.revision)
        self._set(PCI_CLASS_PROG, 3, device.class_code)
        self._set(PCI_CACHE_LINE_SIZE, 1, 0, 0xFF)
        self._set(PCI_HEADER_TYPE, 1, PCI_HEADER_TYPE_MFD if device.multifunction else 0)
        self._set(PCI_SUBSYSTEM_VENDOR_ID, 2, device.subsystem_vendor)
        self._set(PCI_SUBSYSTEM_ID, 2, device.subsystem_device)
        self._set(PCI_INTERRUPT_LINE, 1, device.interrupt_line, 0xFF)
        self._set(PCI_INTERRUPT_PIN, 1, device.interrupt_pin)

    def bars(self, bars: tuple[Bar, ...], addresses: Mapping[int, int]) -> None:
        """The base address registers."""
        for bar in bars:
            offset = PCI_BASE_ADDRESS_0 + 4 * bar.index
            flags = PCI_BASE_ADDRESS_MEM_PREFETCH if bar.prefetchable else 0
            width, bits = 4, 0xFFFF_FFF0
            if bar.kind is BarKind.IO:
                flags, bits = PCI_BASE_ADDRESS_SPACE_IO, 0xFFFF_FFFC
            elif bar.kind is BarKind.MEMORY64:
                flags |= PCI_BASE_ADDRESS_MEM_TYPE_64
                width, bits = 8, 0xFFFF_FFFF_FFFF_FFF0
            self._set(offset, width, addresses[bar.index] | flags, -bar.size & bits)

    def overlay(self, device: PciDevice) -> None:
        """The bytes that the description gives, and the bits it says can be written."""
        for part in device.config:
            self.data[part.offset : part.offset + len(part.data)] = part.data
        for offset, size in capabilities(self.data):
            self.writable[offset : offset + size] = bytes(size)
        for offset, kind in extended_capabilities(self.data):
            size = _EXTENDED_SIZES.get(kind, 4)
            self.writable[offset : offset + size] = bytes(size)
        for part in device.config:
            self.writable[part.offset : part.offset + len(part.writable)] = part.writable

    def capabilities(self, device: PciDevice) -> None:
        """Those that the device has, one after the other."""
        if device.power_management:
            at = self._append(PCI_CAP_ID_PM, bytes([3, 0, 0, 0, 0, 0]))
            self.writable[at + PCI_PM_CTRL] = PCI_PM_CTRL_STATE_MASK
        if device.msi:
            self._msi(device.msi)
        if device.pci_express:
            flr = PCI_EXP_DEVCAP_FLR if device.reset else 0
            words = (PCI_EXP_DEVCAP_RBER | flr).to_bytes(4, "little")
            self._append(PCI_CAP_ID_EXP, (2).to_bytes(2, "little") + words + bytes(52))
        if device.msix:
            self._msix(device.msix)

    def _append(self, kind: int, body: bytes) -> int:
        offset = self._next_capability
        self.data[self._previous_link] = offset
        self._set(offset, 2, kind)
        self.data[offset + 2 : offset + 2 + len(body)] = body
        self.writable[offset + 2 : offset + 2 + len(body)] = bytes(len(body))
        self._previous_link = offset + 1
        self._next_capability = offset + -(-(2 + len(body)) // 4) * 4
        return offset

    def _msi(self, msi: Msi) -> None:
        flags = PCI_MSI_FLAGS_64BIT | (msi.vectors.bit_length() - 1) << 1
        if msi.maskable:
            flags |= PCI_MSI_FLAGS_MASKBIT
        at = self._append(PCI_CAP_ID_MSI, flags.to_bytes(2, "little") + bytes(_msi_size(flags) - 4))
        if msi.maskable:
            mask = (1 << msi.vectors) - 1
            self.writable[at + 16 : at + 20] = mask.to_bytes(4, "little")

    def _msix(self, msix: Msix) -> None:
        words = (msix.table_offset | msix.table_bar, msix.pba_offset | msix.pba_bar)
        body = (msix.vectors - 1).to_bytes(2, "little")
        body += b"".join(word.to_bytes(4, "little") for word in words)
        self._append(PCI_CAP_ID_MSIX, body)

    def unmask_advisory_errors(self) -> None:
        """Linux lets the function report correctable errors that it could have called worse."""
        for at, kind in extended_capabilities(self.data):
            if kind == PCI_EXT_CAP_ID_ERR:
                self.data[at + PCI_ERR_COR_MASK + 1] &= ~(PCI_ERR_COR_ADV_NFAT >> 8)


def _msi_size(flags: int) -> int:
    size = 14 if flags & PCI_MSI_FLAGS_64BIT else 10
    return size + 10 if flags & PCI_MSI_FLAGS_MASKBIT else size


def capabilities(data: bytearray) -> Iterator[tuple[int, int]]:
    """(offset, size) of each capability in the list, 0 for the size of one that is hidden."""
    at = data[PCI_CAPABILITY_LIST] & 0xFC
    seen: set[int] = set()
    while at >= PCI_STD_HEADER_SIZEOF and at not in seen:
        seen.add(at)
        yield at, _size(data, at)
        at = data[at + 1] & 0xFC


def _size(data: bytearray, at: int) -> int:
    kind, flags = data[at], int.from_bytes(data[at + 2 : at + 4], "little")
    if kind == PCI_CAP_ID_MSI:
        return _msi_size(flags)
    if kind == PCI_CAP_ID_EXP:
        return _EXPRESS_SIZES.get(flags & PCI_EXP_FLAGS_VERS, 0)
    if kind == PCI_CAP_ID_VNDR:
        return data[at + 2]
    return _SIZES.get(kind, 0)


def extended_capabilities(data: bytearray) -> Iterator[tuple[int, int]]:
    """(offset, id) of each capability beyond the first 256 bytes."""
    at = PCI_CFG_SPACE_SIZE if len(data) > PCI_CFG_SPACE_SIZE else 0
    while at >= PCI_CFG_SPACE_SIZE:
        header = int.from_bytes(data[at : at + 4], "little")
        if header:
            yield at, header & 0xFFFF
        following = header >> 20
        at = following if following > at else 0
