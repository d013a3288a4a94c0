# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU groups: which devices stand or fall together, and who owns their DMA.

Rule of this file: it knows which driver holds which function now, and nothing of containers.

A group is *viable* when nothing in it but VFIO (or a driver that does no DMA of its own) can reach
memory: then user space may own it. Until 5.18 VFIO looked at the drivers whenever it asked; since
5.19 the driver core counts owners, and a claimed group refuses a native driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.pci.bus import FunctionBus
from kvm_vfio.kernel.vfio.group import VfioGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvm_vfio.kernel.iommu.dma import Translation
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.pci.model import DeviceModel
    from kvm_vfio.kernel.vfio.device import VfioDevice
    from kvm_vfio.machine.model import Iommu, PciDevice
    from kvm_vfio.machine.model import IommuGroup as DescribedGroup

VFIO_PCI = "vfio-pci"
_NO_DMA_OF_THEIR_OWN = frozenset({None, VFIO_PCI, "pci-stub", "pcieport"})


class PciFunction:
    """One PCI function: what it is (`static`), who drives it, and its VFIO device if VFIO does.

    `model` is its behaviour, which lasts as long as the machine; None: it has none. `addresses` is
    where its BARs are, by index.
    """

    __slots__ = ("addresses", "driver", "iommu_group", "model", "static", "vfio_device")

    def __init__(self, iommu_group: IommuGroup, static: PciDevice) -> None:
        self.iommu_group = iommu_group
        self.static = static
        self.addresses: Mapping[int, int] = iommu_group.kernel.bar_addresses[static.address]
        self.driver: str | None = None
        self.vfio_device: VfioDevice | None = None
        behaviour = static.behaviour
        self.model: DeviceModel | None = None
        if behaviour is not None:
            self.model = behaviour.model(FunctionBus(self), behaviour.options)

    def probe(self, driver: str | None) -> bool:
        """Let `driver` take the function. False: it may not, because the group has a DMA owner.

        NotModelled: a native driver in a group that VFIO uses, where Linux stops with a BUG.
        """
        if driver not in _NO_DMA_OF_THEIR_OWN and self.iommu_group.owner is not None:
            if not self.iommu_group.kernel.profile.group_claims_dma:
                raise NotModelled(f"{driver} takes {self.static.address} from under VFIO: a BUG")
            return False
        self.driver = driver
        if driver == VFIO_PCI:
            self.iommu_group.vfio_group().add_device(self)
        return True

    def remove(self) -> None:
        """Take the driver away. NotModelled where Linux would wait: the VFIO device is in use."""
        if self.vfio_device is not None:
            self.vfio_device.vfio_group.remove_device(self.vfio_device)
        self.driver = None


class IommuGroup:
    """One group behind one IOMMU. `owner` is who has claimed its DMA, None for the kernel.

    `translation` is what its devices' DMA goes through; None lets none through.
    """

    __slots__ = ("functions", "iommu", "kernel", "number", "owner", "translation")

    def __init__(self, kernel: Kernel, iommu: Iommu, described: DescribedGroup) -> None:
        self.kernel = kernel
        self.iommu = iommu
        self.number = described.number
        self.functions = tuple(PciFunction(self, device) for device in described.devices)
        self.owner: object | None = None
        self.translation: Translation | None = None

    def viable(self) -> bool:
        """Whether no driver in the group does DMA of its own."""
        return all(f.driver in _NO_DMA_OF_THEIR_OWN for f in self.functions)

    def intruders(self) -> str:
        """The functions that make the group not viable, with their drivers, for people."""
        return ", ".join(
            f"{f.static.address} ({f.driver})"
            for f in self.functions
            if f.driver not in _NO_DMA_OF_THEIR_OWN
        )

    def vfio_group(self) -> VfioGroup:
        """The vfio_group of this group, made when its first device comes to VFIO."""
        groups = self.kernel.vfio_groups
        if self.number not in groups:
            groups[self.number] = VfioGroup(self)
        return groups[self.number]
