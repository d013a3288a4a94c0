# SPDX-License-Identifier: GPL-2.0-only
"""What a script can ask of a vCPU and of its processor, by name.

Rule of this file: a state is the structure that a pair of requests reads and writes; which there
are, the model's own table says.
"""

from __future__ import annotations

from typing import NamedTuple

from kvm_vfio.kernel.x86.requests import STATES as PAIRS
from kvm_vfio.uapi import kvm_x86 as x86
from kvm_vfio.uapi.layout import Request

MOST_CPUID = 256  # entries


class State(NamedTuple):
    """The structure's size in bytes, and its requests."""

    size: int
    get: Request
    set: Request


STATES = {
    pair.layout.name.removeprefix("kvm_").removeprefix("vcpu_").removesuffix("_state"): State(
        pair.layout.size, pair.get_request, pair.set_request
    )
    for pair in PAIRS
}


class List(NamedTuple):
    """A list of /dev/kvm's: its request, bytes before the first element, bytes of each."""

    request: Request
    head: int
    element: int


LISTS = {
    "supported": List(x86.KVM_GET_SUPPORTED_CPUID, 8, 40),
    "emulated": List(x86.KVM_GET_EMULATED_CPUID, 8, 40),
    "hyperv": List(x86.KVM_GET_SUPPORTED_HV_CPUID, 8, 40),
    "msrs": List(x86.KVM_GET_MSR_INDEX_LIST, 4, 4),
    "features": List(x86.KVM_GET_MSR_FEATURE_INDEX_LIST, 4, 4),
}


def one_msr(index: int, data: int = 0) -> bytes:
    """A list of one register."""
    return x86.KVM_MSRS.pack_fields(1, 0) + x86.KVM_MSR_ENTRY.pack_fields(index, 0, data)


def patch(word: str) -> tuple[int, bytes]:
    """OFFSET:HEX as the offset and the bytes. ValueError."""
    offset, colon, data = word.partition(":")
    if not colon:
        raise ValueError(f"{word!r} is no OFFSET:HEX")
    return int(offset, 0), bytes.fromhex(data)
