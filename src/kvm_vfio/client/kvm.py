# SPDX-License-Identifier: GPL-2.0-only
"""KVM as objects: the system, a VM, and the VM's KVM-VFIO device; `vcpu` has its vCPUs.

Rule of this file: one method per ioctl. Its docstring says what must be so, and the errors in the
order Linux checks them; every one of them is an `OSError` with that errno.
"""

from __future__ import annotations

from errno import ENODEV, ENXIO

from kvm_vfio.client.handle import Fd, Handle, fd_of
from kvm_vfio.client.vcpu import Vcpu, unpack_cpuid
from kvm_vfio.syscalls import Buffer, Syscalls
from kvm_vfio.uapi.fcntl import O_CLOEXEC, O_RDWR
from kvm_vfio.uapi.kvm import (
    KVM_ASSIGN_PCI_DEVICE,
    KVM_ASSIGNED_PCI_DEV,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_LAYOUT,
    KVM_CREATE_DEVICE_TEST,
    KVM_CREATE_VCPU,
    KVM_CREATE_VM,
    KVM_DEASSIGN_PCI_DEVICE,
    KVM_DEV_ASSIGN_ENABLE_IOMMU,
    KVM_DEV_TYPE_VFIO,
    KVM_DEV_VFIO_GROUP,
    KVM_DEV_VFIO_GROUP_ADD,
    KVM_DEV_VFIO_GROUP_DEL,
    KVM_DEVICE_ATTR,
    KVM_GET_API_VERSION,
    KVM_GET_DEVICE_ATTR,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
    kvm_assigned_pci_dev,
    kvm_create_device,
)
from kvm_vfio.uapi.kvm_vm import (
    KVM_CREATE_IRQCHIP,
    KVM_DIRTY_LOG,
    KVM_GET_DIRTY_LOG,
    KVM_IOEVENTFD,
    KVM_IOEVENTFD_FLAG_DATAMATCH,
    KVM_IOEVENTFD_FLAG_DEASSIGN,
    KVM_IOEVENTFD_FLAG_PIO,
    KVM_IOEVENTFD_LAYOUT,
    KVM_IRQ_LEVEL,
    KVM_IRQ_LINE_STATUS,
    KVM_IRQFD,
    KVM_IRQFD_FLAG_DEASSIGN,
    KVM_IRQFD_FLAG_RESAMPLE,
    KVM_IRQFD_LAYOUT,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    KVM_SET_USER_MEMORY_REGION,
    KVM_USERSPACE_MEMORY_REGION,
    kvm_irq_level,
)
from kvm_vfio.uapi.kvm_x86 import (
    KVM_CPUID2,
    KVM_CPUID_ENTRY2,
    KVM_GET_EMULATED_CPUID,
    KVM_GET_MSR_FEATURE_INDEX_LIST,
    KVM_GET_MSR_INDEX_LIST,
    KVM_GET_SUPPORTED_CPUID,
    KVM_MSR_LIST,
    kvm_cpuid_entry2,
)
from kvm_vfio.uapi.layout import INT32, Request

_MOST_CPUID, _MOST_MSRS = 256, 1024  # more than any kernel has
_NO_FD = 0xFFFF_FFFF  # -1, where the kernel may put an fd


