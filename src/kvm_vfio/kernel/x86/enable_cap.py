# SPDX-License-Identifier: GPL-2.0-only
"""KVM_ENABLE_CAP on a VM (kvm_vm_ioctl_enable_cap of virt/kvm/kvm_main.c and arch/x86/kvm/x86.c).

Rule of this file: a table: what each capability refuses, and what of its argument is kept. Most
change what a guest sees or what makes it stop, and no guest runs: they are remembered, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import E2BIG, EBADF, EEXIST, EFAULT, EINVAL, ENXIO
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, Row
from kvm_vfio.kernel.kvm.irqchip import Mode
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
    KVM_ENABLE_CAP,
    KVM_ENABLE_CAP_LAYOUT,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm, VmFile
    from kvm_vfio.kernel.task import Task

_VM_LINK = "anon_inode:kvm-vm"
_U32 = 0xFFFF_FFFF
_U64 = 1 << 64
_X2APIC_USE_32BIT_IDS = 1 << 0
_X2APIC_ENABLE_SUPPRESS_EOI = 1 << 2
_X2APIC_DISABLE_SUPPRESS_EOI = 1 << 3
_BUS_LOCK_MODES = 0, 1, 2  # neither, KVM_BUS_LOCK_DETECTION_OFF, ..._EXIT
_HYPERCALLS = 1 << 12  # KVM_HC_MAP_GPA_RANGE may exit
_MSR_EXIT_REASONS = 0x7
_DISABLED_EXITS = 0xF
_LONGEST_APIC_TIMER = _U32 * 128  # bus cycles: the largest count, by the largest divisor

Enable = Callable[["Vm", "Task", int], None]
"""(vm, task, args[0]); raises KernelError."""


def _refuse(argument: int) -> KernelError:
    return KernelError(EINVAL, f"the capability cannot be {argument:#x}")


def _bits(allowed: int) -> Enable:
    def enable(vm: Vm, task: Task, argument: int) -> None:
        if argument & ~allowed:
            raise _refuse(argument)

    return enable


_anything = _bits(_U64 - 1)


def _quirks2(vm: Vm, task: Task, argument: int) -> None:
    _bits(vm.behaviour.quirks)(vm, task, argument)


def _split_irqchip(vm: Vm, task: Task, argument: int) -> None:
    with vm.lock:
        vm.irqchip.split(argument)


def _x2apic_api(vm: Vm, task: Task, argument: int) -> None:
    suppress = _X2APIC_ENABLE_SUPPRESS_EOI | _X2APIC_DISABLE_SUPPRESS_EOI
    _bits(0xF if vm.behaviour.x2apic_suppress_eoi else 0x3)(vm, task, argument)
    if argument & suppress == suppress:
        raise _refuse(argument)
    if argument & _X2APIC_ENABLE_SUPPRESS_EOI and vm.irqchip.mode is not Mode.SPLIT:
        raise KernelError(EINVAL, "only a split irqchip has EOI broadcasts to suppress")
    if argument & _X2APIC_USE_32BIT_IDS:
        vm.irqchip.x2apic_format = True


def _disable_exits(vm: Vm, task: Task, argument: int) -> None:
    _bits(_DISABLED_EXITS)(vm, task, argument)
    if vm.behaviour.disable_exits_before_vcpus and vm.created_vcpus:
        raise KernelError(EINVAL, "exits are disabled before the first vCPU")


def _manual_dirty_log_protect(vm: Vm, task: Task, argument: int) -> None:
    vm.memslots.enable_manual_protect(argument)


def _dirty_ring(vm: Vm, task: Task, argument: int) -> None:
    vm.memslots.enable_dirty_ring(argument)


def _bus_lock_exit(vm: Vm, task: Task, argument: int) -> None:
    if argument not in _BUS_LOCK_MODES:
        raise _refuse(argument)


def _max_vcpu_id(vm: Vm, task: Task, argument: int) -> None:
    behaviour = vm.behaviour
    if argument > behaviour.max_vcpu_ids:
        raise KernelError(EINVAL, f"a vCPU's id is below {behaviour.max_vcpu_ids}")
    if behaviour.boot_cpu_id_limited and vm.boot_cpu_id > argument:
        raise KernelError(EINVAL, f"the boot CPU has id {vm.boot_cpu_id}")
    # The first vCPU settles it.
    settled = vm.max_vcpu_ids or (behaviour.max_vcpu_ids if vm.created_vcpus else 0)
    if settled not in (0, argument):
        raise KernelError(EINVAL, f"the VM's largest id is settled: {settled}")
    vm.max_vcpu_ids = argument


def _encryption_context(vm: Vm, task: Task, argument: int) -> None:
    """No VM here is encrypted, so none can lend its keys. EBADF: no VM."""
    source = task.fget(argument & _U32)
    if source.link != _VM_LINK:
        raise KernelError(EBADF, f"{source.name} is no VM")
    raise KernelError(EINVAL, "the VM is not encrypted")


def _disable_nx_huge_pages(vm: Vm, task: Task, argument: int) -> None:
    _bits(0)(vm, task, argument)
    if vm.created_vcpus:
        raise KernelError(EINVAL, "huge pages are executable before the first vCPU or not at all")


def _apic_bus_cycles(vm: Vm, task: Task, argument: int) -> None:
    if not argument or argument * _LONGEST_APIC_TIMER >= _U64:
        raise _refuse(argument)
    if vm.irqchip.mode is Mode.NONE:
        raise KernelError(ENXIO, f"the VM has {vm.irqchip.mode.value}")
    if vm.created_vcpus:
        raise KernelError(EINVAL, "the APICs' clock is set before the first vCPU")


CAPABILITIES: dict[int, Enable] = {
    KVM_CAP_DISABLE_QUIRKS: _anything,
    KVM_CAP_SPLIT_IRQCHIP: _split_irqchip,
    KVM_CAP_MAX_VCPU_ID: _max_vcpu_id,
    KVM_CAP_X2APIC_API: _x2apic_api,
    KVM_CAP_X86_DISABLE_EXITS: _disable_exits,
    KVM_CAP_MSR_PLATFORM_INFO: _anything,
    KVM_CAP_EXCEPTION_PAYLOAD: _anything,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: _manual_dirty_log_protect,
    KVM_CAP_HALT_POLL: _bits(_U32),
    KVM_CAP_X86_USER_SPACE_MSR: _bits(_MSR_EXIT_REASONS),
    KVM_CAP_DIRTY_LOG_RING: _dirty_ring,
    KVM_CAP_X86_BUS_LOCK_EXIT: _bus_lock_exit,
    KVM_CAP_VM_COPY_ENC_CONTEXT_FROM: _encryption_context,
    KVM_CAP_EXIT_HYPERCALL: _bits(_HYPERCALLS),
    KVM_CAP_EXIT_ON_EMULATION_FAILURE: _bits(1),
    KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM: _encryption_context,
    KVM_CAP_DISABLE_QUIRKS2: _quirks2,
    KVM_CAP_X86_TRIPLE_FAULT_EVENT: _anything,
    KVM_CAP_VM_DISABLE_NX_HUGE_PAGES: _disable_nx_huge_pages,
    KVM_CAP_DIRTY_LOG_RING_ACQ_REL: _dirty_ring,
    KVM_CAP_X86_APIC_BUS_CYCLES_NS: _apic_bus_cycles,
}
"""Every capability that some kernel knows; which one knows it is the profile's."""


def _enable_cap(file: VmFile, task: Task, arg: int) -> int:
    """KVM_ENABLE_CAP. EFAULT; EINVAL: a flag, or no such capability; then what that says.

    Only for dirty rings no flag is looked at.
    """
    layout = KVM_ENABLE_CAP_LAYOUT
    wanted = layout.unpack(task.copy_from_user(arg, layout.size))
    vm = file.vm
    flags = wanted.flags and CAPABILITIES.get(wanted.cap) is not _dirty_ring
    if flags or wanted.cap not in vm.behaviour.capabilities:
        raise KernelError(EINVAL, f"capability {wanted.cap} is none that a VM enables so")
    CAPABILITIES[wanted.cap](vm, task, wanted.arg0)
    vm.enabled[wanted.cap] = wanted.arg0
    return 0


ROWS = (
    Row(
        KVM_ENABLE_CAP,
        _enable_cap,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL, EBADF, EEXIST, E2BIG, ENXIO),
    ),
)
