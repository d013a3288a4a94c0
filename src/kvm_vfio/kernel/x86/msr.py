# SPDX-License-Identifier: GPL-2.0-only
"""Model-specific registers: many at a time (arch/x86/kvm/x86.c, msr_io).

Rule of this file: an unknown register ends the list, and that is no error: the answer is how far
it went.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import E2BIG
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.uapi.kvm_x86 import KVM_MSR_ENTRY, KVM_MSRS

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task

_MAX_IO_MSRS = 256

DoMsr = Callable[[int, int], int | None]
"""(index, data) -> the data afterwards; None: refused."""


def msr_io(task: Task, arg: int, do_msr: DoMsr, *, writeback: bool) -> int:
    """One list of registers: how many of them `do_msr` took. EFAULT; E2BIG; EFAULT."""
    count = KVM_MSRS.unpack(task.copy_from_user(arg, KVM_MSRS.size)).nmsrs
    if count >= _MAX_IO_MSRS:
        raise KernelError(E2BIG, f"{count} registers are more than {_MAX_IO_MSRS - 1} at a time")
    at, size = arg + KVM_MSRS.size, KVM_MSR_ENTRY.size
    data = task.copy_from_user(at, count * size) if count else b""
    entries = [KVM_MSR_ENTRY.unpack(data[i * size : (i + 1) * size]) for i in range(count)]
    done = 0
    for entry in entries:
        value = do_msr(entry.index, entry.data)
        entries[done] = entry._replace(data=value or 0)  # one that is refused reads as 0
        if value is None:
            break
        done += 1
    if writeback and count:
        task.copy_to_user(at, b"".join(map(KVM_MSR_ENTRY.pack, entries)))
    return done
