# SPDX-License-Identifier: GPL-2.0-only
"""The hardware, as values: IOMMUs, their groups, the PCI devices in them.

Rule of this file: nothing here changes. What a running kernel does to a device (which driver holds
it now, what its config space says) is the kernel's state, in `kvm_vfio.kernel`.

The nesting is the hardware's own: a device is in exactly one IOMMU group, and a group behind
exactly one IOMMU, so a description cannot say otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class BarKind(Enum):
    """What a PCI base address register decodes."""

    MEMORY32 = "memory32"
    MEMORY64 = "memory64"
    IO = "io"


@dataclass(frozen=True, slots=True)
class Bar:
    """One base address register: `index` 0 to 5, `size` in bytes, a power of two."""

    index: int
    size: int
    kind: BarKind = BarKind.MEMORY32
    prefetchable: bool = False


@dataclass(frozen=True, slots=True)
class Msi:
    """The MSI capability: `vectors` is a power of two, 1 to 32."""

    vectors: int = 1
    maskable: bool = False


@dataclass(frozen=True, slots=True)
class Msix:
    """The MSI-X capability: `vectors` 1 to 2048; table and pending bits at byte offsets in BARs."""

    vectors: int
    table_bar: int
    table_offset: int = 0
    pba_bar: int = 0
    pba_offset: int = 0


@dataclass(frozen=True, slots=True)
class ConfigBytes:
    """Bytes of configuration space from `offset` on.

    `writable` are the bits of them that the hardware lets be written: a mask of the same length, or
    empty for none.
    """

    offset: int
    data: bytes
    writable: bytes = b""


@dataclass(frozen=True, slots=True)
class RegisterValue:
    """The 32 bits that a device without a model has at `offset` of BAR `bar`."""

    bar: int
    offset: int
    value: int


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What makes a device do something: a device model under its `name`, and its options.

    `model(bus, options)` makes one (`kvm_vfio.kernel.pci.model`). `trap`: BARs with registers
    cannot be mapped, so that every access reaches them; without it they can, as on hardware, and
    registers behave by read and write alone.
    """

    name: str
    model: Callable[[Any, Any], Any]
    options: object = None
    trap: bool = True


@dataclass(frozen=True, slots=True)
class PciDevice:
    """One PCI function.

    `address` is the full "0000:00:10.0"; `class_code` has 24 bits; `interrupt_pin` is 0 (none) to 4
    (INTD); `driver` is what holds the device when the machine starts, None for nobody; `reset` says
    whether the function can be reset by itself. Without `behaviour` its BARs are memory, which
    begins as `registers` says.

    `addresses` is where the firmware has put BARs, by index; the others get a place of their own.
    `interrupt_line` is what configuration space says of it, `irq` the number that Linux knows.
    `config` are the capabilities byte for byte, in the place of those laid out from other fields.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    revision: int = 0
    bars: tuple[Bar, ...] = ()
    interrupt_pin: int = 0
    power_management: bool = False
    pci_express: bool = False
    msi: Msi | None = None
    msix: Msix | None = None
    multifunction: bool = False
    reset: bool = False
    driver: str | None = "vfio-pci"
    behaviour: Behaviour | None = None
    addresses: tuple[tuple[int, int], ...] = ()
    interrupt_line: int = 0
    irq: int = 0
    config: tuple[ConfigBytes, ...] = ()
    registers: tuple[RegisterValue, ...] = ()


@dataclass(frozen=True, slots=True)
class IommuGroup:
    """Devices that the IOMMU cannot tell apart: they are assigned together or not at all."""

    number: int
    devices: tuple[PciDevice, ...]


@dataclass(frozen=True, slots=True)
class Iommu:
    """One IOMMU unit.

    `snoop_control`: it can force every DMA to snoop the CPU caches (VT-d's ECAP.SC), which is what
    enforced coherency means. `address_width`: an iova has at most this many bits.
    """

    name: str
    groups: tuple[IommuGroup, ...]
    kind: str = "intel"
    snoop_control: bool = False
    interrupt_remapping: bool = True
    address_width: int = 39

    @property
    def enforces_coherency(self) -> bool:
        """Whether it can make every DMA coherent: AMD's always does, VT-d with snoop control."""
        return self.snoop_control or self.kind == "amd"


@dataclass(frozen=True, slots=True)
class Machine:
    """A computer as far as device assignment can see it."""

    name: str
    iommus: tuple[Iommu, ...]
    description: str = ""
    architecture: str = "x86_64"

    def groups(self) -> Iterator[tuple[Iommu, IommuGroup]]:
        """Every IOMMU group with the IOMMU it is behind, in the order of the description."""
        for iommu in self.iommus:
            for group in iommu.groups:
                yield iommu, group

    def devices(self) -> Iterator[tuple[IommuGroup, PciDevice]]:
        """Every device with the IOMMU group it is in, in the order of the description."""
        for _, group in self.groups():
            for device in group.devices:
                yield group, device


def with_snoop_control(machine: Machine, on: bool) -> Machine:  # noqa: FBT001  # what it sets
    """`machine` with every VT-d unit having snoop control, or none."""
    iommus = (
        replace(iommu, snoop_control=on) if iommu.kind == "intel" else iommu
        for iommu in machine.iommus
    )
    return replace(machine, iommus=tuple(iommus))
