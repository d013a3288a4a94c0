# SPDX-License-Identifier: GPL-2.0-only
"""VFIO's way to let structures grow: argsz at the front, capabilities behind.

Rule of this file: no structure in particular. The caller says in `argsz` how much room it has. What
does not fit is not written; argsz then comes back with what would have been enough.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.uapi.vfio import VFIO_INFO_CAP_HEADER, vfio_info_cap_header

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.profiles.profile import Profile

_FIRST, _PADDED = 16, 24  # the size of the GET_INFO structures in the beginning, and from 6.6 on


def capability_chain(bodies: list[tuple[int, bytes]], base: int, *, align: int = 8) -> bytes:
    """VFIO's capability chain: (id, structure with a blank header) each, offsets from -`base`.

    Every structure begins on a multiple of `align` bytes: see `alignment`.
    """
    chain = bytearray()
    for index, (capability, body) in enumerate(bodies):
        padded = body + bytes(-len(body) % align)
        last = index == len(bodies) - 1
        following = 0 if last else base + len(chain) + len(padded)
        header = VFIO_INFO_CAP_HEADER.pack(vfio_info_cap_header(capability, 1, following))
        chain += header + padded[len(header) :]
    return bytes(chain)


def alignment(profile: Profile) -> int:
    """What capabilities are aligned to: 8 bytes since the GET_INFO structures were padded to it."""
    return 8 if profile.info_size == _PADDED else 1


def info_bytes(profile: Profile, argsz: int) -> int:
    """How many bytes of a GET_INFO structure are written to a caller with room for `argsz`.

    The first 16 always. What came later: all of it where there is room; from 6.6 on, as much of it
    as there is room for.
    """
    size = profile.info_size
    if size == _PADDED:
        return min(argsz, size)
    return size if argsz >= size else _FIRST


def read_argsz(task: Task, arg: int, least: int) -> int:
    """The argsz at `arg`, after the `least` bytes that must be there. EFAULT, EINVAL."""
    argsz = int.from_bytes(task.copy_from_user(arg, least)[:4], "little")
    if argsz < least:
        raise KernelError(EINVAL, f"argsz {argsz} is less than {least}")
    return argsz
