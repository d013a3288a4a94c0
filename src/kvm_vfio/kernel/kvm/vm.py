# SPDX-License-Identifier: GPL-2.0-only
"""A VM and how long it lives (virt/kvm/kvm_main.c).

Rule of this file: a VM lives as long as somebody holds a reference: its own file, the files of its
devices, from 6.2 on an open VFIO device whose group it was told. Closing the VM's fd is none of
their business.

`noncoherent_dma_count` is the one number all of this is about. Whoever lets devices bypass the CPU
caches registers once and unregisters once; while anybody is registered, the guest's WBINVD must
really run (`kvm_vfio.kernel.x86.wbinvd`).
"""

from __future__ import annotations

from errno import EBUSY, EEXIST, EFAULT, EINVAL, EIO, EMFILE, ENODEV, ENOMEM, ENOTTY
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support
from kvm_vfio.kernel.kvm import eventfd, irqchip, memslots, stats
from kvm_vfio.kernel.kvm.assigned import AssignedDevice, assign_pci_device, deassign_pci_device
from kvm_vfio.kernel.kvm.device import KvmDevice, KvmDeviceFile
from kvm_vfio.kernel.kvm.eventfd import VmEvents
from kvm_vfio.kernel.kvm.io_bus import IoBuses
from kvm_vfio.kernel.kvm.irqchip import Irqchip, Mode
from kvm_vfio.kernel.kvm.memslots import MemSlots
from kvm_vfio.kernel.kvm.recorded import LARGEST_CAPABILITY, recorded
from kvm_vfio.kernel.kvm.vcpu import Vcpu, create_vcpu
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.x86 import enable_cap
from kvm_vfio.kernel.x86 import vm as x86_vm
from kvm_vfio.kernel.x86.interrupt import Interrupt
from kvm_vfio.profiles.vm import VmBehaviour
from kvm_vfio.uapi.kvm import (
    KVM_ASSIGN_PCI_DEVICE,
    KVM_CAP_DEVICE_CTRL,
    KVM_CAP_DISABLE_QUIRKS,
    KVM_CAP_DISABLE_QUIRKS2,
    KVM_CAP_MAX_VCPUS,
    KVM_CAP_NR_VCPUS,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_LAYOUT,
    KVM_CREATE_DEVICE_TEST,
    KVM_CREATE_VCPU,
    KVM_DEASSIGN_PCI_DEVICE,
    KVM_DEV_TYPE_VFIO,
)
from kvm_vfio.uapi.kvm_vm import (
    KVM_CAP_EXCEPTION_PAYLOAD,
    KVM_CAP_X86_TRIPLE_FAULT_EVENT,
    KVM_GET_STATS_FD,
)
from kvm_vfio.uapi.kvm_vm import VM_REQUESTS as MEASURED

if TYPE_CHECKING:
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.task import Mm, Task

PAGE_SHIFT = 12

# KVM_CAP_NR_VCPUS of the recorded machine, where it counts CPUs (in 5.10 it is KVM's own number).
_RECORDED_CPUS = 1


