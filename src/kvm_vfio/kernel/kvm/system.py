# SPDX-License-Identifier: GPL-2.0-only
"""/dev/kvm: what is asked of KVM before there is a VM (virt/kvm/kvm_main.c, kvm_dev_ioctl).

Rule of this file: an open /dev/kvm has no state, so closing it changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from errno import E2BIG, EFAULT, EINVAL, EMFILE, ENOMEM, ENXIO
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support
from kvm_vfio.kernel.kvm.recorded import recorded
from kvm_vfio.kernel.kvm.vm import Vm, VmFile, check_extension
from kvm_vfio.kernel.vfs import DEV
from kvm_vfio.kernel.x86.msr import msr_io
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
from kvm_vfio.uapi.kvm_x86 import (
    KVM_CPUID2,
    KVM_CPUID_ENTRY2,
    KVM_GET_EMULATED_CPUID,
    KVM_GET_MSR_FEATURE_INDEX_LIST,
    KVM_GET_MSR_INDEX_LIST,
    KVM_GET_MSRS,
    KVM_GET_SUPPORTED_CPUID,
    KVM_GET_SUPPORTED_HV_CPUID,
    KVM_MSR_LIST,
    KVM_X86_GET_MCE_CAP_SUPPORTED,
    kvm_cpuid_entry2,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.task import Task

_MAX_CPUID_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES
_PADDING_AT = KVM_CPUID_ENTRY2.offsets["padding"]


class KvmSystemFile(File):
    """An open /dev/kvm."""

    __slots__ = ("kernel",)
    kind = "/dev/kvm"
    link = "/dev/kvm"
    mount = DEV
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
        return check_extension(self.kernel, None, arg)

    def get_vcpu_mmap_size(self, task: Task, arg: int) -> int:
        """KVM_GET_VCPU_MMAP_SIZE: bytes. EINVAL for an argument that is not 0."""
        if arg:
            raise KernelError(EINVAL, "the argument must be 0")
        return recorded(self.kernel).vcpu_mmap_size

    # -- processors --------------------------------------------------------------------------------

    def get_supported_cpuid(self, task: Task, arg: int) -> int:
        """KVM_GET_SUPPORTED_CPUID (kvm_dev_ioctl_get_cpuid). EFAULT; E2BIG; EFAULT."""
        nent = _nent(task, arg)
        return _put_cpuid(task, arg, nent, recorded(self.kernel).supported_cpuid)

    def get_emulated_cpuid(self, task: Task, arg: int) -> int:
        """KVM_GET_EMULATED_CPUID. EFAULT; E2BIG; EINVAL: padding is set or unreadable; EFAULT.

        There must be room for one entry more than there are: KVM looks before it knows that there
        is no extended leaf.
        """
        nent = _nent(task, arg)
        if nent:
            _require_no_padding(task, arg, min(nent, _MAX_CPUID_ENTRIES))
        return _put_cpuid(task, arg, nent, recorded(self.kernel).emulated_cpuid, spare=1)

    def get_supported_hv_cpuid(self, task: Task, arg: int) -> int:
        """KVM_GET_SUPPORTED_HV_CPUID. EINVAL before 5.11; EFAULT; E2BIG; EFAULT."""
        entries = recorded(self.kernel).supported_hv_cpuid
        if not entries:
            raise KernelError(EINVAL, "/dev/kvm says nothing of Hyper-V in this kernel")
        return _put_cpuid(task, arg, _nent(task, arg), entries)

    def get_msr_index_list(self, task: Task, arg: int) -> int:
        """KVM_GET_MSR_INDEX_LIST. EFAULT; the count is written, EFAULT; E2BIG; EFAULT."""
        return _put_indices(task, arg, recorded(self.kernel).msr_indices)

    def get_msr_feature_index_list(self, task: Task, arg: int) -> int:
        """KVM_GET_MSR_FEATURE_INDEX_LIST, as KVM_GET_MSR_INDEX_LIST."""
        return _put_indices(task, arg, tuple(recorded(self.kernel).feature_msrs))

    def get_msrs(self, task: Task, arg: int) -> int:
        """KVM_GET_MSRS on the system: feature MSRs. How many were read, up to the first unknown."""
        return msr_io(task, arg, self._feature_msr, writeback=True)

    def _feature_msr(self, index: int, _: int) -> tuple[bool, int]:
        known = recorded(self.kernel)
        if index in known.feature_msrs:
            return True, known.feature_msrs[index]
        return self.kernel.profile.listed_msrs_read_zero and index in known.msr_indices, 0

    def get_mce_cap_supported(self, task: Task, arg: int) -> int:
        """KVM_X86_GET_MCE_CAP_SUPPORTED. EFAULT."""
        task.copy_to_user(arg, recorded(self.kernel).mce_cap.to_bytes(8, "little"))
        return 0

    # -- attributes --------------------------------------------------------------------------------

    def get_device_attr(self, task: Task, arg: int) -> int:
        """KVM_GET_DEVICE_ATTR on the system. EINVAL, EFAULT, ENXIO: see `_attr`; EFAULT."""
        wanted = self._attr(task, arg)
        value = recorded(self.kernel).attributes[wanted.group, wanted.attr]
        task.copy_to_user(wanted.addr, value.to_bytes(8, "little"))
        return 0

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
        Row(KVM_CHECK_EXTENSION, check_extension, Argument.VALUE),
        Row(KVM_GET_VCPU_MMAP_SIZE, get_vcpu_mmap_size, Argument.VALUE, errnos=(EINVAL,)),
        Row(KVM_GET_SUPPORTED_CPUID, get_supported_cpuid, Argument.COUNTED, errnos=(EFAULT, E2BIG)),
        Row(
            KVM_GET_EMULATED_CPUID,
            get_emulated_cpuid,
            Argument.COUNTED,
            errnos=(EFAULT, E2BIG, EINVAL),
        ),
        Row(
            KVM_GET_SUPPORTED_HV_CPUID,
            get_supported_hv_cpuid,
            Argument.COUNTED,
            errnos=(EINVAL, EFAULT, E2BIG),
        ),
        Row(KVM_GET_MSR_INDEX_LIST, get_msr_index_list, Argument.COUNTED, errnos=(EFAULT, E2BIG)),
        Row(
            KVM_GET_MSR_FEATURE_INDEX_LIST,
            get_msr_feature_index_list,
            Argument.COUNTED,
            errnos=(EFAULT, E2BIG),
        ),
        Row(KVM_GET_MSRS, get_msrs, Argument.COUNTED, errnos=(EFAULT, E2BIG)),
        Row(
            KVM_X86_GET_MCE_CAP_SUPPORTED,
            get_mce_cap_supported,
            Argument.FIXED,
            errnos=(EFAULT,),
        ),
        Row(KVM_GET_DEVICE_ATTR, get_device_attr, Argument.FIXED, errnos=(EINVAL, EFAULT, ENXIO)),
        Row(KVM_HAS_DEVICE_ATTR, has_device_attr, Argument.FIXED, errnos=(EINVAL, EFAULT, ENXIO)),
    )


# -- lists that the caller says the room of --------------------------------------------------------


def _nent(task: Task, arg: int) -> int:
    return KVM_CPUID2.unpack(task.copy_from_user(arg, KVM_CPUID2.size)).nent


def _require_no_padding(task: Task, arg: int, count: int) -> None:
    """sanity_check_entries."""
    for number in range(count):
        at = arg + KVM_CPUID2.size + number * KVM_CPUID_ENTRY2.size + _PADDING_AT
        try:
            padding = task.copy_from_user(at, KVM_CPUID_ENTRY2.size - _PADDING_AT)
        except KernelError as error:
            raise KernelError(EINVAL, f"entry {number} cannot be read") from error
        if any(padding):
            raise KernelError(EINVAL, f"the padding of entry {number} is set")


def _put_cpuid(
    task: Task, arg: int, nent: int, entries: Sequence[kvm_cpuid_entry2], *, spare: int = 0
) -> int:
    """The entries, then their count. E2BIG: there is less room, and nothing is written."""
    if nent < len(entries) + spare:
        raise KernelError(E2BIG, f"there are {len(entries)} entries, and room for {nent}")
    task.copy_to_user(arg + KVM_CPUID2.size, b"".join(map(KVM_CPUID_ENTRY2.pack, entries)))
    task.copy_to_user(arg, KVM_CPUID2.pack(KVM_CPUID2.type(len(entries), 0)))
    return 0


def _put_indices(task: Task, arg: int, indices: Sequence[int]) -> int:
    """The count, then the indices where there is room."""
    room = KVM_MSR_LIST.unpack(task.copy_from_user(arg, KVM_MSR_LIST.size)).nmsrs
    task.copy_to_user(arg, KVM_MSR_LIST.pack(KVM_MSR_LIST.type(len(indices))))
    if room < len(indices):
        raise KernelError(E2BIG, f"there are {len(indices)} MSRs, and room for {room}")
    listed = b"".join(index.to_bytes(4, "little") for index in indices)
    task.copy_to_user(arg + KVM_MSR_LIST.size, listed)
    return 0