class Kvm(Handle):
    """/dev/kvm. `fd` is one that is open already, such as one received from another process."""

    def __init__(self, syscalls: Syscalls, *, fd: int | None = None) -> None:
        """ENOENT without KVM; EACCES without the right to use it."""
        if fd is None:
            fd = syscalls.open("/dev/kvm", O_RDWR | O_CLOEXEC)
        super().__init__(syscalls, fd)

    def api_version(self) -> int:
        """KVM_GET_API_VERSION: 12."""
        return self._ioctl(KVM_GET_API_VERSION)

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION: the value of a KVM_CAP_*, 0 for one this kernel does not have."""
        return self._ioctl(KVM_CHECK_EXTENSION, capability)

    def vcpu_mmap_size(self) -> int:
        """KVM_GET_VCPU_MMAP_SIZE: bytes of a vCPU's memory."""
        return self._ioctl(KVM_GET_VCPU_MMAP_SIZE)

    def supported_cpuid(self) -> list[kvm_cpuid_entry2]:
        """KVM_GET_SUPPORTED_CPUID: the processor that a guest can have."""
        return self._cpuid(KVM_GET_SUPPORTED_CPUID)

    def emulated_cpuid(self) -> list[kvm_cpuid_entry2]:
        """KVM_GET_EMULATED_CPUID: what KVM emulates, and the processor need not have."""
        return self._cpuid(KVM_GET_EMULATED_CPUID)

    def _cpuid(self, request: Request) -> list[kvm_cpuid_entry2]:
        size = KVM_CPUID2.size + _MOST_CPUID * KVM_CPUID_ENTRY2.size
        room = KVM_CPUID2.pack_fields(_MOST_CPUID, 0).ljust(size, b"\0")
        return unpack_cpuid(self._pass(request, room))

    def msr_indices(self) -> list[int]:
        """KVM_GET_MSR_INDEX_LIST: the registers that a VMM saves and restores."""
        return self._indices(KVM_GET_MSR_INDEX_LIST)

    def feature_msr_indices(self) -> list[int]:
        """KVM_GET_MSR_FEATURE_INDEX_LIST: those that say what KVM can do."""
        return self._indices(KVM_GET_MSR_FEATURE_INDEX_LIST)

    def _indices(self, request: Request) -> list[int]:
        room = KVM_MSR_LIST.pack_fields(_MOST_MSRS).ljust(4 + 4 * _MOST_MSRS, b"\0")
        data = self._pass(request, room)
        count = KVM_MSR_LIST.unpack(data[:4]).nmsrs
        return [int.from_bytes(data[at : at + 4], "little") for at in range(4, 4 + 4 * count, 4)]

    def create_vm(self, machine_type: int = 0) -> Vm:
        """KVM_CREATE_VM. EINVAL: no such type; ENOMEM."""
        return Vm(self.syscalls, self._ioctl(KVM_CREATE_VM, machine_type))


