# SPDX-License-Identifier: GPL-2.0-only
"""What there is to know of a computer before a device of it is assigned.

Rule of this file: facts only, as the kernel says them; None is what could not be read. What follows
from them is in `judge`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

# VT-d, section 11.4.3 (Extended Capability Register) and 11.4.2 (Capability Register).
ECAP_IR = 1 << 3
ECAP_SC = 1 << 7
_CAP_MGAW = 16, 0x3F
_CAP_SAGAW = 8, 0x1F
_WIDTH_OF_SAGAW = {1: 39, 2: 48, 3: 57}

_HEADER_TYPE, _BRIDGE = 0x0E, 1
_PCI_BRIDGE, _BRIDGES = 0x0604, 0x06  # class codes


@dataclass(frozen=True, slots=True)
class Unit:
    """One IOMMU. `cap` and `ecap` are VT-d's registers, None where there are none to be read."""

    name: str
    kind: Literal["intel", "amd", "other"]
    cap: int | None = None
    ecap: int | None = None

    @property
    def snoop_control(self) -> bool | None:
        """Whether it can make every DMA snoop the CPU caches; None: nobody says.

        VT-d says so in its ECAP; AMD's IOMMU does it always.
        """
        if self.kind == "amd":
            return True
        return None if self.ecap is None else bool(self.ecap & ECAP_SC)

    @property
    def address_width(self) -> int | None:
        """How many bits an iova of a VFIO container has.

        AMD: measured on 5.10, 6.12. VT-d: what its page tables and its MGAW allow.
        """
        if self.kind == "amd":
            return 64
        if self.cap is None:
            return None
        shift, mask = _CAP_MGAW
        most = (self.cap >> shift & mask) + 1
        shift, mask = _CAP_SAGAW
        tables = [w for bit, w in _WIDTH_OF_SAGAW.items() if self.cap >> shift & mask & 1 << bit]
        return min([most, max(tables)] if tables else [most])


@dataclass(frozen=True, slots=True)
class Function:
    """One PCI function. `iommu` names a `Unit`.

    `resources` are the first, the last and the flags of its BARs; `config` is what could be read of
    its configuration space: without privilege 64 bytes. `vfio` is whether VFIO drives it.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    subsystem_vendor: int = 0
    subsystem_device: int = 0
    revision: int = 0
    driver: str | None = None
    vfio: bool = False
    group: int | None = None
    iommu: str | None = None
    reset: bool = False
    resources: tuple[tuple[int, int, int], ...] = ()
    config: bytes = b""

    @property
    def bridge(self) -> bool:
        """Whether its header is a bridge's, which vfio-pci does not take."""
        if len(self.config) > _HEADER_TYPE:
            return self.config[_HEADER_TYPE] & 0x7F == _BRIDGE
        return self.class_code >> 8 == _PCI_BRIDGE

    @property
    def endpoint(self) -> bool:
        """Whether anybody would give it to a VM: it is no bridge of any kind."""
        return self.class_code >> 16 != _BRIDGES


@dataclass(frozen=True, slots=True)
class Group:
    """One IOMMU group. `others` are its devices that are no PCI functions; `node` is /dev/vfio/N.

    `kind` is the type of its default domain: "DMA-FQ", "identity".
    """

    number: int
    functions: tuple[Function, ...] = ()
    others: tuple[str, ...] = ()
    kind: str | None = None
    node: bool = False
    no_iommu: bool = False


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, and what of VFIO it has open: paths, and the names of anonymous files."""

    pid: int
    name: str
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Holders:
    """`hidden` processes could not be looked into; `stopped` is why not all were looked at."""

    processes: tuple[Holder, ...] = ()
    hidden: int = 0
    stopped: str | None = None


@dataclass(frozen=True, slots=True)
class Computer:
    """All of it. `tables` has which of DMAR and IVRS the firmware has; `modules` what is loaded."""

    release: str
    architecture: str
    processor: str = ""
    hypervisor: bool = False
    units: tuple[Unit, ...] = ()
    groups: tuple[Group, ...] = ()
    ungrouped: tuple[Function, ...] = ()
    holders: Holders = field(default_factory=Holders)
    tables: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()
    nodes: frozenset[str] = frozenset()
    interrupt_remapping: bool | None = None
    unsafe_interrupts: bool = False
