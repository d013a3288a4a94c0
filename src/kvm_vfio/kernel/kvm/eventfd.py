# SPDX-License-Identifier: GPL-2.0-only
"""Eventfds of a VM: irqfd, ioeventfd (virt/kvm/eventfd.c), coalesced MMIO (coalesced_mmio.c).

Rule of this file: an irqfd makes an interrupt out of an event, an ioeventfd an event out of a
guest's write. What either holds is the event, not the file: the last close of the eventfd ends an
irqfd, and an ioeventfd never hears of it.
"""

from __future__ import annotations

from errno import EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile
from kvm_vfio.kernel.ioctl import Argument, Row
from kvm_vfio.kernel.kvm.io_bus import Bus
from kvm_vfio.kernel.kvm.irqchip import (
    IRQFD_RESAMPLE_IRQ_SOURCE_ID,
    USERSPACE_IRQ_SOURCE_ID,
    Mode,
)
from kvm_vfio.uapi.kvm_vm import (
    KVM_COALESCED_MMIO_ZONE,
    KVM_HYPERV_CONN_ID_MASK,
    KVM_HYPERV_EVENTFD,
    KVM_HYPERV_EVENTFD_DEASSIGN,
    KVM_HYPERV_EVENTFD_LAYOUT,
    KVM_IOEVENTFD,
    KVM_IOEVENTFD_FLAG_DATAMATCH,
    KVM_IOEVENTFD_FLAG_DEASSIGN,
    KVM_IOEVENTFD_FLAG_PIO,
    KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY,
    KVM_IOEVENTFD_LAYOUT,
    KVM_IOEVENTFD_VALID_FLAG_MASK,
    KVM_IRQFD,
    KVM_IRQFD_FLAG_DEASSIGN,
    KVM_IRQFD_FLAG_RESAMPLE,
    KVM_IRQFD_LAYOUT,
    KVM_REGISTER_COALESCED_MMIO,
    KVM_UNREGISTER_COALESCED_MMIO,
    kvm_coalesced_mmio_zone,
    kvm_ioeventfd,
    kvm_irqfd,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm, VmFile
    from kvm_vfio.kernel.task import Task

_U64 = 1 << 64
_LENGTHS = (0, 1, 2, 4, 8)  # bytes of a write; 0: any


class Irqfd:
    """struct kvm_kernel_irqfd: `event` raises `gsi`; `resample` hears of the interrupt's end.

    A plain one raises and lowers. One with `resample` raises, and the line stays up until a guest
    acknowledges the interrupt, which none does here.
    """

    __slots__ = ("_events", "event", "gsi", "resample")

    def __init__(
        self, events: VmEvents, event: EventFile, gsi: int, resample: EventFile | None
    ) -> None:
        self._events = events
        self.event = event
        self.gsi = gsi
        self.resample = resample

    def woken(self) -> None:
        """irqfd_wakeup: the eventfd has been signalled."""
        if self._events.vm.behaviour.irqfd_drains:
            self.event.take()
        self.inject()

    def inject(self) -> None:
        """irqfd_inject."""
        vm = self._events.vm
        vm.kernel.observer.irqfd_injected(vm, self.gsi)
        if self.resample is not None:
            vm.irqchip.set_irq(IRQFD_RESAMPLE_IRQ_SOURCE_ID, self.gsi, level=True)
            return
        vm.irqchip.set_irq(USERSPACE_IRQ_SOURCE_ID, self.gsi, level=True)
        vm.irqchip.set_irq(USERSPACE_IRQ_SOURCE_ID, self.gsi, level=False)

    def hung_up(self) -> None:
        """irqfd_wakeup: the last fd of the eventfd has been closed."""
        self._events.drop_irqfd(self)


class Ioeventfd:
    """struct _ioeventfd: a write of `length` bytes (0: any) of `datamatch` (None: any)."""

    __slots__ = ("address", "bus", "datamatch", "event", "length")

    def __init__(self, event: EventFile, wanted: kvm_ioeventfd) -> None:
        self.event = event
        self.bus = _bus(wanted.flags)
        self.address = wanted.addr
        self.length = wanted.len
        matches = wanted.flags & KVM_IOEVENTFD_FLAG_DATAMATCH
        self.datamatch = wanted.datamatch if matches else None

    def collides(self, other: Ioeventfd) -> bool:
        """ioeventfd_check_collision, of two at one address."""
        if not self.length or not other.length:
            return True
        if self.length != other.length:
            return False
        return None in (self.datamatch, other.datamatch) or self.datamatch == other.datamatch

    def same(self, other: Ioeventfd) -> bool:
        """Whether DEASSIGN of `other`, at the same address, means this one."""
        mine = (self.event, self.length, self.datamatch)
        return mine == (other.event, other.length, other.datamatch)

    def write(self, address: int, data: bytes) -> bool:
        """ioeventfd_write: signal, if it is just this write."""
        if address != self.address or self.length not in (0, len(data)):
            return False
        if self.datamatch is not None and int.from_bytes(data, "little") != self.datamatch:
            return False
        self.event.signal()
        return True


class CoalescedZone:
    """struct kvm_coalesced_mmio_dev: writes of a guest that are put into the VM's ring."""

    __slots__ = ("bus", "end", "start")

    def __init__(self, zone: kvm_coalesced_mmio_zone) -> None:
        self.bus = Bus.PIO if zone.pio else Bus.MMIO
        self.start = zone.addr
        self.end = zone.addr + zone.size

    def covers(self, zone: kvm_coalesced_mmio_zone) -> bool:
        """coalesced_mmio_in_range."""
        end = zone.addr + zone.size
        return end < _U64 and self.start <= zone.addr and end <= self.end

    def write(self, address: int, data: bytes) -> bool:
        """coalesced_mmio_write: the ring is in a vCPU's mapping, and no vCPU runs."""
        return False


class VmEvents:
    """What a VM has of all three, in the order of their coming."""

    __slots__ = ("hyperv", "ioeventfds", "irqfds", "vm", "zones")

    def __init__(self, vm: Vm) -> None:
        self.vm = vm
        self.irqfds: dict[EventFile, Irqfd] = {}
        self.ioeventfds: dict[tuple[Bus, int], list[Ioeventfd]] = {}  # by bus and address
        self.zones: list[CoalescedZone] = []
        self.hyperv: dict[int, EventFile] = {}  # by connection

    def release_irqfds(self) -> None:
        """kvm_irqfd_release."""
        for irqfd in list(self.irqfds.values()):
            self.drop_irqfd(irqfd)

    def release(self) -> None:
        """What the buses do at the VM's end."""
        for ioeventfd in (each for there in self.ioeventfds.values() for each in there):
            ioeventfd.event.let_go()
        for event in self.hyperv.values():
            event.let_go()
        self.ioeventfds.clear()
        self.hyperv.clear()

    # -- irqfd -------------------------------------------------------------------------------------

    def assign_irqfd(self, task: Task, wanted: kvm_irqfd) -> None:
        """kvm_irqfd_assign. EINVAL: this interrupt controller cannot; EBADF, EINVAL; EBUSY."""
        vm = self.vm
        resampled = bool(wanted.flags & KVM_IRQFD_FLAG_RESAMPLE)
        if vm.irqchip.mode is Mode.NONE or (resampled and vm.irqchip.mode is Mode.SPLIT):
            raise KernelError(EINVAL, f"the VM has {vm.irqchip.mode.value}")
        vm.kernel.allocate("kvm_kernel_irqfd")
        event = _event(task, wanted.fd)
        resample = _event(task, wanted.resamplefd) if resampled else None
        if event in self.irqfds:
            raise KernelError(EBUSY, "the eventfd is an irqfd of this VM already")
        if vm.behaviour.irqfd_exclusive and any(isinstance(w, Irqfd) for w in event.waiters):
            raise KernelError(EBUSY, "the eventfd is another VM's irqfd")
        irqfd = Irqfd(self, event, wanted.gsi, resample)
        event.hold()
        if resample is not None:
            resample.hold()
        self.irqfds[event] = irqfd
        event.waiters.append(irqfd)
        if event.is_signalled():
            irqfd.inject()

    def deassign_irqfd(self, task: Task, wanted: kvm_irqfd) -> None:
        """kvm_irqfd_deassign. EBADF, EINVAL; one that is not there is no error."""
        irqfd = self.irqfds.get(_event(task, wanted.fd))
        if irqfd is not None and irqfd.gsi == wanted.gsi:
            self.drop_irqfd(irqfd)

    def drop_irqfd(self, irqfd: Irqfd) -> None:
        """irqfd_shutdown takes the count. The last one that resamples a GSI lowers it."""
        del self.irqfds[irqfd.event]
        irqfd.event.waiters.remove(irqfd)
        irqfd.event.take()
        if irqfd.resample is not None:
            if not any(each.resample and each.gsi == irqfd.gsi for each in self.irqfds.values()):
                gsi, irqchip = irqfd.gsi, self.vm.irqchip
                irqchip.set_irq(IRQFD_RESAMPLE_IRQ_SOURCE_ID, gsi, level=False)
            irqfd.resample.let_go()
        irqfd.event.let_go()

    # -- ioeventfd ---------------------------------------------------------------------------------

    def assign_ioeventfd(self, task: Task, wanted: kvm_ioeventfd) -> None:
        """kvm_assign_ioeventfd. EINVAL; EBADF, EINVAL; EEXIST; ENOSPC."""
        if wanted.len not in _LENGTHS:
            raise KernelError(EINVAL, f"a write has 1, 2, 4 or 8 bytes, not {wanted.len}")
        if wanted.addr + wanted.len >= _U64:
            raise KernelError(EINVAL, "the address wraps")
        if wanted.flags & ~KVM_IOEVENTFD_VALID_FLAG_MASK:
            raise KernelError(EINVAL, f"an ioeventfd has no flags {wanted.flags:#x}")
        if not wanted.len and wanted.flags & KVM_IOEVENTFD_FLAG_DATAMATCH:
            raise KernelError(EINVAL, "a write of any length matches no data")
        ioeventfd = Ioeventfd(_event(task, wanted.fd), wanted)
        self.vm.kernel.allocate("_ioeventfd")
        there = self.ioeventfds.get((ioeventfd.bus, wanted.addr), [])
        if any(map(ioeventfd.collides, there)):
            raise KernelError(EEXIST, f"{wanted.addr:#x} has an ioeventfd for such a write")
        self.vm.buses.register_ioeventfd(ioeventfd.bus, ioeventfd)
        ioeventfd.event.hold()
        self.ioeventfds[ioeventfd.bus, wanted.addr] = [*there, ioeventfd]

    def deassign_ioeventfd(self, task: Task, wanted: kvm_ioeventfd) -> None:
        """kvm_deassign_ioeventfd. EBADF, EINVAL; ENOENT: not just this one."""
        meant = Ioeventfd(_event(task, wanted.fd), wanted)
        there = self.ioeventfds.get((meant.bus, wanted.addr), [])
        ioeventfd = next(filter(meant.same, there), None)
        if ioeventfd is None:
            raise KernelError(ENOENT, f"{wanted.addr:#x} has no such ioeventfd")
        there.remove(ioeventfd)
        if not there:
            del self.ioeventfds[meant.bus, wanted.addr]
        self.vm.buses.unregister_ioeventfd(ioeventfd.bus, ioeventfd)
        ioeventfd.event.let_go()

    # -- coalesced MMIO ----------------------------------------------------------------------------

    def register_zone(self, zone: kvm_coalesced_mmio_zone) -> None:
        """kvm_vm_ioctl_register_coalesced_mmio. EINVAL; ENOMEM; ENOSPC."""
        _require_bus(zone)
        self.vm.kernel.allocate("kvm_coalesced_mmio_dev")
        coalesced = CoalescedZone(zone)
        self.vm.buses.register(coalesced.bus, coalesced)
        self.zones.append(coalesced)

    def unregister_zone(self, zone: kvm_coalesced_mmio_zone) -> None:
        """kvm_vm_ioctl_unregister_coalesced_mmio: every zone that has all of `zone`. EINVAL."""
        _require_bus(zone)
        bus = Bus.PIO if zone.pio else Bus.MMIO
        for each in [each for each in self.zones if each.bus is bus and each.covers(zone)]:
            self.zones.remove(each)
            self.vm.buses.unregister(bus, each)


def _bus(flags: int) -> Bus:
    """ioeventfd_bus_from_flags."""
    if flags & KVM_IOEVENTFD_FLAG_PIO:
        return Bus.PIO
    if flags & KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY:
        return Bus.VIRTIO_CCW_NOTIFY
    return Bus.MMIO


def _require_bus(zone: kvm_coalesced_mmio_zone) -> None:
    if zone.pio not in (0, 1):
        raise KernelError(EINVAL, "a zone is of memory (0) or of ports (1)")


def _event(task: Task, fd: int) -> EventFile:
    """eventfd_ctx_fdget. EBADF; EINVAL: no eventfd."""
    file = task.fget(fd)
    if not isinstance(file, EventFile):
        raise KernelError(EINVAL, f"{file.name} is no eventfd")
    return file


# -- the requests ----------------------------------------------------------------------------------


def _irqfd(file: VmFile, task: Task, arg: int) -> int:
    """KVM_IRQFD. EFAULT; EINVAL: a flag; then as `VmEvents.assign_irqfd`, `deassign_irqfd`."""
    wanted = KVM_IRQFD_LAYOUT.unpack(task.copy_from_user(arg, KVM_IRQFD_LAYOUT.size))
    if wanted.flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE):
        raise KernelError(EINVAL, f"an irqfd has no flags {wanted.flags:#x}")
    if wanted.flags & KVM_IRQFD_FLAG_DEASSIGN:
        file.vm.events.deassign_irqfd(task, wanted)
    else:
        file.vm.events.assign_irqfd(task, wanted)
    return 0


