# SPDX-License-Identifier: GPL-2.0-only
"""The controller: its registers, and the wheel that turns at each doorbell (sections 3, 4.1, 7).

Rule of this file: a write to a submission queue's doorbell does the commands, one after the other,
and returns when all have completed and interrupted. So there is never a command under way, but for
requests of asynchronous events.

What goes wrong with a command is its status. What goes wrong with a queue itself, because the host
gave memory that cannot be reached, is a fatal status of the controller: it stops until a reset.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from kvm_vfio.errors import StorageError
from kvm_vfio.kernel.iommu.dma import DmaFault
from kvm_vfio.kernel.pci.model import Bus, DeviceModel, Register, Registers
from kvm_vfio.kernel.pci.nvme import admin, nvm
from kvm_vfio.kernel.pci.nvme.features import Features
from kvm_vfio.kernel.pci.nvme.log import Logs
from kvm_vfio.kernel.pci.nvme.queues import CompletionQueue, Events, SubmissionQueue
from kvm_vfio.kernel.pci.nvme.spec import (
    CC_AMS,
    CC_CSS,
    CC_EN,
    CC_MPS_MASK,
    CC_MPS_SHIFT,
    CC_SHN,
    CC_WRITABLE,
    COMPLETION,
    CQ_ENTRY,
    CSTS_CFS,
    CSTS_RDY,
    CSTS_SHST,
    CSTS_SHST_COMPLETE,
    DO_NOT_RETRY,
    INVALID_DOORBELL_REGISTER,
    INVALID_DOORBELL_VALUE,
    MAY_BE_RETRIED,
    PAGE_SHIFT,
    SQ_ENTRY,
    VERSION,
    Command,
    Event,
    Feature,
    Refused,
    Status,
)
from kvm_vfio.kernel.pci.storage import MemoryStorage, Storage
from kvm_vfio.machine.model import Bar, BarKind, Msix, PciDevice

MOST_QUEUES = 64  # I/O queues of each kind
MOST_ENTRIES = 1024
_LARGEST_PAGE_SHIFT = 4  # CAP.MPSMAX: 64 KiB
_CAP = (
    MOST_ENTRIES - 1
    | 1 << 16  # queues are contiguous
    | 1 << 24  # ready within 500 ms
    | 1 << 37  # the NVM Command Set
    | _LARGEST_PAGE_SHIFT << 52
)
_DOORBELLS = 0x1000
_MSIX_TABLE, _MSIX_PENDING = 0x2000, 0x3000
_BLOCK_SIZES = (512, 4096)
_LONGEST_SERIAL = 20


@dataclass(frozen=True, slots=True)
class NvmeOptions:
    """`file`: where the data is, the whole of it; without, `size` bytes of memory.

    `queues`: I/O queues of each kind; `block`: bytes of a logical block; `serial`: at most 20
    letters.
    """

    size: int = 64 << 20
    file: str = ""
    serial: str = "kvm-vfio"
    queues: int = MOST_QUEUES
    block: int = 512

    def __post_init__(self) -> None:
        if self.block not in _BLOCK_SIZES:
            raise ValueError(f"a block has 512 or 4096 bytes, not {self.block}; write one of them")
        if not self.file and (self.size < self.block or self.size % self.block):
            raise ValueError(f'{self.size} bytes are no whole blocks; write a size such as "64M"')
        if not 1 <= self.queues <= MOST_QUEUES:
            raise ValueError(f"there are 1 to {MOST_QUEUES} queues; write such a number")
        if len(self.serial) > _LONGEST_SERIAL or not (
            self.serial.isascii() and self.serial.isprintable()
        ):
            raise ValueError("a serial number is up to 20 letters and digits; write a shorter one")


class Nvme(DeviceModel):
    """The device. It has one namespace, whose data outlives every reset."""

    options_type = NvmeOptions
    options: NvmeOptions
    function: ClassVar[PciDevice] = PciDevice(
        address="",
        vendor=0x1234,
        device=0x0A0E,
        class_code=0x010802,
        bars=(Bar(0, 0x4000, BarKind.MEMORY64),),
        interrupt_pin=1,
        power_management=True,
        pci_express=True,
        reset=True,
        msix=Msix(MOST_QUEUES + 1, 0, _MSIX_TABLE, 0, _MSIX_PENDING),
    )

    cap = Register(0x00, 8, initial=_CAP)
    vs = Register(0x08, initial=VERSION)
    intms = Register(0x0C)
    intmc = Register(0x10)
    cc = Register(0x14, writable=CC_WRITABLE)
    csts = Register(0x1C)
    aqa = Register(0x24, writable=0x0FFF_0FFF)
    asq = Register(0x28, 8, writable=0xFFFF_FFFF_FFFF_F000)
    acq = Register(0x30, 8, writable=0xFFFF_FFFF_FFFF_F000)
    doorbells = Registers(_DOORBELLS, 2 * (MOST_QUEUES + 1))

    most_entries: ClassVar[int] = MOST_ENTRIES

    def __init__(self, bus: Bus, options: NvmeOptions | None = None) -> None:
        super().__init__(bus, options)
        file, size = self.options.file, self.options.size
        self.storage: Storage = bus.storage(file) if file else MemoryStorage(size)
        self.block_shift = self.options.block.bit_length() - 1
        self.blocks = self.storage.size >> self.block_shift
        self.logs = Logs()
        self._forget()

    @classmethod
    def describe(cls, options: NvmeOptions) -> PciDevice:
        """A vector for each queue, and one for the admin queue."""
        msix = Msix(options.queues + 1, 0, _MSIX_TABLE, 0, _MSIX_PENDING)
        return replace(cls.function, msix=msix)

    # -- resets ------------------------------------------------------------------------------------

    def reset(self) -> None:
        """A reset of the function, which is one of the controller."""
        super().reset()
        self._forget()

    def _forget(self) -> None:
        """What a controller reset takes: all but the admin queue's registers and the data."""
        self.sqs: dict[int, SubmissionQueue] = {}
        self.cqs: dict[int, CompletionQueue] = {}
        self.events = Events()
        self.features = Features()
        self.page = 1 << PAGE_SHIFT
        self.csts = 0
        self._mask = 0
        self._enabled = False
        self.irq.clear()

    @cc.written
    def _configure(self, _: int) -> None:
        enable = bool(self.cc & CC_EN)
        if enable and not self._enabled:
            self._enable()
        elif self._enabled and not enable:
            self._forget()
        if self.cc & CC_SHN:
            self._shut_down()

    def _enable(self) -> None:
        self._enabled = True
        shift = self.cc >> CC_MPS_SHIFT & CC_MPS_MASK
        self.page = 1 << PAGE_SHIFT + shift
        sq_size, cq_size = (self.aqa & 0xFFF) + 1, (self.aqa >> 16) + 1
        wrong = self.cc & (CC_CSS | CC_AMS) or shift > _LARGEST_PAGE_SHIFT
        if wrong or min(sq_size, cq_size) == 1 or (self.asq | self.acq) % self.page:
            self.csts = CSTS_CFS
            return
        self.cqs[0] = CompletionQueue(self.acq, cq_size, 0)
        self.sqs[0] = SubmissionQueue(0, self.asq, sq_size, self.cqs[0])
        self.csts = CSTS_RDY

    def _shut_down(self) -> None:
        """Nothing is under way, so what is left is to make the data durable."""
        try:
            self.storage.flush()
        except StorageError:
            self.csts |= CSTS_CFS
        self.csts = self.csts & ~CSTS_SHST | CSTS_SHST_COMPLETE

    @property
    def _runs(self) -> bool:
        return self.csts & (CSTS_RDY | CSTS_CFS | CSTS_SHST) == CSTS_RDY

    # -- doorbells ---------------------------------------------------------------------------------

    @doorbells.written
    def _ring(self, index: int, value: int) -> None:
        if not self._runs:
            return
        identifier, of_completion = divmod(index, 2)
        value &= 0xFFFF
        try:
            if of_completion:
                self._completions_read(identifier, value)
            else:
                self._commands_written(identifier, value)
        except DmaFault:  # of a queue: those of data are a command's
            self.csts |= CSTS_CFS

    def _commands_written(self, identifier: int, tail: int) -> None:
        queue = self.sqs.get(identifier)
        if queue is None:
            self.report(INVALID_DOORBELL_REGISTER)
        elif tail >= queue.size:
            self.report(INVALID_DOORBELL_VALUE)
        else:
            queue.tail = tail
            self._process(queue)

    def _completions_read(self, identifier: int, head: int) -> None:
        queue = self.cqs.get(identifier)
        if queue is None:
            self.report(INVALID_DOORBELL_REGISTER)
            return
        if head >= queue.size or not queue.may_move_to(head):
            self.report(INVALID_DOORBELL_VALUE)
            return
        queue.head = head
        if queue.backlog:
            while queue.backlog and not queue.full:
                self._write_entry(queue, queue.backlog.popleft())
            self._interrupt(queue)
        for each in list(self.sqs.values()):
            if each.completion is queue and each.head != each.tail:
                self._process(each)
        self.settle_line()

    # -- commands ----------------------------------------------------------------------------------

    def _process(self, queue: SubmissionQueue) -> None:
        """Do what is in a queue, as long as its completions have room."""
        completion, tail = queue.completion, queue.completion.tail
        while queue.head != queue.tail and not completion.full and not completion.backlog:
            end = queue.tail if queue.tail > queue.head else queue.size
            count = min(end - queue.head, self._room(completion))
            entries = self.dma.read(queue.base + queue.head * SQ_ENTRY, count * SQ_ENTRY)
            for at in range(0, len(entries), SQ_ENTRY):
                queue.head = (queue.head + 1) % queue.size
                self._execute(queue, Command.parse(entries, at))
        if completion.tail != tail:
            self._interrupt(completion)
        if not queue.identifier:
            self.deliver_events()

    @staticmethod
    def _room(queue: CompletionQueue) -> int:
        return (queue.head - queue.tail - 1) % queue.size

    def _execute(self, queue: SubmissionQueue, command: Command) -> None:
        try:
            if command.flags:  # fused, or with a scatter gather list
                raise Refused(Status.INVALID_FIELD)  # noqa: TRY301  # as any other refusal
            if queue.identifier:
                result: int | None = nvm.execute(self, command)
            else:
                result = admin.execute(self, command)
        except Refused as refused:
            self._refuse(queue, command, refused.status)
            return
        if result is not None:
            self.complete(queue, command.identifier, result, Status.SUCCESS)

    def _refuse(self, queue: SubmissionQueue, command: Command, status: Status) -> None:
        code = status | (0 if status in MAY_BE_RETRIED else DO_NOT_RETRY)
        self.logs.failed(queue.identifier, command, code << 1 | queue.completion.phase)
        self.complete(queue, command.identifier, 0, code)

    def complete(self, queue: SubmissionQueue, identifier: int, result: int, status: int) -> None:
        """Post a completion, or keep it until there is room."""
        completion = queue.completion
        entry = (result, queue.head, queue.identifier, identifier, status)
        if completion.full or completion.backlog:
            completion.backlog.append(entry)
        else:
            self._write_entry(completion, entry)

    def _write_entry(self, queue: CompletionQueue, entry: tuple[int, int, int, int, int]) -> None:
        result, head, identifier, command, status = entry
        data = COMPLETION.pack(result, 0, head, identifier, command, status << 1 | queue.phase)
        self.dma.write(queue.base + queue.tail * CQ_ENTRY, data)
        queue.advance()

    # -- events ------------------------------------------------------------------------------------

    def report(self, event: Event) -> None:
        """Something happened that the host may want to know."""
        self.events.add(event)
        self.deliver_events()

    def deliver_events(self) -> None:
        """Answer requests with what there is to tell."""
        queue = self.sqs[0]
        told = False
        while (delivery := self.events.next()) is not None:
            identifier, event = delivery
            self.complete(queue, identifier, event.result, Status.SUCCESS)
            told = True
        if told:
            self._interrupt(queue.completion)

    # -- interrupts --------------------------------------------------------------------------------

    def _interrupt(self, queue: CompletionQueue) -> None:
        if queue.vector is not None and not self._mask >> queue.vector & 1:
            self.irq.trigger(queue.vector)

    def settle_line(self) -> None:
        """The line of INTx is asserted while a queue has what the host has not read."""
        if not any(self._wants_attention(queue) for queue in self.cqs.values()):
            self.irq.clear()

    def _wants_attention(self, queue: CompletionQueue) -> bool:
        masked = queue.vector is None or self._mask >> queue.vector & 1
        return queue.head != queue.tail and not masked

    @intms.read
    def _masked(self) -> int:
        return self._mask

    @intmc.read
    def _masked_too(self) -> int:
        return self._mask

    @intms.written
    def _set_mask(self, value: int) -> None:
        self._mask |= value
        self.settle_line()

    @intmc.written
    def _clear_mask(self, value: int) -> None:
        self._mask &= ~value
        for queue in self.cqs.values():
            if self._wants_attention(queue) and value >> (queue.vector or 0) & 1:
                self.irq.trigger(queue.vector or 0)

    # -- what commands ask of it -------------------------------------------------------------------

    @property
    def vectors(self) -> int:
        """How many interrupt vectors there are."""
        return self.options.queues + 1

    @property
    def has_io_queues(self) -> bool:
        """Whether the host has made any."""
        return len(self.sqs) + len(self.cqs) > 2  # noqa: PLR2004  # the admin queue's two

    @property
    def write_cache(self) -> bool:
        """Whether the host lets the device keep what is written until a Flush."""
        return bool(self.features.values[Feature.VOLATILE_WRITE_CACHE] & 1)
