# SPDX-License-Identifier: GPL-2.0-only
"""What only a VM of x86 is asked for: places, clocks, filters (arch/x86/kvm/x86.c).

Rule of this file: what would change a guest is checked and kept; there is no guest to change.
"""

from __future__ import annotations

from errno import E2BIG, EBUSY, EFAULT, EINVAL, ENOTTY
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, Row, not_modelled
from kvm_vfio.uapi.kvm_vm import (
    KVM_CLOCK_DATA,
    KVM_CLOCK_REALTIME,
    KVM_CLOCK_TSC_STABLE,
    KVM_CREATE_GUEST_MEMFD,
    KVM_ENC_REGION,
    KVM_GET_CLOCK,
    KVM_GET_TSC_KHZ,
    KVM_MEMORY_ENCRYPT_OP,
    KVM_MEMORY_ENCRYPT_REG_REGION,
    KVM_MEMORY_ENCRYPT_UNREG_REGION,
    KVM_MSR_FILTER,
    KVM_MSR_FILTER_DEFAULT_DENY,
    KVM_MSR_FILTER_MAX_BITMAP_SIZE,
    KVM_MSR_FILTER_RANGE,
    KVM_MSR_FILTER_READ,
    KVM_MSR_FILTER_WRITE,
    KVM_PMU_EVENT_ALLOW,
    KVM_PMU_EVENT_DENY,
    KVM_PMU_EVENT_FILTER,
    KVM_SET_BOOT_CPU_ID,
    KVM_SET_CLOCK,
    KVM_SET_IDENTITY_MAP_ADDR,
    KVM_SET_MEMORY_ATTRIBUTES,
    KVM_SET_PMU_EVENT_FILTER,
    KVM_SET_TSC_KHZ,
    KVM_SET_TSS_ADDR,
    KVM_X86_SET_MSR_FILTER,
    KVM_XEN_HVM_CONFIG,
    KVM_XEN_HVM_GET_ATTR,
    KVM_XEN_HVM_SET_ATTR,
    kvm_clock_data,
    kvm_msr_filter_range,
)
from kvm_vfio.uapi.layout import UINT64

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import VmFile
    from kvm_vfio.kernel.task import Task

_HIGHEST_TSS = 0x1_0000_0000 - 3 * 4096  # three pages must fit below 4 GiB
_MOST_PMU_EVENTS = 300  # KVM_PMU_EVENT_FILTER_MAX_EVENTS
_MASKED_EVENT_RESERVED = 0x007F_FFF0_FFFF_0000  # of an event under KVM_PMU_EVENT_FLAG_MASKED_EVENTS
_NS_IN_MS = 1_000_000
_U32 = 0xFFFF_FFFF
_U64 = (1 << 64) - 1


MsrFilter = tuple[int, list[tuple[kvm_msr_filter_range, bytes]]]
"""Its flags; each range with its bitmap."""


# -- places and ids --------------------------------------------------------------------------------