def _ioeventfd(file: VmFile, task: Task, arg: int) -> int:
    """KVM_IOEVENTFD. EFAULT; then as `VmEvents.assign_ioeventfd`, `deassign_ioeventfd`."""
    wanted = KVM_IOEVENTFD_LAYOUT.unpack(task.copy_from_user(arg, KVM_IOEVENTFD_LAYOUT.size))
    if wanted.flags & KVM_IOEVENTFD_FLAG_DEASSIGN:
        file.vm.events.deassign_ioeventfd(task, wanted)
    else:
        file.vm.events.assign_ioeventfd(task, wanted)
    return 0


def _hyperv_eventfd(file: VmFile, task: Task, arg: int) -> int:
    """KVM_HYPERV_EVENTFD. EFAULT; EINVAL; taken away: ENOENT; else EBADF, EINVAL, EEXIST."""
    layout = KVM_HYPERV_EVENTFD_LAYOUT
    wanted = layout.unpack(task.copy_from_user(arg, layout.size))
    connections = file.vm.events.hyperv
    if wanted.flags & ~KVM_HYPERV_EVENTFD_DEASSIGN or wanted.conn_id & ~KVM_HYPERV_CONN_ID_MASK:
        raise KernelError(EINVAL, "a connection has 24 bits, and one flag")
    if wanted.flags & KVM_HYPERV_EVENTFD_DEASSIGN:
        there = connections.pop(wanted.conn_id, None)
        if there is None:
            raise KernelError(ENOENT, f"connection {wanted.conn_id} has no eventfd")
        there.let_go()
        return 0
    event = _event(task, wanted.fd)
    if wanted.conn_id in connections:
        raise KernelError(EEXIST, f"connection {wanted.conn_id} has an eventfd")
    event.hold()
    connections[wanted.conn_id] = event
    return 0


