# SPDX-License-Identifier: GPL-2.0-only
"""What a call is called, for people.

Rule of this file: it is only asked when something is worth reporting.
"""

from __future__ import annotations

from kvm_vfio.kernel.file import File
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.uapi import kvm, vfio
from kvm_vfio.uapi.layout import Request

_IOCTL = NR.get("ioctl")
_NAMES = {number: name for name, number in NR.items()}
_KNOWN = {
    **kvm.SYSTEM_REQUESTS,
    **kvm.VM_REQUESTS,
    **vfio.GROUP_REQUESTS,
    **vfio.DEVICE_REQUESTS,
    **vfio.CONTAINER_REQUESTS,
}


Kind = tuple[int, type[File] | None, int]
"""A kind of call: number of the system call; for an ioctl the kind of file and the request."""


def call_name(nr: int, kind: type[File] | None, number: int) -> str:
    """The name of a call: for an ioctl that of the request `number` of a kind of file."""
    return find_request(kind, number).name if nr == _IOCTL else _NAMES.get(nr, f"call {nr}")


def find_request(kind: type[File] | None, number: int) -> Request:
    """The request `number`: VFIO gives a number out again for another kind of file."""
    row = kind.row(number) if kind is not None else None
    if row is not None:
        return row.request
    return _KNOWN.get(number) or Request(number, f"ioctl {number:#010x}")