def _set_tss_addr(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_TSS_ADDR: an AMD processor needs none. EINVAL: three pages do not fit below 4 GiB."""
    if arg > _HIGHEST_TSS:
        raise KernelError(EINVAL, f"three pages at {arg:#x} are not below 4 GiB")
    return 0


def _set_identity_map_addr(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_IDENTITY_MAP_ADDR: likewise. EINVAL: there are vCPUs; EFAULT."""
    with file.vm.lock:
        if file.vm.created_vcpus:
            raise KernelError(EINVAL, "the identity map comes before the first vCPU")
        task.copy_from_user(arg, UINT64.size)
    return 0


def _set_boot_cpu_id(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_BOOT_CPU_ID. EBUSY: there are vCPUs; EINVAL: too large, where that counts."""
    vm = file.vm
    with vm.lock:
        if vm.created_vcpus:
            raise KernelError(EBUSY, "the boot CPU is chosen before the first vCPU")
        largest = vm.max_vcpu_ids or vm.behaviour.max_vcpu_ids
        if vm.behaviour.boot_cpu_id_limited and arg > largest:
            raise KernelError(EINVAL, f"a vCPU's id is below {largest}")
        vm.boot_cpu_id = arg & _U32
    return 0


# -- clocks ----------------------------------------------------------------------------------------


def _get_clock(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_CLOCK; with the host's clocks beside it where it is the master clock. EFAULT."""
    vm = file.vm
    now = vm.kernel.now()
    data = kvm_clock_data((now + vm.clock_offset) & _U64, 0, 0, 0, 0, b"")
    if vm.use_master_clock:
        flags = KVM_CLOCK_TSC_STABLE | vm.behaviour.clock_flags
        data = data._replace(flags=flags)
        if flags & KVM_CLOCK_REALTIME:
            tsc = now * vm.behaviour.host_tsc_khz // _NS_IN_MS
            data = data._replace(realtime=vm.kernel.real_time(), host_tsc=tsc & _U64)
    task.copy_to_user(arg, KVM_CLOCK_DATA.pack(data))
    return 0


def _set_clock(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_CLOCK; with REALTIME it goes on from then. EFAULT; EINVAL: a flag.

    From the first one after a vCPU came, the clock is the master clock.
    """
    vm = file.vm
    wanted = KVM_CLOCK_DATA.unpack(task.copy_from_user(arg, KVM_CLOCK_DATA.size))
    if wanted.flags & ~vm.behaviour.clock_flags:
        raise KernelError(EINVAL, f"a clock is not set with flags {wanted.flags:#x}")
    clock = wanted.clock
    if wanted.flags & KVM_CLOCK_REALTIME:
        clock += max(vm.kernel.real_time() - wanted.realtime, 0)
    vm.clock_offset = clock - vm.kernel.now()
    vm.use_master_clock |= vm.created_vcpus > 0
    return 0


def _set_tsc_khz(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_TSC_KHZ, for vCPUs to come; 0: the host's. EINVAL: this kernel wants none there."""
    vm = file.vm
    if vm.behaviour.tsc_khz_before_vcpus and vm.created_vcpus:
        raise KernelError(EINVAL, "the TSC's rate is set before the first vCPU")
    vm.tsc_khz = arg & _U32
    return 0


def _get_tsc_khz(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_TSC_KHZ: kHz, of the vCPUs to come."""
    return file.vm.tsc_khz or file.vm.behaviour.host_tsc_khz


# -- filters ---------------------------------------------------------------------------------------


def _set_msr_filter(file: VmFile, task: Task, arg: int) -> int:
    """KVM_X86_SET_MSR_FILTER. EFAULT; EINVAL: a flag, all is denied; by range: EINVAL, EFAULT."""
    wanted = KVM_MSR_FILTER.unpack(task.copy_from_user(arg, KVM_MSR_FILTER.size))
    if wanted.flags & ~KVM_MSR_FILTER_DEFAULT_DENY:
        raise KernelError(EINVAL, f"an MSR filter has no flags {wanted.flags:#x}")
    size = KVM_MSR_FILTER_RANGE.size
    pieces = (wanted.ranges[at : at + size] for at in range(0, len(wanted.ranges), size))
    ranges = [each for each in map(KVM_MSR_FILTER_RANGE.unpack, pieces) if each.nmsrs]
    if wanted.flags and not ranges:
        raise KernelError(EINVAL, "a filter that denies by default allows something")
    file.vm.msr_filter = wanted.flags, [(each, _bitmap(task, each)) for each in ranges]
    return 0


def _bitmap(task: Task, wanted: kvm_msr_filter_range) -> bytes:
    """kvm_add_msr_filter. EINVAL, EFAULT."""
    if wanted.flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) or not wanted.flags:
        raise KernelError(EINVAL, "a range is of reads, of writes, or of both")
    size = -(-wanted.nmsrs // 64) * 8
    if size > KVM_MSR_FILTER_MAX_BITMAP_SIZE:
        raise KernelError(EINVAL, f"{wanted.nmsrs} MSRs are too many for one range")
    return task.copy_from_user(wanted.bitmap, size)


def _set_pmu_event_filter(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_PMU_EVENT_FILTER. EFAULT; EINVAL: action, flag; E2BIG; EFAULT; EINVAL: event."""
    layout = KVM_PMU_EVENT_FILTER
    wanted = layout.unpack(task.copy_from_user(arg, layout.size))
    if wanted.action not in (KVM_PMU_EVENT_ALLOW, KVM_PMU_EVENT_DENY):
        raise KernelError(EINVAL, f"there is no action {wanted.action}")
    if wanted.flags & ~file.vm.behaviour.pmu_filter_flags:
        raise KernelError(EINVAL, f"a PMU filter has no flags {wanted.flags:#x}")
    if wanted.nevents > _MOST_PMU_EVENTS:
        raise KernelError(E2BIG, f"a PMU filter has at most {_MOST_PMU_EVENTS} events")
    data = b""
    if wanted.nevents:
        data = task.copy_from_user(arg + layout.size, wanted.nevents * 8)
    events = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    if wanted.flags and any(event & _MASKED_EVENT_RESERVED for event in events):
        raise KernelError(EINVAL, "a masked event has a reserved bit set")
    return 0


# -- encryption ------------------------------------------------------------------------------------


def _encrypt(file: VmFile, task: Task, arg: int) -> int:
    """KVM_MEMORY_ENCRYPT_OP. ENOTTY: the processor has no SEV."""
    raise KernelError(ENOTTY, "the processor cannot encrypt a guest")


def _encrypt_region(file: VmFile, task: Task, arg: int) -> int:
    """KVM_MEMORY_ENCRYPT_REG_REGION, ..._UNREG_REGION. EFAULT; ENOTTY: the VM is not encrypted."""
    task.copy_from_user(arg, KVM_ENC_REGION.size)
    raise KernelError(ENOTTY, "the VM is not encrypted")


_XEN = "Xen's interface is not modelled"
_PRIVATE = "private memory is not modelled"

ROWS = (
    Row(KVM_SET_TSS_ADDR, _set_tss_addr, Argument.VALUE, errnos=(EINVAL,)),
    Row(KVM_SET_IDENTITY_MAP_ADDR, _set_identity_map_addr, Argument.FIXED, errnos=(EINVAL, EFAULT)),
    Row(KVM_SET_BOOT_CPU_ID, _set_boot_cpu_id, Argument.VALUE, errnos=(EBUSY, EINVAL)),
    Row(KVM_GET_CLOCK, _get_clock, Argument.FIXED, errnos=(EFAULT,)),
    Row(KVM_SET_CLOCK, _set_clock, Argument.FIXED, errnos=(EFAULT, EINVAL)),
    Row(KVM_SET_TSC_KHZ, _set_tsc_khz, Argument.VALUE, errnos=(EINVAL,)),
    Row(KVM_GET_TSC_KHZ, _get_tsc_khz, Argument.VALUE),
    Row(KVM_X86_SET_MSR_FILTER, _set_msr_filter, Argument.FIXED, errnos=(EFAULT, EINVAL)),
    Row(
        KVM_SET_PMU_EVENT_FILTER,
        _set_pmu_event_filter,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL, E2BIG),
    ),
    Row(KVM_MEMORY_ENCRYPT_OP, _encrypt, Argument.VALUE, errnos=(ENOTTY,)),
    Row(
        KVM_MEMORY_ENCRYPT_REG_REGION,
        _encrypt_region,
        Argument.FIXED,
        errnos=(EFAULT, ENOTTY),
    ),
    Row(
        KVM_MEMORY_ENCRYPT_UNREG_REGION,
        _encrypt_region,
        Argument.FIXED,
        errnos=(EFAULT, ENOTTY),
    ),
    not_modelled(KVM_XEN_HVM_CONFIG, Argument.FIXED, _XEN),
    not_modelled(KVM_XEN_HVM_GET_ATTR, Argument.FIXED, _XEN),
    not_modelled(KVM_XEN_HVM_SET_ATTR, Argument.FIXED, _XEN),
    not_modelled(KVM_SET_MEMORY_ATTRIBUTES, Argument.FIXED, _PRIVATE),
    not_modelled(KVM_CREATE_GUEST_MEMFD, Argument.FIXED, _PRIVATE),
)