class Vm:
    """struct kvm. Born with one reference, which is its file's; `mm` is its creator's memory."""

    __slots__ = (
        "assigned",
        "assigned_noncoherent",
        "boot_cpu_id",
        "buses",
        "clock_offset",
        "device_count",
        "devices",
        "enabled",
        "events",
        "irqchip",
        "kernel",
        "lock",
        "max_vcpu_ids",
        "memslots",
        "mm",
        "msr_filter",
        "msrs",
        "noncoherent_dma_count",
        "number",
        "references",
        "tsc_khz",
        "use_master_clock",
        "vcpus",
    )

    def __init__(self, kernel: Kernel, mm: Mm, machine_type: int = 0) -> None:
        """kvm_create_vm. ENOMEM; EINVAL for a machine type this KVM does not have."""
        kernel.allocate("kvm")
        kernel.vms_created += 1
        self.kernel = kernel
        self.mm = mm
        self.number = kernel.vms_created
        self.references = 1
        self.lock = kernel.lock("kvm->lock")
        self.devices: list[KvmDevice] = []
        self.assigned: dict[int, AssignedDevice] = {}
        self.assigned_noncoherent = False
        self.device_count = 0  # assigned devices, as kvm_arch_start_assignment counts them
        self.noncoherent_dma_count = 0
        self.vcpus: dict[int, Vcpu] = {}  # by vcpu_id, in the order of their creation
        self.memslots = MemSlots(self)
        self.buses = IoBuses()
        self.irqchip = Irqchip(self)
        self.events = VmEvents(self)
        self.enabled: dict[int, int] = {}  # KVM_ENABLE_CAP: capability -> its first argument
        self.max_vcpu_ids = 0  # KVM_CAP_MAX_VCPU_ID; 0: not settled
        self.boot_cpu_id = 0
        self.clock_offset = -kernel.now()  # what kvmclock has more than the host's clock
        self.use_master_clock = False  # of the clock: it follows the host's TSC
        self.tsc_khz = 0  # of vCPUs to come; 0: the host's
        self.msrs: dict[int, int] = {}  # those that the vCPUs share
        self.msr_filter: x86_vm.MsrFilter | None = None
        kernel.observer.vm_created(self)
        if machine_type:
            raise KernelError(EINVAL, f"there is no VM type {machine_type}")
        kernel.vms[self.number] = self

    def get(self) -> None:
        """kvm_get_kvm."""
        self.references += 1

    def put(self) -> None:
        """kvm_put_kvm; the last one destroys the VM with the devices it still has."""
        self.references -= 1
        if self.references:
            return
        self.kernel.observer.vm_destroyed(self)
        self.events.release()
        for device in self.devices:
            device.destroy()
        self.devices.clear()
        for assigned in list(self.assigned.values()):
            assigned.release()
        del self.kernel.vms[self.number]

    @property
    def behaviour(self) -> VmBehaviour:
        """How this kernel's VMs behave. NotModelled: nobody has measured it."""
        behaviour = self.kernel.profile.vm
        if behaviour is None:
            raise NotModelled(f"nobody has measured the VMs of Linux {self.kernel.profile.name}")
        return behaviour

    def deliver(self, interrupt: Interrupt) -> int:
        """kvm_irq_delivery_to_apic: how many local APICs took it; -1: there is none."""
        apics = [vcpu.apic for vcpu in self.vcpus.values() if vcpu.apic is not None]
        if not apics:
            return -1
        return sum(apic.accept(interrupt) for apic in apics if apic.is_meant(interrupt))

    @property
    def created_vcpus(self) -> int:
        """How many vCPUs there are."""
        return len(self.vcpus)

    @property
    def irqchip_in_kernel(self) -> bool:
        """irqchip_in_kernel: whether the local APICs are KVM's."""
        return self.irqchip.mode is not Mode.NONE

    @property
    def pic_in_kernel(self) -> bool:
        """pic_in_kernel, ioapic_in_kernel: whether PIC and I/O APIC are KVM's too."""
        return self.irqchip.mode is Mode.KERNEL

    @property
    def disabled_quirks(self) -> int:
        """KVM_X86_QUIRK_* that the VMM has disabled."""
        enabled = self.enabled
        return enabled.get(KVM_CAP_DISABLE_QUIRKS, 0) | enabled.get(KVM_CAP_DISABLE_QUIRKS2, 0)

    @property
    def exception_payload(self) -> bool:
        """Whether KVM_CAP_EXCEPTION_PAYLOAD is enabled."""
        return bool(self.enabled.get(KVM_CAP_EXCEPTION_PAYLOAD))

    @property
    def triple_fault_event(self) -> bool:
        """Whether KVM_CAP_X86_TRIPLE_FAULT_EVENT is enabled."""
        return bool(self.enabled.get(KVM_CAP_X86_TRIPLE_FAULT_EVENT))

    def has_guest_memory(self, gpa: int, size: int) -> bool:
        """Whether the guest has memory at a physical address."""
        first, last = gpa >> PAGE_SHIFT, gpa + size - 1 >> PAGE_SHIFT
        return any(
            slot.start <= first and last < slot.start + slot.size for slot in self.memslots.slots()
        )

    def register_noncoherent_dma(self) -> None:
        """kvm_arch_register_noncoherent_dma."""
        self.noncoherent_dma_count += 1
        self.kernel.observer.noncoherent_dma_registered(self)

    def unregister_noncoherent_dma(self) -> None:
        """kvm_arch_unregister_noncoherent_dma."""
        self.noncoherent_dma_count -= 1
        self.kernel.observer.noncoherent_dma_unregistered(self)

    def has_noncoherent_dma(self) -> bool:
        """kvm_arch_has_noncoherent_dma."""
        return self.noncoherent_dma_count > 0

    def start_assignment(self) -> None:
        """kvm_arch_start_assignment, in kernels that have it."""
        if self.kernel.profile.reports_assignment:
            self.device_count += 1
            self.kernel.observer.assignment_started(self)

    def end_assignment(self) -> None:
        """kvm_arch_end_assignment, in kernels that have it."""
        if self.kernel.profile.reports_assignment:
            self.device_count -= 1
            self.kernel.observer.assignment_ended(self)


def check_extension(kernel: Kernel, vm: Vm | None, capability: int) -> int:
    """KVM_CHECK_EXTENSION, on /dev/kvm (no `vm`) and on a VM."""
    if capability == KVM_CAP_DEVICE_CTRL:  # known of every kernel, recorded or not
        return int(capability in kernel.profile.capabilities)
    if capability > LARGEST_CAPABILITY:
        return 0
    of_kernel = recorded(kernel)
    extensions = of_kernel.extensions if vm is None else of_kernel.vm_extensions
    value = extensions.get(capability, 0)
    if capability == KVM_CAP_NR_VCPUS and value == _RECORDED_CPUS:
        return min(kernel.online_cpus, extensions[KVM_CAP_MAX_VCPUS])
    return value


