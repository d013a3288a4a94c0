# SPDX-License-Identifier: GPL-2.0-only
"""Where kernels differ in what a VM is asked for: its memory, interrupts, events, capabilities.

Rule of this file: as in `profile`, a field is something a caller can see; every value is measured
on the release that the profile names, under QEMU's TCG with -cpu max (an AMD processor with SVM, 40
physical bits, LA57, no PMU that KVM uses, no SEV).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType

from kvm_vfio.uapi.kvm import (
    KVM_CAP_DISABLE_QUIRKS,
    KVM_CAP_DISABLE_QUIRKS2,
    KVM_CAP_MAX_VCPU_ID,
    KVM_CAP_SPLIT_IRQCHIP,
    KVM_CAP_X86_DISABLE_EXITS,
)
from kvm_vfio.uapi.kvm_vm import (
    KVM_CAP_DIRTY_LOG_RING,
    KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
    KVM_CAP_EXCEPTION_PAYLOAD,
    KVM_CAP_EXIT_HYPERCALL,
    KVM_CAP_EXIT_ON_EMULATION_FAILURE,
    KVM_CAP_HALT_POLL,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
    KVM_CAP_MSR_PLATFORM_INFO,
    KVM_CAP_VM_COPY_ENC_CONTEXT_FROM,
    KVM_CAP_VM_DISABLE_NX_HUGE_PAGES,
    KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
    KVM_CAP_X2APIC_API,
    KVM_CAP_X86_APIC_BUS_CYCLES_NS,
    KVM_CAP_X86_BUS_LOCK_EXIT,
    KVM_CAP_X86_TRIPLE_FAULT_EVENT,
    KVM_CAP_X86_USER_SPACE_MSR,
    KVM_CLOCK_HOST_TSC,
    KVM_CLOCK_REALTIME,
    KVM_CLOCK_TSC_STABLE,
    KVM_CREATE_GUEST_MEMFD,
    KVM_GET_NR_MMU_PAGES,
    KVM_GET_STATS_FD,
    KVM_GET_TSC_KHZ,
    KVM_RESET_DIRTY_RINGS,
    KVM_SET_MEMORY_ATTRIBUTES,
    KVM_SET_TSC_KHZ,
    KVM_SET_USER_MEMORY_REGION2,
    KVM_XEN_HVM_CONFIG,
    KVM_XEN_HVM_GET_ATTR,
    KVM_XEN_HVM_SET_ATTR,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VmBehaviour:
    """One kernel."""

    requests_lacking: frozenset[int]  # of those in the table of a VM, what is ENOTTY here
    capabilities: frozenset[int]  # what KVM_ENABLE_CAP on a VM knows; all others are EINVAL

    # memory
    user_mem_slots: int  # slots of one address space
    guest_memfd: bool  # an ordinary VM's slot may have KVM_MEM_GUEST_MEMFD; else EINVAL
    largest_gfn: int  # a slot that ends beyond it is EINVAL; 0: nobody looks
    user_address_end: int  # userspace_addr and its size stay below

    # interrupts and events
    irqfd_drains: bool  # an irqfd takes the eventfd's count to 0
    irqfd_exclusive: bool  # an eventfd that is one VM's irqfd is EBUSY for another
    pit_needs_pic: bool  # KVM_CREATE_PIT: ENOENT without the in-kernel PIC

    # vCPUs
    max_vcpu_ids: int
    boot_cpu_id_limited: bool  # KVM_SET_BOOT_CPU_ID and the largest id know of each other
    disable_exits_before_vcpus: bool  # KVM_CAP_X86_DISABLE_EXITS: EINVAL once there is a vCPU
    tsc_khz_before_vcpus: bool  # KVM_SET_TSC_KHZ on a VM: likewise

    host_tsc_khz: int  # what KVM_GET_TSC_KHZ says where nobody has set it

    # flags
    clock_flags: int  # KVM_SET_CLOCK
    pmu_filter_flags: int  # KVM_SET_PMU_EVENT_FILTER
    quirks: int  # KVM_CAP_DISABLE_QUIRKS2
    x2apic_suppress_eoi: bool  # KVM_CAP_X2APIC_API has bits 2 (split irqchip only) and 3


_5_10 = VmBehaviour(
    requests_lacking=frozenset(
        {
            KVM_SET_USER_MEMORY_REGION2,
            KVM_RESET_DIRTY_RINGS,
            KVM_GET_STATS_FD,
            KVM_SET_TSC_KHZ,
            KVM_GET_TSC_KHZ,
            KVM_SET_MEMORY_ATTRIBUTES,
            KVM_CREATE_GUEST_MEMFD,
            KVM_XEN_HVM_GET_ATTR,
            KVM_XEN_HVM_SET_ATTR,
        }
    ),
    capabilities=frozenset(
        {
            KVM_CAP_DISABLE_QUIRKS,
            KVM_CAP_SPLIT_IRQCHIP,
            KVM_CAP_X2APIC_API,
            KVM_CAP_X86_DISABLE_EXITS,
            KVM_CAP_MSR_PLATFORM_INFO,
            KVM_CAP_EXCEPTION_PAYLOAD,
            KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
            KVM_CAP_HALT_POLL,
            KVM_CAP_X86_USER_SPACE_MSR,
        }
    ),
    user_mem_slots=509,
    guest_memfd=False,
    largest_gfn=0,
    user_address_end=0x7FFF_FFFF_F000,
    irqfd_drains=False,
    irqfd_exclusive=False,
    pit_needs_pic=False,
    max_vcpu_ids=1023,
    boot_cpu_id_limited=False,
    disable_exits_before_vcpus=False,
    tsc_khz_before_vcpus=False,
    host_tsc_khz=2_596_120,
    clock_flags=0,
    pmu_filter_flags=0,
    quirks=0,
    x2apic_suppress_eoi=False,
)

_6_1 = replace(
    _5_10,
    requests_lacking=frozenset(
        {
            KVM_SET_USER_MEMORY_REGION2,
            KVM_SET_MEMORY_ATTRIBUTES,
            KVM_CREATE_GUEST_MEMFD,
            KVM_XEN_HVM_CONFIG,  # CONFIG_KVM_XEN is not set in this Debian kernel
            KVM_XEN_HVM_GET_ATTR,
            KVM_XEN_HVM_SET_ATTR,
        }
    ),
    capabilities=_5_10.capabilities
    | {
        KVM_CAP_MAX_VCPU_ID,
        KVM_CAP_DIRTY_LOG_RING,
        KVM_CAP_X86_BUS_LOCK_EXIT,
        KVM_CAP_VM_COPY_ENC_CONTEXT_FROM,
        KVM_CAP_EXIT_HYPERCALL,
        KVM_CAP_EXIT_ON_EMULATION_FAILURE,
        KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM,
        KVM_CAP_DISABLE_QUIRKS2,
        KVM_CAP_X86_TRIPLE_FAULT_EVENT,
        KVM_CAP_VM_DISABLE_NX_HUGE_PAGES,
        KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
    },
    user_mem_slots=32764,
    largest_gfn=(1 << 28) - 1,
    irqfd_drains=True,
    max_vcpu_ids=4096,
    clock_flags=KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME | KVM_CLOCK_HOST_TSC,
    quirks=0x7F,
)

_6_12 = replace(
    _6_1,
    requests_lacking=frozenset({KVM_GET_NR_MMU_PAGES}),
    capabilities=_6_1.capabilities | {KVM_CAP_X86_APIC_BUS_CYCLES_NS},
    user_address_end=(1 << 56) - 0x1000,
    pit_needs_pic=True,
    max_vcpu_ids=16384,
    boot_cpu_id_limited=True,
    pmu_filter_flags=1,
    quirks=0x7FF,
)

_6_18 = replace(
    _6_12,
    guest_memfd=True,
    irqfd_exclusive=True,
    disable_exits_before_vcpus=True,
    tsc_khz_before_vcpus=True,
    quirks=0x3FF,
)

_7_3 = replace(
    _6_18,
    quirks=0xFFF,
    x2apic_suppress_eoi=True,
)

VM_BEHAVIOURS = MappingProxyType(
    {"5.10": _5_10, "6.1": _6_1, "6.12": _6_12, "6.18": _6_18, "7.3": _7_3}
)
"""By the profile's name; nobody has measured the others."""
