# SPDX-License-Identifier: GPL-2.0-only
"""The educational device under a real Linux, and ours: the same accesses, the same answers."""

from __future__ import annotations

import time

import pytest

from kvm_vfio import Container, Group, Syscalls, model
from kvm_vfio.guest.process import boot
from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine
from tests.support import need_guest_kernel

ADDRESS, GROUP = "0000:00:10.0", 1
IOVA = 0x10_0000
SETTLE = 0.2  # seconds in which the real one has done what it was told

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.gcc]


@pytest.fixture(params=["6.1", "6.12", "7.3"])
def linux(request: pytest.FixtureRequest) -> str:
    return need_guest_kernel(str(request.param)).version


READS = [
    *(
        (at, width)
        for at in (0, 4, 8, 0x0C, 0x20, 0x24, 0x28, 0x60, 0x64)
        for width in (1, 2, 4, 8)
    ),
    *((at, width) for at in (0x80, 0x84, 0x88, 0x90, 0x98, 0xA0) for width in (1, 2, 4, 8)),
    *((at, 4) for at in (1, 2, 0x1000, 0x40000, 0xFFFFC)),
    (0, 12),
    (0x40000, 8),
]
WRITES = [(8, 0x80, 0x1122334455667788), (4, 0x84, 7), (4, 0x80, 9), (2, 0x80, 1)]


class Story:
    """A driver of the device, and what it has seen: `told`."""

    def __init__(self, syscalls: Syscalls, pause: float) -> None:
        container, group = Container(syscalls), Group(syscalls, GROUP)
        group.set_container(container)
        container.set_iommu()
        self.syscalls = syscalls
        self.pause = pause
        self.device = group.device(ADDRESS)
        self.event = syscalls.eventfd()
        self.memory = syscalls.mmap(-1, 4 * 4096)
        container.map_dma(self.memory, IOVA)
        self.memory.write(bytes(range(256)) * 16)
        self.told: list[tuple[str, object]] = []
        self.registers()
        self.interrupts()
        self.copies()

    def see(self, name: str, *what: object) -> None:
        self.told.append((name, what))

    def put(self, at: int, value: int, width: int = 4) -> None:
        self.device.write_region(0, at, value.to_bytes(width, "little"))

    def get(self, at: int, width: int = 4) -> str:
        return self.device.read_region(0, at, width).hex()

    def heard(self) -> int:
        time.sleep(self.pause)
        try:
            return int.from_bytes(self.syscalls.read(self.event, 8), "little")
        except BlockingIOError:
            return 0

    def registers(self) -> None:
        for at, width in READS:
            self.see(f"read {at:#x} {width}", self.get(at, width))
        self.put(4, 0x12345678)
        self.see("liveness", self.get(4))
        for number in (0, 5, 12, 13, 33, 34, 0xFFFF):
            self.put(8, number)
            time.sleep(self.pause)
            self.see(f"{number}!", self.get(8), self.get(0x20))
        self.put(0x20, 0xFFFF_FFFF)
        self.see("status", self.get(0x20))
        self.put(0x20, 0)
        for width, at, value in WRITES:
            self.put(at, value, width)
            self.see(f"write {at:#x} {width}", self.get(0x80, 8), self.get(0x80), self.get(0x84))
        self.put(0x98, 0xFFFF_FFF0)
        self.see("no command", self.get(0x98))

    def interrupts(self) -> None:
        self.device.enable_irqs(1, [self.event])
        self.put(0x60, 2)
        self.see("without mastering", self.heard(), self.get(0x24))
        self.device.write_config(4, 2, 0x0506)
        self.see("command", self.device.read_config(4, 2))
        self.put(0x64, 0xFF)
        for value in (2, 2, 0x11, 0):
            self.put(0x60, value)
            self.see(f"raise {value}", self.heard(), self.get(0x24))
        self.put(0x64, 0x10)
        self.see("acknowledged", self.get(0x24))
        self.put(0x64, 0xFFFF)
        self.put(0x20, 0x80)
        self.put(8, 3)
        self.see("factorial's", self.heard(), self.get(0x24), self.get(0x20))
        self.put(0x64, 0xFFFF)

    def copy(self, source: int, destination: int, count: int, command: int) -> None:
        for at, value in ((0x80, source), (0x88, destination), (0x90, count)):
            self.put(at, value)
        self.put(0x98, command | 1)
        heard = self.heard()
        self.see(f"copy from {source:#x}", self.get(0x98), heard, self.get(0x24))
        self.put(0x64, 0xFFFF)

    def copies(self) -> None:
        self.copy(IOVA + 16, 0x40000, 64, 4)
        self.copy(0x40000, IOVA + 4096, 64, 2)
        self.copy(0x90_0000, 0x40000, 16, 4)  # nothing is mapped there
        self.copy(0x40000, IOVA + 8192, 32, 6)
        self.see("memory", self.memory.read())


def test_the_same_story(linux: str) -> None:
    machine = Machine("m", (Iommu("dmar0", (IommuGroup(GROUP, (Edu.at(ADDRESS),)),)),))
    ours = Story(model(linux, machine), 0).told
    with boot(linux) as real:
        theirs = Story(real, SETTLE).told
    assert ours == theirs
