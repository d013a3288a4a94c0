# SPDX-License-Identifier: GPL-2.0-only
"""A guest that has two devices whose DMA does not snoop, and the steps it can take.

The guest is one vCPU of a VM on the model, its devices are two edu, each in its VFIO group. What
the guest stores goes into the cache of the CPU it runs on; what a device reads comes from memory.
The driver in the guest does what such a driver must: WBINVD before each DMA.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kvm_vfio.client import Container, Device, Group, Kvm, KvmVfio, ModelSyscalls
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.kernel.x86.cache import LINE, CpuCaches
from kvm_vfio.kernel.x86.wbinvd import Vcpu
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine
from kvm_vfio.profiles import DEFAULT, Profile
from kvm_vfio.uapi.vfio import VFIO_TYPE1_IOMMU

IOVA = 0x10_0000
PLACES = 3  # that the guest stores to, each in a line of its own
GROUPS = (1, 2)
_BUFFER = 0x40000
_SOURCE, _DESTINATION, _COUNT, _COMMAND = 0x80, 0x88, 0x90, 0x98
_TO_MEMORY = 2


def machine(*, snoop_control: bool) -> Machine:
    """Group 1 behind an IOMMU that forces snooping; group 2 behind one that may not."""
    devices = {n: Edu.at(f"0000:00:1{n}.0", no_snoop=True) for n in GROUPS}
    groups = {n: (IommuGroup(n, (device,)),) for n, device in devices.items()}
    return Machine(
        "coherency",
        (
            Iommu("dmar0", groups[1], snoop_control=True),
            Iommu("dmar1", groups[2], snoop_control=snoop_control),
        ),
    )


@dataclass
class Guest:
    """The VM, before its vCPU has run; no group is registered with its KVM-VFIO device yet."""

    profile: Profile = DEFAULT
    snoop_control: bool = False
    caches: CpuCaches = field(default_factory=CpuCaches)
    groups: dict[int, Group] = field(default_factory=dict)
    devices: dict[int, Device] = field(default_factory=dict)

    def __post_init__(self) -> None:
        described = machine(snoop_control=self.snoop_control)
        self.kernel = Kernel(described, self.profile, caches=self.caches)
        self.linux = ModelSyscalls(self.kernel)
        self.kvm_vfio: KvmVfio = Kvm(self.linux).create_vm().create_kvm_vfio()
        self.memory = self.linux.mmap(-1, 4096)
        for number in GROUPS:
            self.groups[number] = Group(self.linux, number)
        (vm,) = self.kernel.vms.values()
        self.vcpu = Vcpu(vm)

    def assign(self, *, register: Sequence[int], container_first: bool = True) -> None:
        """Give the guest both devices; `register` are the groups that KVM is told of."""
        if not container_first:
            self._register(register)
        for number, group in self.groups.items():
            container = Container(self.linux)
            group.set_container(container)
            container.set_iommu(VFIO_TYPE1_IOMMU)
            container.map_dma(self.memory, IOVA)
            self.devices[number] = group.device(f"0000:00:1{number}.0")
            self.devices[number].write_config(4, 2, 0x0006)
        if container_first:
            self._register(register)
        self.run_on(0)

    def _register(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            self.kvm_vfio.add(self.groups[number])

    # -- what happens ------------------------------------------------------------------------------

    def run_on(self, cpu: int) -> None:
        """The host's scheduler puts the vCPU on a CPU."""
        self.vcpu.load(cpu)

    def store(self, place: int, value: int) -> None:
        """The guest stores a byte."""
        address = self.memory.address + place * LINE
        self.caches.store(self.vcpu.cpu, self.linux.mm, address, bytes([value]))

    def load(self, place: int) -> int:
        """What the guest sees."""
        return self.memory.read(1, place * LINE)[0]

    def wbinvd(self) -> frozenset[int]:
        """The guest executes WBINVD: on which CPUs it ran."""
        return self.vcpu.wbinvd()

    def device_reads(self, number: int, place: int) -> int:
        """What the device of a group finds."""
        self._copy(number, IOVA + place * LINE, _BUFFER, 0)
        model = self.kernel.function(f"0000:00:1{number}.0").model
        assert isinstance(model, Edu)
        return model.buffer[0]

    def device_writes(self, number: int, place: int, value: int) -> None:
        """The device of a group puts a byte into memory."""
        model = self.kernel.function(f"0000:00:1{number}.0").model
        assert isinstance(model, Edu)
        model.buffer[0] = value
        self._copy(number, _BUFFER, IOVA + place * LINE, _TO_MEMORY)

    def _copy(self, number: int, source: int, destination: int, command: int) -> None:
        device = self.devices[number]
        for at, value in ((_SOURCE, source), (_DESTINATION, destination), (_COUNT, 1)):
            device.write_region(0, at, value.to_bytes(4, "little"))
        device.write_region(0, _COMMAND, (command | 1).to_bytes(4, "little"))

    def in_memory(self, place: int) -> int:
        """What memory holds, whatever the caches do."""
        line = self.caches.dirty.get((self.linux.mm, self.memory.address + place * LINE))
        return self.load(place) if line is None else line.memory[0]


class Step(NamedTuple):
    """One thing that happens: `what` is "run", "store" or "dma"; `number` a CPU, value or group."""

    what: str
    number: int


def play(guest: Guest, steps: Sequence[Step]) -> list[str]:
    """Take the steps, and say of each what came of it; STALE when a device read old data."""
    told = []
    for what, number in steps:
        if what == "run":
            guest.run_on(number)
            told.append(f"the vCPU moves to CPU {number}")
        elif what == "store":
            guest.store(0, number)
            told.append(f"the guest stores {number}, on CPU {guest.vcpu.cpu}")
        else:
            told += _dma(guest, number)
    return told


def _dma(guest: Guest, group: int) -> list[str]:
    flushed = guest.wbinvd()
    where = f"executed on CPU {', '.join(map(str, sorted(flushed)))}" if flushed else "a no-op"
    found, newest = guest.device_reads(group, 0), guest.load(0)
    reads = f"the device reads {found}"
    if found != newest:
        reads = f"STALE: {reads}, and the guest has stored {newest}"
    return [f"the guest executes WBINVD: {where}", reads]
