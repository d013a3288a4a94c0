# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU as an object: its state, a structure at a time, and its memory.

Rule of this file: `get` and `set` take the structure's layout, since every state is a pair of
requests; what is no such pair has a method of its own. Errors are in the order Linux checks them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from kvm_vfio.client.handle import Handle
from kvm_vfio.syscalls import Buffer
from kvm_vfio.uapi import kvm_x86 as x86
from kvm_vfio.uapi.kvm_vm import KVM_GET_STATS_FD, KVM_GET_TSC_KHZ
from kvm_vfio.uapi.layout import Layout, Request

Fields = TypeVar("Fields", bound=tuple[Any, ...])

_MOST_CPUID = 256
_ENTRY = x86.KVM_CPUID_ENTRY2.size

REQUESTS: Mapping[str, tuple[Request, Request]] = {
    # by the structure's name: the request that reads it, and the one that writes it
    x86.KVM_REGS.name: (x86.KVM_GET_REGS, x86.KVM_SET_REGS),
    x86.KVM_SREGS.name: (x86.KVM_GET_SREGS, x86.KVM_SET_SREGS),
    x86.KVM_SREGS2.name: (x86.KVM_GET_SREGS2, x86.KVM_SET_SREGS2),
    x86.KVM_FPU.name: (x86.KVM_GET_FPU, x86.KVM_SET_FPU),
    x86.KVM_XSAVE.name: (x86.KVM_GET_XSAVE, x86.KVM_SET_XSAVE),
    x86.KVM_XCRS.name: (x86.KVM_GET_XCRS, x86.KVM_SET_XCRS),
    x86.KVM_DEBUGREGS.name: (x86.KVM_GET_DEBUGREGS, x86.KVM_SET_DEBUGREGS),
    x86.KVM_VCPU_EVENTS.name: (x86.KVM_GET_VCPU_EVENTS, x86.KVM_SET_VCPU_EVENTS),
    x86.KVM_MP_STATE.name: (x86.KVM_GET_MP_STATE, x86.KVM_SET_MP_STATE),
    x86.KVM_LAPIC_STATE.name: (x86.KVM_GET_LAPIC, x86.KVM_SET_LAPIC),
}


class Vcpu(Handle):
    """A vCPU, by its fd. Every request is EIO in a process with another memory than the VM's."""

    def get(self, layout: Layout[Fields]) -> Fields:
        """The state that has this structure, such as `KVM_REGS`. KeyError: it is no state.

        EINVAL: this vCPU has no such state (a local APIC that is not KVM's).
        """
        read, _ = REQUESTS[layout.name]
        return layout.unpack(self._pass(read, bytes(layout.size)))

    def set(self, layout: Layout[Fields], value: Fields) -> None:
        """Set it. EINVAL: the vCPU has no such state, or cannot have this value."""
        _, write = REQUESTS[layout.name]
        self._pass(write, layout.pack(value))

    def cpuid(self) -> list[x86.kvm_cpuid_entry2]:
        """KVM_GET_CPUID2: what was set, and what KVM has changed in it since.

        Before Linux 6.9 the count does not come back, and empty leaves follow.
        """
        empty = x86.KVM_CPUID2.pack_fields(_MOST_CPUID, 0) + bytes(_MOST_CPUID * _ENTRY)
        return unpack_cpuid(self._pass(x86.KVM_GET_CPUID2, empty))

    def set_cpuid(self, entries: Sequence[x86.kvm_cpuid_entry2]) -> None:
        """KVM_SET_CPUID2. E2BIG: more than 256 leaves; EINVAL: an address size that is none."""
        packed = b"".join(map(x86.KVM_CPUID_ENTRY2.pack, entries))
        head = x86.KVM_CPUID2.pack_fields(len(entries), 0)
        self._pass(x86.KVM_SET_CPUID2, head + packed)

    def msr(self, index: int) -> int:
        """KVM_GET_MSRS of one register. KeyError: this vCPU has none of this number."""
        done, data = self._msrs(x86.KVM_GET_MSRS, index, 0)
        if not done:
            raise KeyError(f"MSR {index:#x}")
        return data

    def set_msr(self, index: int, value: int) -> bool:
        """KVM_SET_MSRS of one register: whether it took the value."""
        return self._msrs(x86.KVM_SET_MSRS, index, value)[0]

    def _msrs(self, request: Request, index: int, value: int) -> tuple[bool, int]:
        head = x86.KVM_MSRS.pack_fields(1, 0)
        memory = self.syscalls.buffer(len(head) + x86.KVM_MSR_ENTRY.size)
        memory.write(head + x86.KVM_MSR_ENTRY.pack_fields(index, 0, value))
        done = self._ioctl(request, memory)
        return done == 1, x86.KVM_MSR_ENTRY.unpack(memory.read(offset=len(head))).data

    def interrupt(self, vector: int) -> None:
        """KVM_INTERRUPT. EINVAL: no vector; ENXIO: the PIC is KVM's; EEXIST: one waits already."""
        self._pass(x86.KVM_INTERRUPT, x86.KVM_INTERRUPT_LAYOUT.pack_fields(vector))

    def nmi(self) -> None:
        """KVM_NMI."""
        self._ioctl(x86.KVM_NMI)

    def tsc_khz(self) -> int:
        """KVM_GET_TSC_KHZ."""
        return self._ioctl(KVM_GET_TSC_KHZ)

    def stats_fd(self) -> int:
        """KVM_GET_STATS_FD: the fd of the statistics. EINVAL before Linux 5.14."""
        return self._ioctl(KVM_GET_STATS_FD)

    def map_run(self, size: int) -> Buffer:
        """mmap(2) of the memory shared with KVM, `Kvm.vcpu_mmap_size()` bytes; see `kvm_run`."""
        return self.syscalls.mmap(self.fileno(), size)

    def run(self) -> None:
        """KVM_RUN: why it came back is in the memory of `map_run`. EINTR.

        The model runs no guest code and fails the entry (KVM_EXIT_FAIL_ENTRY).
        """
        self._ioctl(x86.KVM_RUN)


def unpack_cpuid(data: bytes) -> list[x86.kvm_cpuid_entry2]:
    """The leaves of a struct kvm_cpuid2."""
    count = x86.KVM_CPUID2.unpack(data[: x86.KVM_CPUID2.size]).nent
    starts = range(x86.KVM_CPUID2.size, x86.KVM_CPUID2.size + count * _ENTRY, _ENTRY)
    return [x86.KVM_CPUID_ENTRY2.unpack(data[at : at + _ENTRY]) for at in starts]
