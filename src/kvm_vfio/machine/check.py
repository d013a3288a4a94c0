# SPDX-License-Identifier: GPL-2.0-only
"""What no hardware can be: the faults of a machine, each at its place.

Rule of this file: it looks at values only. Where they came from, and in which line, is known to
`kvm_vfio.machine.load`.

A place is the path of the fault in a machine file: `iommu[0].group[2].device[0].bars[1].size`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from kvm_vfio.machine.model import (
    Bar,
    BarKind,
    ConfigBytes,
    Iommu,
    IommuGroup,
    Machine,
    Msi,
    Msix,
    PciDevice,
    RegisterValue,
)
from kvm_vfio.uapi.pci import (
    PCI_CAPABILITY_LIST,
    PCI_CFG_SPACE_EXP_SIZE,
    PCI_CFG_SPACE_SIZE,
    PCI_MSIX_ENTRY_SIZE,
    PCI_STD_HEADER_SIZEOF,
    PCI_STD_NUM_BARS,
)

# The least and the most a BAR decodes, in bytes. PCI's own rules, but for the last number: Linux
# gives every VFIO region 40 bits of its device's file.
BAR_SIZES = {
    BarKind.IO: (4, 256),
    BarKind.MEMORY32: (16, 1 << 31),
    BarKind.MEMORY64: (16, 1 << 40),
}
BAR_NAMES = {
    BarKind.IO: "an I/O BAR",
    BarKind.MEMORY32: "a 32-bit memory BAR",
    BarKind.MEMORY64: "a 64-bit memory BAR",
}
ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")


class Fault(NamedTuple):
    """One thing wrong: where, and the reason with its remedy. `place` is a path into the file."""

    place: str
    reason: str


def size_text(size: int) -> str:
    """A number of bytes as machine files have it: 256, 4K, 1M."""
    for shift, unit in ((40, "T"), (30, "G"), (20, "M"), (10, "K")):
        if size and size % (1 << shift) == 0:
            return f"{size >> shift}{unit}"
    return str(size)


def faults(machine: Machine) -> Iterator[Fault]:
    """Every fault of `machine`, in the order of the description."""
    yield from _text("name", machine.name)
    yield from _text("description", machine.description)
    if not machine.iommus:
        yield Fault("iommu", "there is no IOMMU, so there is nothing to assign; add an [[iommu]]")
    seen: dict[object, str] = {}
    for i, iommu in enumerate(machine.iommus):
        where = f"iommu[{i}]"
        yield from _once(seen, ("IOMMU", iommu.name), where, ".name")
        yield from _below(where, _iommu(iommu))
        for g, group in enumerate(iommu.groups):
            yield from _groups_and_devices(seen, f"{where}.group[{g}]", group)


def _groups_and_devices(
    seen: dict[object, str], where: str, iommu_group: IommuGroup
) -> Iterator[Fault]:
    yield from _once(seen, ("group", iommu_group.number), where, ".number")
    yield from _below(where, _group(iommu_group))
    for d, device in enumerate(iommu_group.devices):
        yield from _once(seen, ("device", device.address), f"{where}.device[{d}]", ".address")
        yield from _below(f"{where}.device[{d}]", _device(device))


def _below(where: str, found: Iterator[Fault]) -> Iterator[Fault]:
    for place, reason in found:
        yield Fault(where + place, reason)


def _once(
    seen: dict[object, str], thing: tuple[str, object], where: str, key: str
) -> Iterator[Fault]:
    kind, name = thing
    first = seen.setdefault(thing, where)
    if first != where:
        yield Fault(where + key, f"{kind} {name} is already {first}; choose another {key[1:]}")


def _text(place: str, text: str) -> Iterator[Fault]:
    if not text.isprintable():
        yield Fault(place, "it has a line break or control character; write one line of plain text")


def _iommu(iommu: Iommu) -> Iterator[Fault]:
    if not NAME.fullmatch(iommu.name):
        yield Fault(".name", 'this is no name for an IOMMU; write one such as "dmar0"')
    if not 32 <= iommu.address_width <= 64:  # noqa: PLR2004  # a width says most as a number
        yield Fault(
            ".address_width",
            f"an iova has 32 to 64 bits, not {iommu.address_width}; write 39 or 48",
        )
    if iommu.kind == "amd" and not iommu.snoop_control:
        yield Fault(
            ".snoop_control", "an AMD IOMMU always enforces coherency; remove the key or write true"
        )
    if not iommu.groups:
        yield Fault(".group", "this IOMMU has no group; add an [[iommu.group]] or remove the IOMMU")


def _group(iommu_group: IommuGroup) -> Iterator[Fault]:
    yield from _fits(".number", iommu_group.number, 31)
    if not iommu_group.devices:
        yield Fault(
            ".device",
            f"group {iommu_group.number} has no device; "
            "add an [[iommu.group.device]] or remove the group",
        )


def _device(device: PciDevice) -> Iterator[Fault]:
    if not ADDRESS.fullmatch(device.address):
        yield Fault(
            ".address",
            "this is no PCI address; write it as lspci -D prints it, such as 0000:00:10.0",
        )
    yield from _fits(".vendor", device.vendor, 16)
    yield from _fits(".device", device.device, 16)
    yield from _fits(".class", device.class_code, 24)
    yield from _fits(".subsystem_vendor", device.subsystem_vendor, 16)
    yield from _fits(".subsystem_device", device.subsystem_device, 16)
    yield from _fits(".revision", device.revision, 8)
    if device.vendor == 0xFFFF:  # noqa: PLR2004  # all ones is what a bus reads where nobody is
        yield Fault(".vendor", "vendor 0xffff means that no device is there; write the real one")
    if device.driver is not None and not NAME.fullmatch(device.driver):
        yield Fault(
            ".driver",
            'this is no driver\'s name; write "none" where no driver holds the device',
        )
    taken: dict[int, str] = {}
    for i, bar in enumerate(device.bars):
        yield from _below(f".bars[{i}]", _bar(bar, taken))
    yield from _fits(".interrupt_line", device.interrupt_line, 8)
    yield from _fits(".irq", device.irq, 31)
    yield from _addresses(device)
    for i, config in enumerate(device.config):
        yield from _below(f".config[{i}]", _config(config, device))
    for i, register in enumerate(device.registers):
        yield from _below(f".registers[{i}]", _register(register, device.bars))
    if device.msi is not None:
        yield from _below(".msi", _msi(device.msi))
    if device.msix is not None:
        yield from _below(".msix", _msix(device.msix, device.bars))


def _fits(place: str, value: int, bits: int) -> Iterator[Fault]:
    if not 0 <= value < 1 << bits:
        yield Fault(place, f"{value:#x} is out of range; write 0 to {(1 << bits) - 1:#x}")


def _bar(bar: Bar, taken: dict[int, str]) -> Iterator[Fault]:
    """The faults of `bar`; `taken` says what has which index so far, and learns of this one."""
    if not 0 <= bar.index < PCI_STD_NUM_BARS:
        yield Fault(".index", f"there is no BAR {bar.index}; write 0 to {PCI_STD_NUM_BARS - 1}")
        return
    yield from _bar_index(bar, taken)
    least, most = BAR_SIZES[bar.kind]
    limits = f"{size_text(least)} to {size_text(most)} bytes"
    if not least <= bar.size <= most:
        yield Fault(".size", f"{BAR_NAMES[bar.kind]} has {limits}, not {bar.size}; change the size")
    elif bar.size & (bar.size - 1):
        above = size_text(1 << bar.size.bit_length())
        yield Fault(".size", f"{bar.size} is no power of two; the next one is {above}")
    if bar.kind is BarKind.IO and bar.prefetchable:
        yield Fault(".prefetchable", "an I/O BAR cannot be prefetchable; remove the key")


def _bar_index(bar: Bar, taken: dict[int, str]) -> Iterator[Fault]:
    wide = bar.kind is BarKind.MEMORY64
    if wide and bar.index == PCI_STD_NUM_BARS - 1:
        yield Fault(".index", "a 64-bit BAR takes two indices and there is no BAR 6; write 0 to 4")
        return
    for index in (bar.index, bar.index + 1) if wide else (bar.index,):
        if index in taken:
            yield Fault(".index", f"{taken[index]} has index {index} already; choose another index")
            return
    taken[bar.index] = f"BAR {bar.index}"
    if wide:
        taken[bar.index + 1] = f"the upper half of BAR {bar.index}"


def _addresses(device: PciDevice) -> Iterator[Fault]:
    bars = {bar.index: bar for bar in device.bars}
    for index, address in device.addresses:
        bar = bars.get(index)
        if bar is None:
            yield Fault(".addresses", f"there is no BAR {index}; describe it, or leave it out")
        elif not 0 < address < 1 << (64 if bar.kind is BarKind.MEMORY64 else 32):
            yield Fault(".addresses", f"BAR {index} cannot be at {address:#x}; write a lower one")
        elif bar.size > 0 and address % bar.size:
            remedy = f"write a multiple of its size, {size_text(bar.size)}"
            yield Fault(".addresses", f"BAR {index} cannot be at {address:#x}; {remedy}")


def _config(config: ConfigBytes, device: PciDevice) -> Iterator[Fault]:
    size = PCI_CFG_SPACE_EXP_SIZE if device.pci_express else PCI_CFG_SPACE_SIZE
    end = config.offset + len(config.data)
    pointer = config.offset == PCI_CAPABILITY_LIST and len(config.data) == 1
    if not pointer and config.offset < PCI_STD_HEADER_SIZEOF:
        reason = "the first 64 bytes come from the other keys, but for the list's pointer at 0x34"
        yield Fault(".offset", f"{reason}; write 0x40 or more")
    elif end > size:
        yield Fault(".bytes", f"this would end at {end:#x} and the space at {size:#x}; write less")
    if config.writable and len(config.writable) != len(config.data):
        yield Fault(".writable", f"write {len(config.data)} bytes here, one for each of bytes")


def _register(register: RegisterValue, bars: tuple[Bar, ...]) -> Iterator[Fault]:
    bar = next((bar for bar in bars if bar.index == register.bar), None)
    if bar is None:
        yield Fault(".bar", f"there is no BAR {register.bar}; describe it, or leave this out")
    elif register.offset % 4 or not 0 <= register.offset <= bar.size - 4:
        there = f"BAR {register.bar} has no 32 bits at {register.offset:#x}"
        yield Fault(".offset", f"{there}; write a multiple of 4 below {bar.size:#x}")
    yield from _fits(".value", register.value, 32)


def _msi(msi: Msi) -> Iterator[Fault]:
    if msi.vectors not in (1, 2, 4, 8, 16, 32):
        yield Fault(".vectors", f"MSI has 1, 2, 4, 8, 16 or 32 vectors, not {msi.vectors}")


def _msix(msix: Msix, bars: tuple[Bar, ...]) -> Iterator[Fault]:
    if not 1 <= msix.vectors <= 2048:  # noqa: PLR2004  # a width says most as a number
        yield Fault(".vectors", f"MSI-X has 1 to 2048 vectors, not {msix.vectors}")
        return
    table, pending = msix_sizes(msix.vectors)
    yield from _msix_part("table", "MSI-X table", msix.table_bar, msix.table_offset, table, bars)
    yield from _msix_part("pba", "MSI-X pending bits", msix.pba_bar, msix.pba_offset, pending, bars)
    behind = msix.table_offset + table
    apart = msix.pba_offset + pending <= msix.table_offset or behind <= msix.pba_offset
    if msix.table_bar == msix.pba_bar and not apart:
        yield Fault(
            ".pba_offset",
            f"the MSI-X pending bits overlap the table; put them at {behind:#x} or behind",
        )


def msix_sizes(vectors: int) -> tuple[int, int]:
    """How many bytes the table and the pending bits take."""
    return vectors * PCI_MSIX_ENTRY_SIZE, (vectors + 63) // 64 * 8


def _msix_part(
    key: str, what: str, index: int, offset: int, size: int, bars: tuple[Bar, ...]
) -> Iterator[Fault]:
    holder = next((bar for bar in bars if bar.index == index), None)
    memory = [bar.index for bar in bars if bar.kind is not BarKind.IO]
    if holder is None or holder.kind is BarKind.IO:
        choice = "name one of " + ", ".join(map(str, memory)) if memory else "add one to bars"
        yield Fault(
            f".{key}_bar", f"the {what} must be in a memory BAR and {index} is none; {choice}"
        )
    elif offset < 0 or offset % 8:
        yield Fault(f".{key}_offset", f"{offset} is no multiple of 8; the {what} must begin at one")
    elif offset + size > holder.size:
        yield Fault(
            f".{key}_offset",
            f"the {what} would end at {offset + size:#x} and BAR {index} ends at {holder.size:#x}; "
            "move it or make the BAR larger",
        )
