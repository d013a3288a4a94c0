# SPDX-License-Identifier: GPL-2.0-only
"""From a GSI to interrupt controllers (virt/kvm/irqchip.c, arch/x86/kvm/irq_comm.c).

Rule of this file: a GSI is a number that a VM's routing table gives a meaning, and whoever raises
one (a caller, an irqfd) raises it here.

An interrupt ends at the local APICs, which belong to vCPUs. One that is not enabled takes nothing,
and says so with 0; without any, nobody is there, and that is -1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from errno import EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC, ENXIO, EPERM
from typing import TYPE_CHECKING, NamedTuple

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, Row
from kvm_vfio.kernel.kvm.io_bus import Bus
from kvm_vfio.kernel.x86.i8254 import Pit
from kvm_vfio.kernel.x86.i8259 import Pic
from kvm_vfio.kernel.x86.interrupt import from_msi
from kvm_vfio.kernel.x86.ioapic import Ioapic
from kvm_vfio.uapi.kvm_vm import (
    KVM_CREATE_IRQCHIP,
    KVM_CREATE_PIT,
    KVM_CREATE_PIT2,
    KVM_GET_IRQCHIP,
    KVM_GET_PIT,
    KVM_GET_PIT2,
    KVM_IOAPIC_NUM_PINS,
    KVM_IOAPIC_STATE,
    KVM_IRQ_LEVEL,
    KVM_IRQ_LINE,
    KVM_IRQ_LINE_STATUS,
    KVM_IRQ_ROUTING,
    KVM_IRQ_ROUTING_ENTRY,
    KVM_IRQ_ROUTING_HV_SINT,
    KVM_IRQ_ROUTING_IRQCHIP,
    KVM_IRQ_ROUTING_MSI,
    KVM_IRQCHIP,
    KVM_IRQCHIP_IOAPIC,
    KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE,
    KVM_MSI,
    KVM_MSI_VALID_DEVID,
    KVM_PIC_STATE,
    KVM_PIT_CONFIG,
    KVM_PIT_SPEAKER_DUMMY,
    KVM_PIT_STATE,
    KVM_PIT_STATE2,
    KVM_REINJECT_CONTROL,
    KVM_REINJECT_CONTROL_LAYOUT,
    KVM_SET_GSI_ROUTING,
    KVM_SET_IRQCHIP,
    KVM_SET_PIT,
    KVM_SET_PIT2,
    KVM_SIGNAL_MSI,
    kvm_irq_routing_entry,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm, VmFile
    from kvm_vfio.kernel.task import Task

USERSPACE_IRQ_SOURCE_ID = 0
IRQFD_RESAMPLE_IRQ_SOURCE_ID = 1

_MOST_ROUTES = 4096  # KVM_MAX_IRQ_ROUTES
_PIC_PINS = 8
_LAST_PIC = KVM_IRQCHIP_PIC_SLAVE
_PIC_DEVICES, _PIT_DEVICES, _SPEAKER_DEVICES = 3, 1, 1  # ranges of ports each takes


class Mode(Enum):
    """enum kvm_irqchip_mode."""

    NONE = "no interrupt controller in the kernel"
    KERNEL = "PIC, IOAPIC and local APICs in the kernel"
    SPLIT = "local APICs in the kernel, PIC and IOAPIC the caller's"


class Route(NamedTuple):
    """struct kvm_kernel_irq_routing_entry: a controller's `chip` and `pin`, or (-1) an MSI."""

    gsi: int
    type: int
    chip: int = -1
    pin: int = 0
    address: int = 0
    data: int = 0


