# SPDX-License-Identifier: GPL-2.0-only
"""/dev/kvm: what is asked of KVM before there is a VM (virt/kvm/kvm_main.c, kvm_dev_ioctl).

Rule of this file: an open /dev/kvm has no state, so closing it changes nothing.
"""

from __future__ import annotations

from errno import EFAULT, EINVAL, EMFILE, ENOMEM, ENXIO
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support, not_modelled
from kvm_vfio.kernel.kvm.vm import Vm, VmFile, check_extension
from kvm_vfio.uapi.kvm import (
    KVM_API_VERSION,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VM,
    KVM_DEVICE_ATTR,
    KVM_GET_API_VERSION,
    KVM_GET_DEVICE_ATTR,
    KVM_GET_VCPU_MMAP_SIZE,
    KVM_HAS_DEVICE_ATTR,
    kvm_device_attr,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.task import Task

_VALUE_SIZE = 8  # bytes of each attribute


class KvmSystemFile(File):
    """An open /dev/kvm."""

    __slots__ = ("kernel",)
    kind = "/dev/kvm"
    link = "/dev/kvm"
    ioctl_errnos = (EINVAL,)
    positional = True

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """EINVAL for what /dev/kvm does not know: kvm_arch_dev_ioctl's answer on x86."""
        handler = self.ioctls.handlers.get(request)
        if handler is None:
            raise KernelError(EINVAL, f"/dev/kvm has no ioctl {request:#010x}")
        return handler(self, task, arg)

    def lseek(self, offset: int) -> int:
        """lseek(2): any, and it stays at 0."""
        return 0

    def get_api_version(self, task: Task, arg: int) -> int:
        """KVM_GET_API_VERSION. EINVAL for an argument that is not 0."""
        if arg:
            raise KernelError(EINVAL, "the argument must be 0")
        return KVM_API_VERSION

    def create_vm(self, task: Task, arg: int) -> int:
        """KVM_CREATE_VM: `arg` is the machine type. Returns the VM's fd. ENOMEM, EINVAL."""
        return task.files.install(VmFile(Vm(self.kernel, task.mm, arg)))

    def check_extension(self, task: Task, arg: int) -> int:
        """KVM_CHECK_EXTENSION: the value of a capability, 0 for an unknown one."""
        return check_extension(self.kernel, arg)

    def get_device_attr(self, task: Task, arg: int) -> int:
        """KVM_GET_DEVICE_ATTR on the system. EINVAL, EFAULT, ENXIO: see `_attr`; EFAULT."""
        wanted = self._attr(task, arg)
        task.copy_from_user(wanted.addr, _VALUE_SIZE)
        raise NotModelled(f"attribute {wanted.group, wanted.attr} of /dev/kvm is the processor's")

    def has_device_attr(self, task: Task, arg: int) -> int:
        """KVM_HAS_DEVICE_ATTR on the system. EINVAL, EFAULT, ENXIO: see `_attr`."""
        self._attr(task, arg)
        return 0

    def _attr(self, task: Task, arg: int) -> kvm_device_attr:
        """The attribute meant, which is the system's own and not the KVM-VFIO device's.

        EINVAL where the system has no attributes, before memory is looked at; EFAULT; ENXIO.
        """
        known = self.kernel.profile.system_attributes
        if known is None:
            raise KernelError(EINVAL, "/dev/kvm has no attributes in this kernel")
        wanted = KVM_DEVICE_ATTR.unpack(task.copy_from_user(arg, KVM_DEVICE_ATTR.size))
        if (wanted.group, wanted.attr) not in known:
            raise KernelError(ENXIO, f"/dev/kvm has no attribute {wanted.group, wanted.attr}")
        return wanted

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(KVM_GET_API_VERSION, get_api_version, Argument.VALUE, errnos=(EINVAL,)),
        Row(
            KVM_CREATE_VM,
            create_vm,
            Argument.VALUE,
            Support.PARTIAL,
            "machine type 0",
            errnos=(ENOMEM, EINVAL, EMFILE),
        ),
        Row(
            KVM_CHECK_EXTENSION,
            check_extension,
            Argument.VALUE,
            Support.PARTIAL,
            "only the capabilities that the profile names",
        ),
        Row(
            KVM_GET_DEVICE_ATTR,
            get_device_attr,
            Argument.FIXED,
            Support.PARTIAL,
            "no value of an attribute",
            errnos=(EINVAL, EFAULT, ENXIO),
        ),
        Row(KVM_HAS_DEVICE_ATTR, has_device_attr, Argument.FIXED, errnos=(EINVAL, EFAULT, ENXIO)),
        not_modelled(KVM_GET_VCPU_MMAP_SIZE, Argument.VALUE, "there are no vCPU files"),
    )