class Vm(Handle):
    """A VM, by its fd. Every request is EIO in a process with another memory than its creator's."""

    def check_extension(self, capability: int) -> int:
        """KVM_CHECK_EXTENSION for this VM, as on `Kvm`. Needs KVM_CAP_CHECK_EXTENSION_VM."""
        return self._ioctl(KVM_CHECK_EXTENSION, capability)

    def create_vcpu(self, number: int = 0) -> Vcpu:
        """KVM_CREATE_VCPU. EINVAL: no such number, or too many vCPUs; ENOMEM; EEXIST."""
        return Vcpu(self.syscalls, self._ioctl(KVM_CREATE_VCPU, number))

    def create_device(self, device_type: int, flags: int = 0) -> int:
        """KVM_CREATE_DEVICE: the fd of the new device; -1 with the TEST flag, which makes none.

        EFAULT; ENODEV: no such type here. Without TEST: ENOMEM, then what the type says.
        """
        create = kvm_create_device(device_type, _NO_FD, flags)
        fd = self._exchange(KVM_CREATE_DEVICE, KVM_CREATE_DEVICE_LAYOUT, create).fd
        return -1 if fd == _NO_FD else fd

    def create_kvm_vfio(self) -> KvmVfio:
        """KVM_CREATE_DEVICE of type VFIO. ENODEV: not built in; EBUSY: the VM has one."""
        return KvmVfio(self.syscalls, self.create_device(KVM_DEV_TYPE_VFIO))

    def has_kvm_vfio(self) -> bool:
        """KVM_CREATE_DEVICE with the TEST flag: whether this kernel has KVM-VFIO devices at all."""
        try:
            self.create_device(KVM_DEV_TYPE_VFIO, KVM_CREATE_DEVICE_TEST)
        except OSError as error:
            if error.errno != ENODEV:
                raise
            return False
        return True

    # -- memory ------------------------------------------------------------------------------------

    def set_memory_slot(
        self,
        slot: int,
        guest_address: int,
        memory: Buffer,
        *,
        log_dirty: bool = False,
        read_only: bool = False,
    ) -> None:
        """KVM_SET_USER_MEMORY_REGION: guest memory from `guest_address` is `memory`, in bytes.

        Again for a slot that is there: move it, or log or not. EINVAL: not whole pages, beyond what
        the processor has or KVM allows, or other memory for the slot; EEXIST: another slot is
        there; ENOMEM.
        """
        flags = log_dirty * KVM_MEM_LOG_DIRTY_PAGES | read_only * KVM_MEM_READONLY
        region = (slot, flags, guest_address, len(memory), memory.address)
        self._pass(KVM_SET_USER_MEMORY_REGION, KVM_USERSPACE_MEMORY_REGION.pack_fields(*region))

    def delete_memory_slot(self, slot: int) -> None:
        """KVM_SET_USER_MEMORY_REGION of no memory. EINVAL: there is no such slot."""
        region = KVM_USERSPACE_MEMORY_REGION.pack_fields(slot, 0, 0, 0, 0)
        self._pass(KVM_SET_USER_MEMORY_REGION, region)

    def dirty_log(self, slot: int, pages: int) -> bytes:
        """KVM_GET_DIRTY_LOG of a slot of so many pages: a bit for each, in whole u64.

        ENXIO: the VM has dirty rings; EINVAL: no such number; ENOENT: nothing is logged there.
        """
        bitmap = self.syscalls.buffer(-(-pages // 64) * 8)
        self._pass(KVM_GET_DIRTY_LOG, KVM_DIRTY_LOG.pack_fields(slot, 0, bitmap.address))
        return bitmap.read()

    # -- interrupts and events ---------------------------------------------------------------------

    def create_irqchip(self) -> None:
        """KVM_CREATE_IRQCHIP. EEXIST: there is one; EINVAL: there are vCPUs."""
        self._ioctl(KVM_CREATE_IRQCHIP)

    def set_irq_line(self, gsi: int, *, level: bool) -> int:
        """KVM_IRQ_LINE_STATUS: how many took it, 0 if it was up already, -1 if nobody did.

        ENXIO: the VM has no interrupt controller.
        """
        line = kvm_irq_level(gsi, int(level))
        status = self._exchange(KVM_IRQ_LINE_STATUS, KVM_IRQ_LEVEL, line).irq
        return status - (1 << 32) if status >> 31 else status

    def add_irqfd(self, event: Fd, gsi: int, *, resample: Fd | None = None) -> None:
        """KVM_IRQFD: signalling `event` raises `gsi`; with `resample`, until a guest has taken it.

        EINVAL: no interrupt controller that can, or no eventfd; EBADF; EBUSY: `event` is an irqfd
        of this VM, from Linux 6.17 on of any.
        """
        flags = 0 if resample is None else KVM_IRQFD_FLAG_RESAMPLE
        other = 0 if resample is None else fd_of(resample)
        self._irqfd(fd_of(event), gsi, flags, other)

    def remove_irqfd(self, event: Fd, gsi: int) -> None:
        """KVM_IRQFD, DEASSIGN: also of one that is not there. EBADF; EINVAL: no eventfd."""
        self._irqfd(fd_of(event), gsi, KVM_IRQFD_FLAG_DEASSIGN, 0)

    def _irqfd(self, event: int, gsi: int, flags: int, resample: int) -> None:
        fds = (event & _NO_FD, resample & _NO_FD)
        irqfd = KVM_IRQFD_LAYOUT.pack_fields(fds[0], gsi, flags, fds[1], b"")
        self._pass(KVM_IRQFD, irqfd)

    def add_ioeventfd(
        self, event: Fd, address: int, size: int, *, data: int | None = None, port: bool = False
    ) -> None:
        """KVM_IOEVENTFD: a guest's write of `size` bytes (0: any) at `address` signals `event`.

        `data`: only a write of that; `port`: of a port, not of memory. EINVAL: no such size, or no
        eventfd; EBADF; EEXIST: such a write has one; ENOSPC.
        """
        self._ioeventfd(0, fd_of(event), address, size, data, port=port)

    def remove_ioeventfd(
        self, event: Fd, address: int, size: int, *, data: int | None = None, port: bool = False
    ) -> None:
        """KVM_IOEVENTFD, DEASSIGN. EBADF; EINVAL: no eventfd; ENOENT: not just this one."""
        flag = KVM_IOEVENTFD_FLAG_DEASSIGN
        self._ioeventfd(flag, fd_of(event), address, size, data, port=port)

    def _ioeventfd(
        self, flags: int, event: int, address: int, size: int, data: int | None, *, port: bool
    ) -> None:
        flags |= port * KVM_IOEVENTFD_FLAG_PIO
        flags |= (data is not None) * KVM_IOEVENTFD_FLAG_DATAMATCH
        wanted = KVM_IOEVENTFD_LAYOUT.pack_fields(data or 0, address, size, event, flags, b"")
        self._pass(KVM_IOEVENTFD, wanted)

    # -- legacy device assignment ------------------------------------------------------------------

    def assign_pci_device(
        self, number: int, address: str, flags: int = KVM_DEV_ASSIGN_ENABLE_IOMMU
    ) -> None:
        """KVM_ASSIGN_PCI_DEVICE: legacy assignment of the device at "0000:00:10.0" as `number`.

        ENOTTY from Linux 4.12 on; EINVAL without ENABLE_IOMMU; EEXIST for a number in use; EINVAL:
        no such device.
        """
        segment, bus, slot_function = address.split(":")
        slot, function = slot_function.split(".")
        devfn = int(slot, 16) << 3 | int(function, 16)
        self._assigned(KVM_ASSIGN_PCI_DEVICE, number, int(segment, 16), int(bus, 16), devfn, flags)

    def deassign_pci_device(self, number: int) -> None:
        """KVM_DEASSIGN_PCI_DEVICE. ENOTTY from Linux 4.12 on; ENODEV: no such number."""
        self._assigned(KVM_DEASSIGN_PCI_DEVICE, number)

    def _assigned(
        self,
        request: Request,
        number: int,
        segment: int = 0,
        bus: int = 0,
        devfn: int = 0,
        flags: int = 0,
    ) -> None:
        device = kvm_assigned_pci_dev(number, bus, devfn, flags, segment, b"")
        self._pass(request, KVM_ASSIGNED_PCI_DEV.pack(device))


class KvmVfio(Handle):
    """A KVM-VFIO device, by its fd. EIO, as for `Vm`, from another process."""

    def __init__(self, syscalls: Syscalls, fd: int) -> None:
        super().__init__(syscalls, fd)
        self._attr = syscalls.buffer(KVM_DEVICE_ATTR.size)
        self._member = syscalls.buffer(INT32.size)
        self._member_address = self._member.address

    def add(self, group: Fd) -> None:
        """ADD a VFIO group, from Linux 6.6 on also a VFIO device, as a member.

        Until Linux 5.18 the group must have a container with an IOMMU set. EBADF; EINVAL: no VFIO
        file that this kernel takes, or not in that state; EEXIST: a member already; ENOMEM.
        """
        self._set_member(KVM_DEV_VFIO_GROUP_ADD, group)

    def delete(self, group: Fd) -> None:
        """DEL a member. EBADF; until Linux 4.12 EINVAL as for `add`; ENOENT: no member."""
        self._set_member(KVM_DEV_VFIO_GROUP_DEL, group)

    def _set_member(self, attr: int, group: Fd) -> None:
        self._member.write(INT32.pack_fields(fd_of(group)))
        self.set_attr(KVM_DEV_VFIO_GROUP, attr, self._member_address)

    def has_attr(self, attr_group: int, attr: int) -> bool:
        """KVM_HAS_DEVICE_ATTR, whose ENXIO is False here."""
        self._attr.write(KVM_DEVICE_ATTR.pack_fields(0, attr_group, attr, 0))
        try:
            self.syscalls.ioctl(self._fd, KVM_HAS_DEVICE_ATTR, self._attr)
        except OSError as error:
            if error.errno != ENXIO:
                raise
            return False
        return True

    def set_attr(self, attr_group: int, attr: int, address: int | Buffer) -> None:
        """KVM_SET_DEVICE_ATTR; `address` is where the attribute's value is.

        ENXIO: no such attribute; EFAULT: nothing to read there; then as `add` and `delete`.
        """
        at = address if isinstance(address, int) else address.address
        self._attr.write(KVM_DEVICE_ATTR.pack_fields(0, attr_group, attr, at))
        self.syscalls.ioctl(self._fd, KVM_SET_DEVICE_ATTR, self._attr)

    def get_attr(self, attr_group: int, attr: int, address: int | Buffer) -> None:
        """KVM_GET_DEVICE_ATTR. EPERM, always: no attribute of this device can be read."""
        at = address if isinstance(address, int) else address.address
        self._attr.write(KVM_DEVICE_ATTR.pack_fields(0, attr_group, attr, at))
        self.syscalls.ioctl(self._fd, KVM_GET_DEVICE_ATTR, self._attr)
