# SPDX-License-Identifier: GPL-2.0-only
"""The interrupts of a VFIO device (drivers/vfio/pci/vfio_pci_intrs.c): which eventfd hears which.

Rule of this file: it checks and remembers. What fires an eventfd is a device model (`message`,
`set_line`), or the caller's own loopback trigger (DATA_NONE, DATA_BOOL).

INTx, MSI and MSI-X exclude each other; the error and the request interrupt stand beside them.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENOTTY, ERANGE
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile
from kvm_vfio.uapi.layout import INT32
from kvm_vfio.uapi.vfio import (
    VFIO_IRQ_SET,
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_ACTION_TYPE_MASK,
    VFIO_IRQ_SET_ACTION_UNMASK,
    VFIO_IRQ_SET_DATA_BOOL,
    VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_IRQ_SET_DATA_TYPE_MASK,
    VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS,
    VFIO_PCI_REQ_IRQ_INDEX,
    vfio_irq_set,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.machine.model import PciDevice
    from kvm_vfio.profiles.profile import Profile

_DATA_WIDTH = {VFIO_IRQ_SET_DATA_NONE: 0, VFIO_IRQ_SET_DATA_BOOL: 1, VFIO_IRQ_SET_DATA_EVENTFD: 4}
_EXCLUSIVE = (VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX)
_U32_MAX = 0xFFFF_FFFF
_MINUS_ONE = bytes([0xFF] * 4)


class Irqs:
    """The interrupt state of one device while it is open.

    `mode` is the index of the kind in use, None for none; `triggers` maps a vector of that kind to
    its eventfd, `unmask` is INTx's second eventfd, `single` maps the error and request index.
    """

    def __init__(self, static: PciDevice, profile: Profile) -> None:
        self.counts = {
            VFIO_PCI_INTX_IRQ_INDEX: int(static.interrupt_pin > 0),
            VFIO_PCI_MSI_IRQ_INDEX: static.msi.vectors if static.msi else 0,
            VFIO_PCI_MSIX_IRQ_INDEX: static.msix.vectors if static.msix else 0,
            VFIO_PCI_ERR_IRQ_INDEX: int(static.pci_express or profile.every_device_reports_errors),
            VFIO_PCI_REQ_IRQ_INDEX: 1,
        }
        self.msix_grows = profile.msix_grows and static.msix is not None
        self._only_enabled = not profile.msix_grows  # an action beyond the enabled vectors: EINVAL
        self._negative_errno = profile.negative_eventfd_errno
        self._intx_is_off = False  # by the program, in COMMAND
        self.mode: int | None = None
        self.enabled = 0  # vectors the mode was enabled with
        self.triggers: dict[int, EventFile] = {}
        self.unmask: EventFile | None = None
        self.masked = False
        self.line = False  # whether the function asserts INTx
        self.single: dict[int, EventFile] = {}

    def disable(self) -> None:
        """Take the mode down and let its eventfds go."""
        for event in self.triggers.values():
            event.let_go()
        if self.unmask is not None:
            self._forget_unmask(self.unmask)
        self.triggers.clear()
        self.mode, self.enabled, self.unmask, self.masked = None, 0, None, False

    def close(self) -> None:
        """The device is closed: everything goes."""
        self.disable()
        for event in self.single.values():
            event.let_go()
        self.single.clear()

    # -- the function interrupts -------------------------------------------------------------------

    @property
    def sends_messages(self) -> bool:
        """Whether the function interrupts by MSI or MSI-X."""
        return self.mode in (VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX)

    def message(self, vector: int) -> None:
        """vfio_msihandler: the function has sent this message. One not enabled is nobody's."""
        if vector < self.enabled:
            self._signal(vector)

    def set_line(self, *, asserted: bool) -> None:
        """The function asserts INTx, or lets it go."""
        self.line = asserted
        self._intx_handler()

    def _intx_handler(self) -> None:
        """vfio_intx_handler: an asserted line is masked, and told once until it is unmasked."""
        if self.line and self.mode == VFIO_PCI_INTX_IRQ_INDEX and not self.masked:
            self.masked = True
            self._signal(0)

    def disable_intx(self, off: bool) -> None:  # noqa: FBT001  # what it sets
        """The program has turned INTx off in COMMAND, or on: the line is masked, or unmasked."""
        if off != self._intx_is_off:
            self._intx_is_off = self.masked = off
            self._intx_handler()

    def request(self) -> None:
        """The device is wanted back: the request interrupt, if somebody hears it."""
        event = self.single.get(VFIO_PCI_REQ_IRQ_INDEX)
        if event is not None:
            event.signal()

    # -- SET_IRQS ----------------------------------------------------------------------------------

    def set(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_SET_IRQS.

        EFAULT; EINVAL: argsz, index, flags, a range beyond the vectors, no or two kinds of data,
        too little data for argsz; EFAULT: the data; ENOTTY: this index has no such action; then
        what the action says: EINVAL for a wrong state or range, EBADF, EINVAL for what is no
        eventfd; of MSI and MSI-X, the vectors up to that one have lost their eventfds then.
        """
        wanted = VFIO_IRQ_SET.unpack(task.copy_from_user(arg, VFIO_IRQ_SET.size))
        kind = wanted.flags & VFIO_IRQ_SET_DATA_TYPE_MASK
        size = self._data_size(wanted)
        data = task.copy_from_user(arg + VFIO_IRQ_SET.size, size) if size else b""
        action = wanted.flags & VFIO_IRQ_SET_ACTION_TYPE_MASK
        if action == VFIO_IRQ_SET_ACTION_TRIGGER:
            if wanted.index in _EXCLUSIVE:
                self._trigger(task, wanted, kind, data)
            else:
                self._trigger_single(task, wanted, kind, data)
        elif wanted.index == VFIO_PCI_INTX_IRQ_INDEX and action == VFIO_IRQ_SET_ACTION_UNMASK:
            self._unmask_intx(task, wanted, kind, data)
        elif wanted.index == VFIO_PCI_INTX_IRQ_INDEX and action == VFIO_IRQ_SET_ACTION_MASK:
            self._mask_intx(wanted, kind, data)
        else:
            raise KernelError(ENOTTY, f"IRQ index {wanted.index} has no action {action:#x}")
        return 0

    def _data_size(self, wanted: vfio_irq_set) -> int:
        unknown = ~(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK)
        if (
            wanted.argsz < VFIO_IRQ_SET.size
            or wanted.index >= VFIO_PCI_NUM_IRQS
            or wanted.count >= _U32_MAX - wanted.start
            or wanted.flags & unknown
        ):
            raise KernelError(EINVAL, "argsz, index, flags or count is out of range")
        vectors = self.counts[wanted.index]
        if wanted.start >= vectors or wanted.start + wanted.count > vectors:
            raise KernelError(EINVAL, f"IRQ index {wanted.index} has {vectors} vectors")
        width = _DATA_WIDTH.get(wanted.flags & VFIO_IRQ_SET_DATA_TYPE_MASK)
        if width is None:
            raise KernelError(EINVAL, "the data is one of NONE, BOOL and EVENTFD")
        size = width * wanted.count
        if size and wanted.argsz - VFIO_IRQ_SET.size < size:
            raise KernelError(EINVAL, f"argsz {wanted.argsz} leaves no room for {size} bytes")
        return size

    # -- INTx, MSI, MSI-X --------------------------------------------------------------------------

    def _trigger(self, task: Task, wanted: vfio_irq_set, kind: int, data: bytes) -> None:
        index = wanted.index
        if self.mode == index and not wanted.count and kind == VFIO_IRQ_SET_DATA_NONE:
            self.disable()
            return
        if self.mode not in (None, index):
            raise KernelError(EINVAL, f"IRQ index {self.mode} is in use")
        intx = index == VFIO_PCI_INTX_IRQ_INDEX
        if intx and (wanted.start, wanted.count) != (0, 1):
            raise KernelError(EINVAL, "INTx has one vector")
        if kind == VFIO_IRQ_SET_DATA_EVENTFD:
            self._enable(task, wanted, data, resizable=not intx)
            return
        if self.mode != index:
            raise KernelError(EINVAL, f"IRQ index {index} is not enabled")
        if self._only_enabled:
            self._require_enabled(wanted.start + wanted.count)
        for vector in range(wanted.start, wanted.start + wanted.count):
            if kind == VFIO_IRQ_SET_DATA_NONE or data[vector - wanted.start]:
                self._signal(vector)

    def _enable(self, task: Task, wanted: vfio_irq_set, data: bytes, *, resizable: bool) -> None:
        end = wanted.start + wanted.count
        fresh = self.mode is None
        if fresh:
            self._enable_vectors(wanted, end)
        elif resizable:
            if wanted.index != VFIO_PCI_MSIX_IRQ_INDEX or not self.msix_grows:
                self._require_enabled(max(end, wanted.start + 1) if self._only_enabled else end)
            self.enabled = max(self.enabled, end)
        vector = wanted.start
        try:
            for vector in range(wanted.start, end):
                self._set_trigger(vector, _event(task, data, vector - wanted.start))
        except KernelError:
            if fresh:
                self.disable()
            elif resizable:
                for lost in range(wanted.start, vector + 1):
                    self._set_trigger(lost, None)
            raise
        self._intx_handler()

    def _enable_vectors(self, wanted: vfio_irq_set, end: int) -> None:
        """vfio_msi_enable, vfio_intx_enable: vectors 0 to `end`."""
        if not end:
            raise KernelError(ERANGE, "there are no vectors to enable")
        if self._only_enabled and not wanted.count:
            raise KernelError(EINVAL, f"vector {end} is not among the {end} enabled")
        self.mode, self.enabled = wanted.index, end

    def _require_enabled(self, end: int) -> None:
        if end > self.enabled:
            raise KernelError(EINVAL, f"{self.enabled} vectors are enabled")

    def _set_trigger(self, vector: int, event: EventFile | None) -> None:
        old = self.triggers.pop(vector, None)
        if old is not None:
            old.let_go()
        if event is not None:
            self.triggers[vector] = event

    def _signal(self, vector: int) -> None:
        off = self._intx_is_off and self.mode == VFIO_PCI_INTX_IRQ_INDEX
        if vector in self.triggers and not off:
            self.triggers[vector].signal()

    def _require_intx(self, wanted: vfio_irq_set) -> None:
        if self.mode != VFIO_PCI_INTX_IRQ_INDEX or (wanted.start, wanted.count) != (0, 1):
            raise KernelError(EINVAL, "INTx is not in use, or has not that vector")

    def _unmask_intx(self, task: Task, wanted: vfio_irq_set, kind: int, data: bytes) -> None:
        self._require_intx(wanted)
        if kind == VFIO_IRQ_SET_DATA_EVENTFD:
            self._set_unmask(_event(task, data, 0))
        elif kind == VFIO_IRQ_SET_DATA_NONE or data[0]:
            self.masked = self._intx_is_off
            self._intx_handler()

    def _set_unmask(self, event: EventFile | None) -> None:
        """vfio_virqfd_enable, vfio_virqfd_disable. EBUSY: there is one."""
        if event is not None and self.unmask is not None:
            event.let_go()
            raise KernelError(EBUSY, "INTx has an eventfd that unmasks it")
        if self.unmask is not None:
            self._forget_unmask(self.unmask)
        self.unmask = event
        if event is not None:
            event.waiters.append(self)

    def _forget_unmask(self, event: EventFile) -> None:
        event.waiters.remove(self)
        event.let_go()
        self.unmask = None

    def woken(self) -> None:
        """virqfd_wakeup: the eventfd that unmasks INTx is signalled, and its counter taken."""
        if self.unmask is not None:
            self.unmask.take()
            self.masked = self._intx_is_off
            self._intx_handler()

    def hung_up(self) -> None:
        """virqfd_wakeup: nobody has an fd for it any more."""
        if self.unmask is not None:
            self._forget_unmask(self.unmask)

    def _mask_intx(self, wanted: vfio_irq_set, kind: int, data: bytes) -> None:
        self._require_intx(wanted)
        if kind == VFIO_IRQ_SET_DATA_EVENTFD:
            raise KernelError(ENOTTY, "an eventfd cannot mask INTx")
        if kind == VFIO_IRQ_SET_DATA_NONE or data[0]:
            self.masked = True

    # -- the error and the request interrupt -------------------------------------------------------

    def _trigger_single(self, task: Task, wanted: vfio_irq_set, kind: int, data: bytes) -> None:
        index, there = wanted.index, self.single.get(wanted.index)
        if kind == VFIO_IRQ_SET_DATA_NONE:
            if there is None:
                raise KernelError(EINVAL, f"IRQ index {index} has no eventfd")
            if wanted.count:
                there.signal()
            else:
                self._set_single(index, None)
            return
        if not wanted.count:
            raise KernelError(EINVAL, "there is no data to act on")
        if kind == VFIO_IRQ_SET_DATA_EVENTFD:
            event = _event(task, data, 0)
            if event is not None or data == _MINUS_ONE:
                self._set_single(index, event)
            elif self._negative_errno:
                raise KernelError(self._negative_errno, "an fd is -1 or more")
        elif data[0] and there is not None:
            there.signal()

    def _set_single(self, index: int, event: EventFile | None) -> None:
        old = self.single.pop(index, None)
        if old is not None:
            old.let_go()
        if event is not None:
            self.single[index] = event


def _event(task: Task, data: bytes, at: int) -> EventFile | None:
    """The `at`-th eventfd of `data`, with a reference; None for -1. EBADF, EINVAL."""
    (fd,) = INT32.unpack_fields(data[4 * at : 4 * at + 4])
    if fd < 0:
        return None
    file = task.fget(fd)
    if not isinstance(file, EventFile):
        raise KernelError(EINVAL, f"{file.name} is no eventfd")
    file.hold()
    return file
