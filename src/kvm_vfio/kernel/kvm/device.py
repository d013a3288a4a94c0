# SPDX-License-Identifier: GPL-2.0-only
"""A device of a VM, whichever it is: its file, its attributes, its end (virt/kvm/kvm_main.c).

Rule of this file: it finds the device's own operation and calls it. That an operation is absent is
an answer too: a device without get_attr says EPERM, before it looks at anything.
"""

from __future__ import annotations

from errno import EBADF, EEXIST, EFAULT, EINVAL, EIO, ENOENT, ENOMEM, ENOTTY, ENXIO, EPERM
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row
from kvm_vfio.profiles.profile import DeviceEnd
from kvm_vfio.uapi.kvm import (
    KVM_DEVICE_ATTR,
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Task

_fields, _ATTR_SIZE = KVM_DEVICE_ATTR.unpack_fields, KVM_DEVICE_ATTR.size


class KvmDevice:
    """struct kvm_device with its operations. What a device does not define, it does not have."""

    __slots__ = ("vm",)
    name: ClassVar[str]  # what its file is called

    def __init__(self, vm: Vm) -> None:
        self.vm = vm

    def set_attr(self, task: Task, attr_group: int, attr: int, address: int) -> int:
        """The device's .set_attr. EPERM: it has none."""
        raise KernelError(EPERM, f"{self.name} has no attribute that can be set")

    def has_attr(self, attr_group: int, attr: int) -> int:
        """The device's .has_attr. EPERM: it has none."""
        raise KernelError(EPERM, f"{self.name} has no attributes")

    def noncoherent_because(self) -> list[str]:
        """Why the device has noncoherent DMA registered, one reason a line."""
        return []

    def release(self) -> None:
        """The device's .release: the last close of its fd."""

    def destroy(self) -> None:
        """The device's .destroy: its VM takes it down."""


class KvmDeviceFile(File):
    """The file of a device. It holds the VM."""

    __slots__ = ("device",)
    kind = "a KVM device"
    link = "anon_inode:kvm-vfio"
    ioctl_errnos = (EIO, ENOTTY)

    def __init__(self, device: KvmDevice) -> None:
        super().__init__()
        self.device = device

    def release(self) -> None:
        """kvm_device_release: the device ends here, or stays until its VM dies; see the profile."""
        device, vm = self.device, self.device.vm
        end = vm.kernel.profile.device_end
        if end is not DeviceEnd.DESTROYED_WITH_VM:
            with vm.lock:
                vm.devices.remove(device)
                if end is DeviceEnd.RELEASED_ON_CLOSE:
                    device.release()
                else:
                    device.destroy()
        vm.put()

    def ioctl(self, task: Task, request: int, arg: int) -> int:
        """A device's own request from its own process needs no more questions; see `File.ioctl`."""
        handler = self.ioctls.handlers.get(request)
        if handler is None or task.mm is not self.device.vm.mm:
            return super().ioctl(task, request, arg)
        return handler(self, task, arg)

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """EIO from another mm than the VM creator's; ENOTTY."""
        vm = self.device.vm
        if task.mm is not vm.mm and vm.kernel.profile.device_checks_mm:
            raise KernelError(EIO, "the VM belongs to the process that made it")
        handler = self.ioctls.handlers.get(request)
        if handler is None:
            raise KernelError(ENOTTY, f"{self.device.name} has no ioctl {request:#010x}")
        return handler(self, task, arg)

    def set_attr(self, task: Task, arg: int) -> int:
        """KVM_SET_DEVICE_ATTR. EFAULT for the structure; then what the device says."""
        _, attr_group, attr, address = _fields(task.copy_from_user(arg, _ATTR_SIZE))
        return self.device.set_attr(task, attr_group, attr, address)

    def has_attr(self, task: Task, arg: int) -> int:
        """KVM_HAS_DEVICE_ATTR. EFAULT for the structure; then what the device says."""
        _, attr_group, attr, _ = _fields(task.copy_from_user(arg, _ATTR_SIZE))
        return self.device.has_attr(attr_group, attr)

    def get_attr(self, task: Task, arg: int) -> int:
        """KVM_GET_DEVICE_ATTR. EPERM: no device here has one, whatever the argument."""
        raise KernelError(EPERM, f"{self.device.name} has no attribute that can be read")

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(
            KVM_SET_DEVICE_ATTR,
            set_attr,
            Argument.FIXED,
            errnos=(EPERM, EFAULT, ENXIO, EBADF, EINVAL, EEXIST, ENOMEM, ENOENT),
        ),
        Row(KVM_GET_DEVICE_ATTR, get_attr, Argument.VALUE, errnos=(EPERM,)),
        Row(KVM_HAS_DEVICE_ATTR, has_attr, Argument.FIXED, errnos=(EPERM, EFAULT, ENXIO)),
    )