def _zone(task: Task, arg: int) -> kvm_coalesced_mmio_zone:
    layout = KVM_COALESCED_MMIO_ZONE
    return layout.unpack(task.copy_from_user(arg, layout.size))


def _register_coalesced_mmio(file: VmFile, task: Task, arg: int) -> int:
    """KVM_REGISTER_COALESCED_MMIO. EFAULT; `VmEvents.register_zone`."""
    file.vm.events.register_zone(_zone(task, arg))
    return 0


def _unregister_coalesced_mmio(file: VmFile, task: Task, arg: int) -> int:
    """KVM_UNREGISTER_COALESCED_MMIO. EFAULT; `VmEvents.unregister_zone`."""
    file.vm.events.unregister_zone(_zone(task, arg))
    return 0


ROWS = (
    Row(KVM_IRQFD, _irqfd, Argument.FIXED, errnos=(EFAULT, EINVAL, ENOMEM, EBADF, EBUSY)),
    Row(
        KVM_IOEVENTFD,
        _ioeventfd,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL, EBADF, ENOMEM, EEXIST, ENOSPC, ENOENT),
    ),
    Row(
        KVM_HYPERV_EVENTFD,
        _hyperv_eventfd,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL, ENOENT, EBADF, EEXIST),
    ),
    Row(
        KVM_REGISTER_COALESCED_MMIO,
        _register_coalesced_mmio,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL, ENOMEM, ENOSPC),
    ),
    Row(
        KVM_UNREGISTER_COALESCED_MMIO,
        _unregister_coalesced_mmio,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL),
    ),
)
