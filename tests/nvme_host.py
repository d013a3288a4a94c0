# SPDX-License-Identifier: GPL-2.0-only
"""A small NVMe driver in Python, over the client: the host's side of the specification.

It works over any `Syscalls`: in process, or as a program of its own under `kvm-vfio run`:

    python -m tests.nvme_host 0000:00:12.0 3
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass, field
from typing import NamedTuple

from kvm_vfio import Container, Device, Group, HostSyscalls, Syscalls
from kvm_vfio.syscalls import Buffer

PAGE = 4096
IOVA = 0x1000_0000
CAP, VS, INTMS, INTMC, CC, CSTS, AQA, ASQ, ACQ = 0, 8, 0xC, 0x10, 0x14, 0x1C, 0x24, 0x28, 0x30
MSIX = 2


class Completion(NamedTuple):
    result: int
    sq_head: int
    sq: int
    command: int
    status: int


@dataclass
class Queue:
    """A pair of queues: where they are in the driver's memory, and how far both sides are."""

    number: int
    size: int
    sq: int  # offsets in the driver's memory
    cq: int
    tail: int = 0
    head: int = 0
    phase: int = 1
    commands: int = 0


@dataclass
class Driver:
    """A controller under this driver; its memory of `pages` pages is at `IOVA`."""

    syscalls: Syscalls
    device: Device
    container: Container
    pages: int = 1024
    memory: Buffer = field(init=False)
    queues: dict[int, Queue] = field(default_factory=dict)
    used: int = 0

    def __post_init__(self) -> None:
        self.memory = self.syscalls.mmap(-1, self.pages * PAGE)
        self.container.map_dma(self.memory, IOVA)
        self.device.write_config(4, 2, 0x0006)

    # -- memory and registers ----------------------------------------------------------------------

    def allocate(self, pages: int = 1) -> int:
        """The offset of fresh pages in the driver's memory."""
        offset = self.used
        self.used += pages * PAGE
        assert self.used <= len(self.memory)
        return offset

    def get(self, at: int, width: int = 4) -> int:
        return int.from_bytes(self.device.read_region(0, at, width), "little")

    def put(self, at: int, value: int, width: int = 4) -> None:
        self.device.write_region(0, at, value.to_bytes(width, "little"))

    # -- the controller ----------------------------------------------------------------------------

    def enable(self, size: int = 16, *, cc: int = 0x0046_0001) -> None:
        """Reset it, and start it with an admin queue of `size` entries."""
        self.put(CC, 0)
        assert not self.get(CSTS) & 1
        self.queues.clear()
        queue = self._queue(0, size)
        self.put(AQA, size - 1 << 16 | size - 1)
        self.put(ASQ, IOVA + queue.sq, 8)
        self.put(ACQ, IOVA + queue.cq, 8)
        self.put(CC, cc)

    def _queue(self, number: int, size: int) -> Queue:
        queue = Queue(number, size, self.allocate(-(-size // 64)), self.allocate(-(-size // 256)))
        self.memory.write(bytes(size * 16), queue.cq)
        self.queues[number] = queue
        return queue

    def create_queues(self, number: int = 1, size: int = 16, vector: int | None = None) -> None:
        """A pair of I/O queues."""
        queue = self._queue(number, size)
        interrupts = 0 if vector is None else 2 | vector << 16
        entries = size - 1 << 16 | number
        self.admin(5, prp1=IOVA + queue.cq, cdw10=entries, cdw11=1 | interrupts)
        self.admin(1, prp1=IOVA + queue.sq, cdw10=entries, cdw11=1 | number << 16)

    # -- commands ----------------------------------------------------------------------------------

    def submit(self, queue: int, opcode: int, nsid: int = 0, **fields: int) -> int:
        """Write a command, and do not ring yet: its identifier."""
        q = self.queues[queue]
        q.commands += 1
        dwords = [fields.pop(f"cdw{n}", 0) for n in range(10, 16)]
        flags = fields.pop("flags", 0)
        identifier = fields.pop("identifier", q.commands & 0xFFFF)
        prps = fields.pop("prp1", 0), fields.pop("prp2", 0)
        assert not fields
        entry = struct.pack("<BBHI16xQQ6I", opcode, flags, identifier, nsid, *prps, *dwords)
        self.memory.write(entry, q.sq + q.tail * 64)
        q.tail = (q.tail + 1) % q.size
        return identifier

    def ring(self, queue: int) -> None:
        self.put(0x1000 + 8 * queue, self.queues[queue].tail)

    def completions(self, queue: int, *, acknowledge: bool = True) -> list[Completion]:
        """What has been completed since the last time."""
        q, found = self.queues[queue], []
        while True:
            data = self.memory.read(16, q.cq + q.head * 16)
            result, _, sq_head, sq, command, status = struct.unpack("<IIHHHH", data)
            if status & 1 != q.phase:
                break
            found.append(Completion(result, sq_head, sq, command, status >> 1))
            q.head = (q.head + 1) % q.size
            q.phase ^= not q.head
        if found and acknowledge:
            self.put(0x1004 + 8 * queue, q.head)
        return found

    def call(self, queue: int, opcode: int, nsid: int = 0, **fields: int) -> Completion:
        """One command, from its entry to its completion."""
        identifier = self.submit(queue, opcode, nsid, **fields)
        self.ring(queue)
        (completion,) = self.completions(queue)
        assert completion.command == identifier
        return completion

    def admin(self, opcode: int, nsid: int = 0, **fields: int) -> int:
        """An admin command that must succeed: dword 0 of its completion."""
        completion = self.call(0, opcode, nsid, **fields)
        assert completion.status == 0, hex(completion.status)
        return completion.result

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        page = self.allocate()
        self.admin(6, nsid, prp1=IOVA + page, cdw10=cns)
        return self.memory.read(PAGE, page)

    def prps(self, offset: int, size: int) -> dict[str, int]:
        """PRP entries for `size` bytes at `offset` of the driver's memory, with lists if needed."""
        start = IOVA + offset
        pages = list(range(start // PAGE * PAGE + PAGE, start + size, PAGE))
        if len(pages) < 2:
            return {"prp1": start, "prp2": pages[0] if pages else 0}
        first = here = self.allocate()
        while len(pages) > 512:
            beyond = self.allocate()
            self.memory.write(struct.pack("<512Q", *pages[:511], IOVA + beyond), here)
            pages, here = pages[511:], beyond
        self.memory.write(struct.pack(f"<{len(pages)}Q", *pages), here)
        return {"prp1": start, "prp2": IOVA + first}

    def move(self, opcode: int, block: int, offset: int, blocks: int, **fields: int) -> Completion:
        """Read (2), write (1) or compare (5) blocks of 512 bytes."""
        where = self.prps(offset, blocks * 512)
        lba = {"cdw10": block & 0xFFFF_FFFF, "cdw11": block >> 32, "cdw12": blocks - 1}
        return self.call(1, opcode, 1, **where, **{**lba, **fields})


def open_controller(syscalls: Syscalls, address: str, number: int) -> Driver:
    """The NVMe controller at `address` in a VFIO group."""
    container, group = Container(syscalls), Group(syscalls, number)
    group.set_container(container)
    container.set_iommu()
    return Driver(syscalls, group.device(address), container)


def show(driver: Driver, event: int) -> None:
    """Identify, write, read: print what there is, "name: value" a line."""
    driver.enable()
    controller = driver.identify(1)
    print("model:", controller[24:64].decode().strip())
    print("serial:", controller[4:24].decode().strip())
    print("blocks:", int.from_bytes(driver.identify(0, 1)[:8], "little"))
    driver.create_queues(vector=1)
    out, back = driver.allocate(4), driver.allocate(4)
    driver.memory.write(bytes(range(256)) * 64, out)
    print("write:", hex(driver.move(1, 1000, out, 32).status))
    print("flush:", hex(driver.call(1, 0, 1).status))
    print("read:", hex(driver.move(2, 1000, back + 512, 16).status))
    print("same:", driver.memory.read(8192, back + 512) == driver.memory.read(8192, out))
    print("beyond:", hex(driver.move(2, 1 << 40, back, 1).status))
    print("interrupts:", int.from_bytes(driver.syscalls.read(event, 8), "little"))
    print("bad memory:", hex(driver.call(1, 2, 1, prp1=0x9_0000_0000, cdw12=7).status))


def main(address: str, number: str) -> None:
    """The program."""
    linux = HostSyscalls()
    driver = open_controller(linux, address, int(number))
    events = [linux.eventfd() for _ in range(2)]
    driver.device.enable_irqs(MSIX, events)
    show(driver, events[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
