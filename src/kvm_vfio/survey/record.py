# SPDX-License-Identifier: GPL-2.0-only
"""From a computer to a described machine, which `kvm-vfio run` shows to programs.

Rule of this file: what kernels and VMMs act upon is recorded, and nothing that tells this computer
from another of its kind: no serial number, no host name, no address that was given to a BAR. What a
machine file cannot say (a BAR that is none, as an IDE controller's ports) is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kvm_vfio.errors import Unsupported
from kvm_vfio.machine.check import faults
from kvm_vfio.machine.model import (
    Bar,
    BarKind,
    Iommu,
    IommuGroup,
    Machine,
    Msi,
    Msix,
    PciDevice,
)
from kvm_vfio.survey.facts import Computer, Function, Group, Unit
from kvm_vfio.uapi import pci

# IORESOURCE_*, include/linux/ioport.h
_IO, _MEM, _PREFETCH, _MEM_64 = 0x100, 0x200, 0x2000, 0x100000

_WIDTHS = range(32, 65)
_WIDTH_UNSAID = 39
_MOST_VECTORS = 5  # of MSI, as a power of two
_CAPABILITIES_FROM = pci.PCI_STD_HEADER_SIZEOF
_NO_NAME = re.compile(r"[^A-Za-z0-9._+-]")
_ARCHITECTURES = ("x86_64", "aarch64")


@dataclass(frozen=True, slots=True)
class Abilities:
    """What the capability list of a function says."""

    power_management: bool = False
    pci_express: bool = False
    msi: Msi | None = None
    msix: Msix | None = None


def described(computer: Computer) -> Machine:
    """The machine. Unsupported: there is no IOMMU, or none that a machine file can have."""
    if computer.architecture not in _ARCHITECTURES:
        raise Unsupported(
            f"this computer is {computer.architecture}; machine files describe "
            f"{' and '.join(_ARCHITECTURES)}"
        )
    iommus = tuple(_iommu(computer, unit, groups) for unit, groups in _by_unit(computer) if groups)
    if not iommus:
        names = ", ".join(unit.name for unit in computer.units)
        raise Unsupported(
            f"machine files describe Intel's and AMD's IOMMUs, and this computer has {names}"
            if names
            else "this computer has no IOMMU and so no group to record; `kvm-vfio inspect` says why"
        )
    return Machine(
        name="here",
        iommus=iommus,
        description=f"recorded on Linux {computer.release}",
        architecture=computer.architecture,
    )


def unreadable(computer: Computer) -> int:
    """How many functions do not show their capabilities, MSI among them, to this user."""
    functions = (function for group in computer.groups for function in group.functions)
    return sum(len(function.config) <= _CAPABILITIES_FROM for function in functions)


def _by_unit(computer: Computer) -> list[tuple[Unit, list[Group]]]:
    """The units that can be described, each with its groups that have a PCI device."""
    units = [unit for unit in computer.units if unit.kind != "other"]
    behind: dict[str, list[Group]] = {unit.name: [] for unit in units}
    only = units[0].name if len(units) == 1 else None
    for group in computer.groups:
        names = [function.iommu or only for function in group.functions]
        if names and names[0] in behind:
            behind[str(names[0])].append(group)
    return [(unit, behind[unit.name]) for unit in units]


def _iommu(computer: Computer, unit: Unit, groups: list[Group]) -> Iommu:
    width = unit.address_width
    return Iommu(
        name=unit.name,
        kind=unit.kind,
        snoop_control=unit.snoop_control is True,
        interrupt_remapping=computer.interrupt_remapping is not False,
        address_width=width if width is not None and width in _WIDTHS else _WIDTH_UNSAID,
        groups=tuple(
            IommuGroup(group.number, tuple(map(device, group.functions))) for group in groups
        ),
    )


def device(function: Function) -> PciDevice:
    """One function, as far as its description can be one of hardware."""
    config = function.config
    pin = _number(config, pci.PCI_INTERRUPT_PIN, 1)
    able = abilities(config)
    made = PciDevice(
        address=function.address,
        vendor=function.vendor,
        device=function.device,
        class_code=function.class_code,
        subsystem_vendor=function.subsystem_vendor,
        subsystem_device=function.subsystem_device,
        revision=function.revision,
        driver=function.driver and _NO_NAME.sub("-", function.driver),
        interrupt_pin=pin if pin <= 4 else 0,  # noqa: PLR2004 - INTD
        multifunction=bool(_number(config, pci.PCI_HEADER_TYPE, 1) & pci.PCI_HEADER_TYPE_MFD),
        reset=function.reset,
        power_management=able.power_management,
        pci_express=able.pci_express,
        msi=able.msi,
    )
    for bar in _bars(function):
        made = _if_good(made, replace(made, bars=(*made.bars, bar)))
    return _if_good(made, replace(made, msix=able.msix))


def _if_good(before: PciDevice, after: PciDevice) -> PciDevice:
    alone = Machine("", (Iommu("dmar0", (IommuGroup(0, (after,)),)),))
    return before if any(faults(alone)) else after


def _bars(function: Function) -> list[Bar]:
    return [
        Bar(index, last - first + 1, kind, kind is not BarKind.IO and bool(flags & _PREFETCH))
        for index, (first, last, flags) in enumerate(function.resources)
        if (kind := _kind(flags)) is not None
    ]


def _kind(flags: int) -> BarKind | None:
    if flags & _IO:
        return BarKind.IO
    if not flags & _MEM:
        return None
    return BarKind.MEMORY64 if flags & _MEM_64 else BarKind.MEMORY32


def abilities(config: bytes) -> Abilities:
    """The capability list. It may lead anywhere: each offset is looked at once."""
    status = _number(config, pci.PCI_STATUS, 2)
    at = _number(config, pci.PCI_CAPABILITY_LIST, 1) if status & pci.PCI_STATUS_CAP_LIST else 0
    first: dict[int, int] = {}  # of each kind
    been: set[int] = set()
    while _CAPABILITIES_FROM <= at < len(config) - 1 and at not in been:
        been.add(at)
        first.setdefault(config[at], at)
        at = config[at + 1] & ~3
    return Abilities(
        power_management=pci.PCI_CAP_ID_PM in first,
        pci_express=pci.PCI_CAP_ID_EXP in first,
        msi=_msi(config, first[pci.PCI_CAP_ID_MSI]) if pci.PCI_CAP_ID_MSI in first else None,
        msix=_msix(config, first[pci.PCI_CAP_ID_MSIX]) if pci.PCI_CAP_ID_MSIX in first else None,
    )


def _msi(config: bytes, at: int) -> Msi:
    flags = _number(config, at + pci.PCI_MSI_FLAGS, 2)
    vectors = (flags & pci.PCI_MSI_FLAGS_QMASK) >> 1
    return Msi(1 << min(vectors, _MOST_VECTORS), bool(flags & pci.PCI_MSI_FLAGS_MASKBIT))


def _msix(config: bytes, at: int) -> Msix:
    table = _number(config, at + pci.PCI_MSIX_TABLE, 4)
    pending = _number(config, at + pci.PCI_MSIX_PBA, 4)
    bar, offset = pci.PCI_MSIX_TABLE_BIR, pci.PCI_MSIX_TABLE_OFFSET
    vectors = (_number(config, at + pci.PCI_MSIX_FLAGS, 2) & pci.PCI_MSIX_FLAGS_QSIZE) + 1
    return Msix(vectors, table & bar, table & offset, pending & bar, pending & offset)


def _number(data: bytes, offset: int, width: int) -> int:
    return int.from_bytes(data[offset : offset + width], "little")
