# SPDX-License-Identifier: GPL-2.0-only
"""What a call is called, for people.

Rule of this file: it is only asked when something is worth reporting.
"""

from __future__ import annotations

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfs import VFS_IOCTLS
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.uapi import kvm, vfio
from kvm_vfio.uapi.layout import Request

_NAMES = {number: name for name, number in NR.items()}
_KNOWN = {
    **kvm.SYSTEM_REQUESTS,
    **kvm.VM_REQUESTS,
    **vfio.GROUP_REQUESTS,
    **vfio.DEVICE_REQUESTS,
    **vfio.CONTAINER_REQUESTS,
}


def syscall_name(nr: int) -> str:
    """The name of a system call."""
    return _NAMES.get(nr, f"system call {nr}")


def find_request(file: File | None, number: int) -> Request:
    """The request that `number` is for `file`: the numbers of VFIO depend on the kind of file."""
    tables = [VFS_IOCTLS, file.ioctls] if file is not None else []
    if isinstance(file, ContainerFile):
        tables.append(file.iommu_ioctls)
    for table in tables:
        for row in table:
            if row.request == number:
                return row.request
    return _KNOWN.get(number) or Request(number, f"ioctl {number:#010x}")
