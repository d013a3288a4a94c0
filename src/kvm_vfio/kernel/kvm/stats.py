# SPDX-License-Identifier: GPL-2.0-only
"""Statistics, as a file that says what it has (virt/kvm/binary_stats.c).

Rule of this file: a header, an id, a descriptor for each counter, the counters. Where no guest runs
all of them stay 0, so the content is known when the file is opened.
"""

from __future__ import annotations

from errno import EBADF, ENOTTY
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.uapi.kvm_vm import KVM_STATS_DESC, KVM_STATS_HEADER

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.profiles.recording import Statistics

_VALUE = 8


def content(identity: str, has: Statistics) -> bytes:
    """What the file has from its beginning to its end."""
    count = len(has.descriptors)
    head = (0, has.name_size, count, has.id_offset, has.desc_offset, has.data_offset)
    data = bytearray(KVM_STATS_HEADER.pack_fields(*head))
    data += identity.encode().ljust(has.name_size, b"\0")
    for each in has.descriptors:
        data += KVM_STATS_DESC.pack_fields(*each[:5])
        data += each.name.encode().ljust(has.name_size, b"\0")
    return bytes(data) + bytes(_VALUE * sum(each.size for each in has.descriptors))


class StatsFile(File):
    """The file that KVM_GET_STATS_FD gives: `data` from its beginning, at the file's position."""

    __slots__ = ("_position", "data", "vm")
    kind = "a statistics file"
    link = "anon_inode:kvm-vm-stats"
    ioctl_errnos = (ENOTTY,)
    positional = True

    def __init__(self, vm: Vm, data: bytes) -> None:
        """It holds the VM."""
        super().__init__()
        self.vm = vm
        self.data = data
        self._position = 0
        vm.get()

    def release(self) -> None:
        """kvm_vm_stats_release."""
        self.vm.put()

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        """read(2) and pread(2); nothing at the end."""
        at = self._position if offset is None else offset
        data = self.data[at : at + size]
        if offset is None:
            self._position += len(data)
        return data

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        """EBADF: it is open for reading."""
        raise KernelError(EBADF, f"{self.kind} is open for reading only")
