# SPDX-License-Identifier: GPL-2.0-only
"""What a call is called, for people.

Rule of this file: it is only asked when something is worth reporting.
"""

from __future__ import annotations

from kvm_vfio.kernel.file import File
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.trace.requests import find_request

_IOCTL = NR.get("ioctl")
_NAMES = {number: name for name, number in NR.items()}


Kind = tuple[int, type[File] | None, int]
"""A kind of call: number of the system call; for an ioctl the kind of file and the request."""


def call_name(nr: int, kind: type[File] | None, number: int) -> str:
    """The name of a call: for an ioctl that of the request `number` of a kind of file."""
    return find_request(kind, number).name if nr == _IOCTL else _NAMES.get(nr, f"call {nr}")
