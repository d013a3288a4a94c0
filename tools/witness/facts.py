# SPDX-License-Identifier: GPL-2.0-only
"""Every fact that `kvm_vfio.uapi` states, with the C expression that a kernel header answers it by.

Rule of this file: nothing is known here about any value. A name that C spells differently, or does
not have, is in a table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from kvm_vfio.uapi import fcntl, kvm, kvm_vm, kvm_x86, pci, seccomp, vfio
from kvm_vfio.uapi.layout import Layout

# One translation unit per architecture: its own directory of asm/ and what is asked there.
HEADERS = (
    "linux/kvm.h",
    "linux/vfio.h",
    "linux/seccomp.h",
    "linux/filter.h",
    "linux/audit.h",
    "linux/prctl.h",
    "linux/kcmp.h",
    "linux/inotify.h",
    "linux/fcntl.h",
    "linux/pci_regs.h",
    "asm/unistd.h",
)

MODULES: tuple[ModuleType, ...] = (kvm, kvm_vm, kvm_x86, vfio, seccomp, pci, fcntl)

# Ours alone: a lone integer that C has no structure for.
NO_STRUCT = {"int32", "uint32", "uint64", "seccomp_notif_id"}

# Ours: padding that C leaves without a name.
UNNAMED = {
    "kvm_run.rest",
    "sock_fprog.pad",
    "vfio_iommu_type1_info_cap_migration.pad",
    "kvm_msr_filter_range.pad",
    "kvm_msr_filter.pad",
}

SPELLED: dict[str, str] = {"X32_SYSCALL_BIT": "__X32_SYSCALL_BIT"}

# A structure inside another is flat here: (structures, our field) -> C's designator.
_INNER: tuple[tuple[str, str, str], ...] = (
    (r"seccomp_notif", r"(nr|arch|instruction_pointer)", r"data.\1"),
    (r"seccomp_notif", r"arg(\d)", r"data.args[\1]"),
    (r"kvm_vcpu_events", r"(exception_has_payload|exception_payload)", r"\1"),
    (r"kvm_vcpu_events", r"(exception|interrupt|nmi|smi|triple_fault)_(\w+)", r"\1.\2"),
    (r"kvm_run", r"fail_entry_(\w+)", r"fail_entry.\1"),
    (r"kvm_guest_debug", r"debugreg", r"arch.debugreg"),
    (r"kvm_enable_cap", r"arg(\d)", r"args[\1]"),
    (r"seccomp_data", r"arg(\d)", r"args[\1]"),
    (r"kvm_irq_routing_entry", r"word(\d)", r"u.pad[\1]"),
    (r"kvm_irq_routing_entry", r"rest", r"u.pad[4]"),
    (r"vfio_(region|iommu_type1)_info_(cap|dma)_\w+", r"(id|version|next)", r"header.\1"),
    (r"vfio_iommu_type1_dirty_bitmap_get", r"bitmap_(\w+)", r"bitmap.\1"),
)


class Fact(NamedTuple):
    """`name` is how a witness file calls it, `value` what uapi says."""

    name: str
    expression: str
    value: int


def x86_64() -> Iterator[Fact]:
    """Everything but the other architectures' system calls."""
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, int) and name[0].isupper():
                yield Fact(f"constant {name}", SPELLED.get(name, name), int(value))
            if isinstance(value, Layout) and value.name not in NO_STRUCT:
                yield from _structure(value)
    yield from syscalls("x86_64")


def syscalls(architecture: str) -> Iterator[Fact]:
    """The system call numbers of one architecture."""
    for name, number in seccomp.SYSCALLS[architecture].items():
        yield Fact(f"syscall {architecture} {name}", f"__NR_{name}", number)


def _structure(layout: Layout[Any]) -> Iterator[Fact]:
    yield Fact(f"size {layout.name}", f"sizeof(struct {layout.name})", layout.size)
    for field, offset in layout.offsets.items():
        if f"{layout.name}.{field}" not in UNNAMED:
            where = f"__builtin_offsetof(struct {layout.name}, {_designator(layout.name, field)})"
            yield Fact(f"offset {layout.name}.{field}", where, offset)


def _designator(structure: str, field: str) -> str:
    for structures, pattern, replacement in _INNER:
        if re.fullmatch(structures, structure) and re.fullmatch(pattern, field):
            return re.sub(pattern, replacement, field)
    return field