class Irqchip:
    """The interrupt controllers of one VM, and its routing table."""

    __slots__ = ("_vm", "ioapic", "mode", "pic", "pit", "reserved_pins", "routes", "x2apic_format")

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self.mode = Mode.NONE
        self.pic: Pic | None = None
        self.ioapic: Ioapic | None = None
        self.pit: Pit | None = None
        self.reserved_pins = 0  # of the caller's IOAPIC
        self.routes: dict[int, tuple[Route, ...]] = {}
        self.x2apic_format = False  # KVM_CAP_X2APIC_API: 32-bit destinations

    # -- controllers -------------------------------------------------------------------------------

    def create(self) -> None:
        """KVM_CREATE_IRQCHIP. EEXIST; EINVAL: there are vCPUs; ENOMEM; ENOSPC: a bus is full."""
        if self.mode is not Mode.NONE:
            raise KernelError(EEXIST, f"the VM has {self.mode.value}")
        if self._vm.created_vcpus:
            raise KernelError(EINVAL, "interrupt controllers come before the first vCPU")
        buses = self._vm.buses
        self._vm.kernel.allocate("kvm_pic")
        buses.take(Bus.PIO, _PIC_DEVICES)
        try:
            self._vm.kernel.allocate("kvm_ioapic")
            buses.take(Bus.MMIO)
        except KernelError:
            buses.give_back(Bus.PIO, _PIC_DEVICES)
            raise
        self.pic, self.ioapic = Pic(), Ioapic(self._vm.deliver)
        self.mode = Mode.KERNEL
        self.routes = _default_routes()

    def split(self, reserved_pins: int) -> None:
        """KVM_CAP_SPLIT_IRQCHIP. EINVAL; EEXIST, also when there are vCPUs."""
        if reserved_pins > _MOST_ROUTES:
            raise KernelError(EINVAL, f"an IOAPIC has at most {_MOST_ROUTES} pins")
        if self.mode is not Mode.NONE or self._vm.created_vcpus:
            raise KernelError(EEXIST, f"the VM has vCPUs, or {self.mode.value}")
        self.mode = Mode.SPLIT
        self.reserved_pins = reserved_pins

    def create_pit(self, flags: int) -> None:
        """KVM_CREATE_PIT. EEXIST; ENOENT: this kernel wants a PIC; ENOMEM, also for a full bus."""
        if self.pit is not None:
            raise KernelError(EEXIST, "the VM has a PIT")
        if self._vm.behaviour.pit_needs_pic and self.pic is None:
            raise KernelError(ENOENT, "the VM has no PIC in the kernel")
        self._vm.kernel.allocate("kvm_pit")
        speaker = _SPEAKER_DEVICES if flags & KVM_PIT_SPEAKER_DUMMY else 0
        try:
            self._vm.buses.take(Bus.PIO, _PIT_DEVICES + speaker)
        except KernelError as error:
            raise KernelError(ENOMEM, error.why) from error
        self.pit = Pit(self._vm.kernel.now)

    def require_pit(self) -> Pit:
        """ENXIO: there is none."""
        if self.pit is None:
            raise KernelError(ENXIO, "the VM has no PIT in the kernel")
        return self.pit

    def chip(self, number: int) -> tuple[Callable[[], bytes], Callable[[bytes], None], int]:
        """How the state of controller `number` is got and set, and its size. ENXIO; EINVAL."""
        pic, ioapic = self.pic, self.ioapic
        if pic is None or ioapic is None:
            raise KernelError(ENXIO, f"the VM has {self.mode.value}")
        if number in (KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE):
            return lambda: pic.get(number), lambda data: pic.set(number, data), KVM_PIC_STATE.size
        if number == KVM_IRQCHIP_IOAPIC:
            return ioapic.get, ioapic.set, KVM_IOAPIC_STATE.size
        raise KernelError(EINVAL, f"there is no interrupt controller {number}")

    # -- routing -----------------------------------------------------------------------------------

    def set_routing(self, entries: Iterator[kvm_irq_routing_entry]) -> None:
        """kvm_set_irq_routing: all of it, or nothing. EINVAL."""
        routes: dict[int, tuple[Route, ...]] = {}
        for entry in entries:
            if entry.gsi >= _MOST_ROUTES:
                raise KernelError(EINVAL, f"a GSI is below {_MOST_ROUTES}")
            there = routes.get(entry.gsi, ())
            routes[entry.gsi] = (*there, self._route(entry, there))
        self.routes = routes

    def _route(self, entry: kvm_irq_routing_entry, there: tuple[Route, ...]) -> Route:
        """setup_routing_entry: a GSI leads to each controller once, or to something else once."""
        valid = KVM_MSI_VALID_DEVID if entry.type == KVM_IRQ_ROUTING_MSI else 0
        if entry.flags & ~valid:
            raise KernelError(EINVAL, f"a route of type {entry.type} has no flags {entry.flags:#x}")
        chip = entry.word0 if entry.type == KVM_IRQ_ROUTING_IRQCHIP else -1
        if there and (chip < 0 or any(route.chip in (-1, chip) for route in there)):
            raise KernelError(EINVAL, f"GSI {entry.gsi} leads elsewhere already")
        if entry.type == KVM_IRQ_ROUTING_IRQCHIP:
            return self._chip_route(entry.gsi, chip, entry.word1)
        if entry.type == KVM_IRQ_ROUTING_MSI:
            self.require_msi_address(entry.word1)
        elif entry.type != KVM_IRQ_ROUTING_HV_SINT:
            raise KernelError(EINVAL, f"there is no route of type {entry.type}")
        address = entry.word1 << 32 | entry.word0
        return Route(entry.gsi, entry.type, address=address, data=entry.word2)

    def _chip_route(self, gsi: int, chip: int, pin: int) -> Route:
        if self.mode is Mode.SPLIT:
            raise KernelError(EINVAL, "the PIC and the IOAPIC are the caller's")
        pins = {KVM_IRQCHIP_IOAPIC: KVM_IOAPIC_NUM_PINS}.get(chip, _PIC_PINS)
        if chip > KVM_IRQCHIP_IOAPIC or pin >= pins:
            raise KernelError(EINVAL, f"there is no pin {pin} of controller {chip}")
        return Route(gsi, KVM_IRQ_ROUTING_IRQCHIP, chip, pin)

    def require_msi_address(self, address_hi: int) -> None:
        """kvm_msi_route_invalid. EINVAL: destinations are 32 bits, and these 8 stay 0."""
        if self.x2apic_format and address_hi & 0xFF:
            raise KernelError(EINVAL, f"the MSI address {address_hi:#x}00000000 has low bits set")

    # -- interrupts --------------------------------------------------------------------------------

    def set_irq(self, source: int, gsi: int, *, level: bool) -> int:
        """kvm_set_irq: the answers of all controllers, added up; -1: nobody took it."""
        taken = -1
        for route in self.routes.get(gsi, ()):
            answer = self._set(route, source, level=level)
            if answer >= 0:
                taken = answer + max(taken, 0)
        self._vm.kernel.observer.irq_set(self._vm, gsi, level=level, answer=taken)
        return taken

    def _set(self, route: Route, source: int, *, level: bool) -> int:
        if route.chip == KVM_IRQCHIP_IOAPIC and self.ioapic is not None:
            return self.ioapic.set_irq(route.pin, source, level=level)
        if route.chip >= 0 and self.pic is not None:
            return self.pic.set_irq(route.pin + _PIC_PINS * route.chip, source, level=level)
        if route.type == KVM_IRQ_ROUTING_MSI and level:
            return self.send(route.address, route.data)
        return -1  # an MSI has no other edge; no vCPU has a synthetic interrupt controller

    def send(self, address: int, data: int) -> int:
        """kvm_set_msi: how many took it; -1: nobody is there."""
        interrupt = from_msi(address, data, x2apic_format=self.x2apic_format)
        return self._vm.deliver(interrupt)

    def clear_source(self, source: int) -> None:
        """kvm_free_irq_source_id."""
        if self.pic is not None:
            self.pic.clear_source(source)
        if self.ioapic is not None:
            self.ioapic.clear_source(source)