class VmFile(File):
    """The file of a VM."""

    __slots__ = ("vm",)
    kind = "a VM"
    link = "anon_inode:kvm-vm"
    ioctl_errnos = (EIO, ENOTTY)

    def __init__(self, vm: Vm) -> None:
        super().__init__()
        self.vm = vm

    def release(self) -> None:
        """kvm_vm_release: irqfds end with the VM's fd, whoever else holds the VM."""
        self.vm.events.release_irqfds()
        self.vm.put()

    def lseek(self, offset: int) -> int:
        """lseek(2): any, and it stays at 0."""
        return 0

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """EIO from another mm than the creator's, before anything else; ENOTTY."""
        if task.mm is not self.vm.mm:
            raise KernelError(EIO, "the VM belongs to the process that made it")
        handler = self.ioctls.handlers.get(request)
        lacking = request in MEASURED and request in self.vm.behaviour.requests_lacking
        if handler is None or lacking:
            raise KernelError(ENOTTY, f"a VM has no ioctl {request:#010x}")
        return handler(self, task, arg)

    def check_extension(self, task: Task, arg: int) -> int:
        """KVM_CHECK_EXTENSION on a VM."""
        return check_extension(self.vm.kernel, self.vm, arg)

    def create_device(self, task: Task, arg: int) -> int:
        """KVM_CREATE_DEVICE. The fd comes back in the structure.

        EFAULT; ENODEV for a type this architecture does not have; then, unless only tested: ENOMEM,
        and what the device's own create says. A structure that cannot be written is EFAULT at last,
        also when only tested; a fd that was made stays open.
        """
        asked = task.copy_from_user(arg, KVM_CREATE_DEVICE_LAYOUT.size)
        create = KVM_CREATE_DEVICE_LAYOUT.unpack(asked)
        kernel, vm = self.vm.kernel, self.vm
        if create.type != KVM_DEV_TYPE_VFIO or not kernel.selects_kvm_vfio:
            raise KernelError(ENODEV, f"this kernel has no device of type {create.type}")
        if create.flags & KVM_CREATE_DEVICE_TEST:
            task.copy_to_user(arg, asked)
            return 0
        kernel.allocate("kvm_device")
        with vm.lock:
            device = KvmVfio(vm)
            vm.devices.append(device)
        vm.get()
        try:
            fd = task.files.install(KvmDeviceFile(device))
        except KernelError:
            if device in vm.devices:  # its file has gone, and did not take it along
                vm.devices.remove(device)
            raise
        answer = KVM_CREATE_DEVICE_LAYOUT.pack(create._replace(fd=fd))
        task.copy_to_user(arg, answer)
        return 0

    def get_stats_fd(self, task: Task, arg: int) -> int:
        """KVM_GET_STATS_FD. The fd of the VM's statistics. EMFILE."""
        statistics = recorded(self.vm.kernel).vm_statistics
        if statistics is None:
            raise NotModelled("nobody has recorded this kernel's statistics")
        data = stats.content(f"kvm-{self.vm.number}", statistics)
        return task.files.install(stats.StatsFile(self.vm, data))

    def create_vcpu(self, task: Task, arg: int) -> int:
        """KVM_CREATE_VCPU."""
        return create_vcpu(self.vm, task, arg)

    def assign_pci_device(self, task: Task, arg: int) -> int:
        """KVM_ASSIGN_PCI_DEVICE, in kernels that have it; ENOTTY in the others."""
        self._require_legacy_assignment()
        return assign_pci_device(self.vm, task, arg)

    def deassign_pci_device(self, task: Task, arg: int) -> int:
        """KVM_DEASSIGN_PCI_DEVICE, in kernels that have it; ENOTTY in the others."""
        self._require_legacy_assignment()
        return deassign_pci_device(self.vm, task, arg)

    def _require_legacy_assignment(self) -> None:
        if not self.vm.kernel.profile.legacy_assignment:
            raise KernelError(ENOTTY, "legacy device assignment is gone from this kernel")

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(
            KVM_CREATE_DEVICE,
            create_device,
            Argument.FIXED,
            Support.FULL,
            errnos=(EFAULT, ENODEV, ENOMEM, EBUSY, EMFILE),
        ),
        Row(KVM_CHECK_EXTENSION, check_extension, Argument.VALUE),
        Row(
            KVM_ASSIGN_PCI_DEVICE,
            assign_pci_device,
            Argument.FIXED,
            Support.PARTIAL,
            "what it means for noncoherent DMA; no interrupts",
            errnos=(ENOTTY, EFAULT, EINVAL, EEXIST, ENOMEM),
        ),
        Row(
            KVM_DEASSIGN_PCI_DEVICE,
            deassign_pci_device,
            Argument.FIXED,
            Support.PARTIAL,
            "as KVM_ASSIGN_PCI_DEVICE",
            errnos=(ENOTTY, EFAULT, ENODEV),
        ),
        Row(
            KVM_CREATE_VCPU,
            create_vcpu,
            Argument.VALUE,
            errnos=(EINVAL, ENOMEM, EEXIST, EMFILE),
        ),
        Row(KVM_GET_STATS_FD, get_stats_fd, Argument.VALUE, errnos=(EMFILE,)),
        *memslots.ROWS,
        *irqchip.ROWS,
        *eventfd.ROWS,
        *enable_cap.ROWS,
        *x86_vm.ROWS,
    )
