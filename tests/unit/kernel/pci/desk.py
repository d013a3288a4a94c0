# SPDX-License-Identifier: GPL-2.0-only
"""A device on a desk: a program that has it open, with memory that the device reaches."""

from __future__ import annotations

from dataclasses import dataclass, field
from errno import EAGAIN

from kvm_vfio.client import Container, Device, Group, ModelSyscalls
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine, PciDevice
from kvm_vfio.machine.storage import open_storage
from kvm_vfio.profiles import DEFAULT, Profile
from kvm_vfio.syscalls import Buffer
from kvm_vfio.uapi.pci import PCI_COMMAND, PCI_COMMAND_MASTER
from kvm_vfio.uapi.vfio import VFIO_TYPE1_IOMMU

ADDRESS = "0000:00:10.0"
IOVA = 0x10_0000


def machine_of(*devices: PciDevice, snoop_control: bool = False) -> Machine:
    """Each device in a group of its own, numbered from 1."""
    groups = tuple(IommuGroup(number, (each,)) for number, each in enumerate(devices, 1))
    return Machine("desk", (Iommu("dmar0", groups, snoop_control=snoop_control),))


@dataclass
class Desk:
    """The open device, its memory of 64 pages at `IOVA`, and its bus mastering on."""

    static: PciDevice
    profile: Profile = DEFAULT
    pages: int = 64
    memory: Buffer = field(init=False)

    def __post_init__(self) -> None:
        self.kernel = Kernel(machine_of(self.static), self.profile, open_storage=open_storage)
        self.linux = ModelSyscalls(self.kernel)
        self.open()
        self.memory = self.linux.mmap(-1, self.pages * 4096)
        self.container.map_dma(self.memory, IOVA)

    def open(self) -> None:
        self.container, self.group = Container(self.linux), Group(self.linux, 1)
        self.group.set_container(self.container)
        self.container.set_iommu(VFIO_TYPE1_IOMMU)
        self.device: Device = self.group.device(self.static.address)
        self.master(on=True)

    def master(self, *, on: bool) -> None:
        command = self.device.read_config(PCI_COMMAND, 2) & ~PCI_COMMAND_MASTER
        self.device.write_config(PCI_COMMAND, 2, command | PCI_COMMAND_MASTER * on)

    def read(self, offset: int, width: int = 4) -> int:
        return int.from_bytes(self.device.read_region(0, offset, width), "little")

    def write(self, offset: int, value: int, width: int = 4) -> None:
        self.device.write_region(0, offset, value.to_bytes(width, "little"))

    def eventfds(self, index: int, count: int = 1) -> list[int]:
        """Listen to vectors 0 and following."""
        fds = [self.linux.eventfd() for _ in range(count)]
        self.device.enable_irqs(index, fds)
        return fds

    def heard(self, eventfd: int) -> int:
        """How often it was signalled since it was asked last."""
        try:
            return int.from_bytes(self.linux.read(eventfd, 8), "little")
        except OSError as error:
            if error.errno != EAGAIN:
                raise
            return 0