def _default_routes() -> dict[int, tuple[Route, ...]]:
    """kvm_setup_default_irq_routing: GSI and pin are one number; the first 16 are the PIC's too."""
    routes = {}
    for gsi in range(KVM_IOAPIC_NUM_PINS):
        ioapic = Route(gsi, KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQCHIP_IOAPIC, gsi)
        chip, pin = divmod(gsi, _PIC_PINS)
        pic = (Route(gsi, KVM_IRQ_ROUTING_IRQCHIP, chip, pin),) if chip <= _LAST_PIC else ()
        routes[gsi] = (ioapic, *pic)
    return routes


# -- the requests ----------------------------------------------------------------------------------


def _create_irqchip(file: VmFile, task: Task, arg: int) -> int:
    """KVM_CREATE_IRQCHIP: `Irqchip.create`."""
    with file.vm.lock:
        file.vm.irqchip.create()
    return 0


def _get_irqchip(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_IRQCHIP. EFAULT; ENXIO: not in the kernel; EINVAL: no such chip; EFAULT."""
    asked = task.copy_from_user(arg, KVM_IRQCHIP.size)
    get, _, _ = file.vm.irqchip.chip(KVM_IRQCHIP.unpack(asked).chip_id)
    head = KVM_IRQCHIP.offsets["chip"]
    state = get()
    task.copy_to_user(arg, asked[:head] + state + asked[head + len(state) :])
    return 0


def _set_irqchip(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_IRQCHIP. EFAULT; ENXIO; EINVAL."""
    given = KVM_IRQCHIP.unpack(task.copy_from_user(arg, KVM_IRQCHIP.size))
    _, put, size = file.vm.irqchip.chip(given.chip_id)
    put(given.chip[:size])
    return 0


def _irq_line(file: VmFile, task: Task, arg: int) -> int:
    """KVM_IRQ_LINE. EFAULT; ENXIO: no interrupt controller."""
    _set_line(file.vm, task, arg)
    return 0


def _irq_line_status(file: VmFile, task: Task, arg: int) -> int:
    """KVM_IRQ_LINE_STATUS: the answer of `Irqchip.set_irq` is in `irq`. EFAULT; ENXIO; EFAULT."""
    level, status = _set_line(file.vm, task, arg)
    task.copy_to_user(arg, KVM_IRQ_LEVEL.pack_fields(status & 0xFFFF_FFFF, level))
    return 0


def _set_line(vm: Vm, task: Task, arg: int) -> tuple[int, int]:
    irq, level = KVM_IRQ_LEVEL.unpack_fields(task.copy_from_user(arg, KVM_IRQ_LEVEL.size))
    if vm.irqchip.mode is Mode.NONE:
        raise KernelError(ENXIO, f"the VM has {vm.irqchip.mode.value}")
    return level, vm.irqchip.set_irq(USERSPACE_IRQ_SOURCE_ID, irq, level=bool(level))


def _set_gsi_routing(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_GSI_ROUTING. EFAULT; EINVAL: no controller, too many, a flag; EFAULT; EINVAL."""
    head = KVM_IRQ_ROUTING.unpack(task.copy_from_user(arg, KVM_IRQ_ROUTING.size))
    irqchip = file.vm.irqchip
    if irqchip.mode is Mode.NONE:
        raise KernelError(EINVAL, f"the VM has {irqchip.mode.value}")
    if head.nr > _MOST_ROUTES or head.flags:
        raise KernelError(EINVAL, f"there are at most {_MOST_ROUTES} routes, and no flags")
    size = KVM_IRQ_ROUTING_ENTRY.size
    data = task.copy_from_user(arg + KVM_IRQ_ROUTING.size, head.nr * size) if head.nr else b""
    irqchip.set_routing(
        KVM_IRQ_ROUTING_ENTRY.unpack(data[at : at + size]) for at in range(0, len(data), size)
    )
    return 0


def _signal_msi(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SIGNAL_MSI: how many took it. EFAULT; EINVAL: no controller, a flag; EPERM: no vCPU."""
    msi = KVM_MSI.unpack(task.copy_from_user(arg, KVM_MSI.size))
    irqchip = file.vm.irqchip
    if irqchip.mode is Mode.NONE:
        raise KernelError(EINVAL, f"the VM has {irqchip.mode.value}")
    if msi.flags & ~KVM_MSI_VALID_DEVID:
        raise KernelError(EINVAL, f"an MSI has no flags {msi.flags:#x}")
    irqchip.require_msi_address(msi.address_hi)
    taken = irqchip.send(msi.address_hi << 32 | msi.address_lo, msi.data)
    if taken < 0:
        raise KernelError(EPERM, "there is no local APIC to take the interrupt")
    return taken


def _create_pit(file: VmFile, task: Task, arg: int) -> int:
    """KVM_CREATE_PIT: with a speaker. `Irqchip.create_pit`."""
    with file.vm.lock:
        file.vm.irqchip.create_pit(KVM_PIT_SPEAKER_DUMMY)
    return 0


def _create_pit2(file: VmFile, task: Task, arg: int) -> int:
    """KVM_CREATE_PIT2. EFAULT; `Irqchip.create_pit`."""
    config = KVM_PIT_CONFIG.unpack(task.copy_from_user(arg, KVM_PIT_CONFIG.size))
    with file.vm.lock:
        file.vm.irqchip.create_pit(config.flags)
    return 0


def _get_pit(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_PIT. EFAULT, also for what is not read; ENXIO; EFAULT."""
    task.copy_from_user(arg, KVM_PIT_STATE.size)
    task.copy_to_user(arg, file.vm.irqchip.require_pit().get())
    return 0


def _set_pit(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_PIT. EFAULT; ENXIO."""
    state = task.copy_from_user(arg, KVM_PIT_STATE.size)
    file.vm.irqchip.require_pit().set(state)
    return 0


def _get_pit2(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_PIT2. ENXIO; EFAULT."""
    task.copy_to_user(arg, file.vm.irqchip.require_pit().get2())
    return 0


def _set_pit2(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_PIT2. EFAULT; ENXIO."""
    state = task.copy_from_user(arg, KVM_PIT_STATE2.size)
    file.vm.irqchip.require_pit().set2(state)
    return 0


def _reinject_control(file: VmFile, task: Task, arg: int) -> int:
    """KVM_REINJECT_CONTROL. EFAULT; ENXIO."""
    size = KVM_REINJECT_CONTROL_LAYOUT.size
    control = KVM_REINJECT_CONTROL_LAYOUT.unpack(task.copy_from_user(arg, size))
    file.vm.irqchip.require_pit().reinject = bool(control.pit_reinject)
    return 0


ROWS = (
    Row(
        KVM_CREATE_IRQCHIP,
        _create_irqchip,
        Argument.VALUE,
        errnos=(EEXIST, EINVAL, ENOMEM, ENOSPC),
    ),
    Row(KVM_GET_IRQCHIP, _get_irqchip, Argument.FIXED, errnos=(EFAULT, ENXIO, EINVAL)),
    Row(KVM_SET_IRQCHIP, _set_irqchip, Argument.FIXED, errnos=(EFAULT, ENXIO, EINVAL)),
    Row(KVM_IRQ_LINE, _irq_line, Argument.FIXED, errnos=(EFAULT, ENXIO)),
    Row(KVM_IRQ_LINE_STATUS, _irq_line_status, Argument.FIXED, errnos=(EFAULT, ENXIO)),
    Row(KVM_SET_GSI_ROUTING, _set_gsi_routing, Argument.FIXED, errnos=(EFAULT, EINVAL)),
    Row(KVM_SIGNAL_MSI, _signal_msi, Argument.FIXED, errnos=(EFAULT, EINVAL, EPERM)),
    Row(KVM_CREATE_PIT, _create_pit, Argument.VALUE, errnos=(EEXIST, ENOENT, ENOMEM)),
    Row(KVM_CREATE_PIT2, _create_pit2, Argument.FIXED, errnos=(EFAULT, EEXIST, ENOENT, ENOMEM)),
    Row(KVM_GET_PIT, _get_pit, Argument.FIXED, errnos=(EFAULT, ENXIO)),
    Row(KVM_SET_PIT, _set_pit, Argument.FIXED, errnos=(EFAULT, ENXIO)),
    Row(KVM_GET_PIT2, _get_pit2, Argument.FIXED, errnos=(ENXIO, EFAULT)),
    Row(KVM_SET_PIT2, _set_pit2, Argument.FIXED, errnos=(EFAULT, ENXIO)),
    Row(KVM_REINJECT_CONTROL, _reinject_control, Argument.FIXED, errnos=(EFAULT, ENXIO)),
)
