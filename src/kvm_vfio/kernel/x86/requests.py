# SPDX-License-Identifier: GPL-2.0-only
"""What a vCPU can be asked on x86 (arch/x86/kvm/x86.c, kvm_arch_vcpu_ioctl).

Rule of this file: a request here copies, in the kernel's order, and leaves the meaning to the part
of the vCPU it is about. Most come in pairs, one to read a structure and one to write it: `STATES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import E2BIG, EBUSY, EEXIST, EFAULT, EINVAL, EMFILE, ENOTTY, ENXIO
from typing import TYPE_CHECKING, Any, NamedTuple

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, Handler, Row, Support, not_modelled
from kvm_vfio.kernel.kvm import stats
from kvm_vfio.kernel.kvm.recorded import recorded
from kvm_vfio.kernel.x86.cpuid import MAX_CPUID_ENTRIES
from kvm_vfio.kernel.x86.events import BP_VECTOR, DB_VECTOR
from kvm_vfio.kernel.x86.machine_check import set_mce, setup_mce
from kvm_vfio.kernel.x86.mp_state import get_mp_state, set_mp_state
from kvm_vfio.kernel.x86.msr import msr_io
from kvm_vfio.kernel.x86.registers import (
    get_regs,
    get_sregs,
    get_sregs2,
    set_regs,
    set_sregs,
    set_sregs2,
)
from kvm_vfio.uapi.kvm import (
    KVM_CAP_ONE_REG,
    KVM_CAP_VCPU_ATTRIBUTES,
    KVM_DEVICE_ATTR,
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
    kvm_device_attr,
)
from kvm_vfio.uapi.kvm_vm import (
    KVM_ENABLE_CAP,
    KVM_ENABLE_CAP_LAYOUT,
    KVM_GET_STATS_FD,
    KVM_GET_TSC_KHZ,
    KVM_SET_TSC_KHZ,
)
from kvm_vfio.uapi.kvm_x86 import (
    KVM_CAP_ENFORCE_PV_FEATURE_CPUID,
    KVM_CAP_HYPERV_DIRECT_TLBFLUSH,
    KVM_CAP_HYPERV_ENFORCE_CPUID,
    KVM_CAP_HYPERV_ENLIGHTENED_VMCS,
    KVM_CAP_HYPERV_SYNIC,
    KVM_CAP_HYPERV_SYNIC2,
    KVM_CAP_PRE_FAULT_MEMORY,
    KVM_CAP_SREGS2,
    KVM_CAP_XEN_HVM,
    KVM_CAP_XSAVE2,
    KVM_CPUID,
    KVM_CPUID2,
    KVM_CPUID_ENTRY,
    KVM_CPUID_ENTRY2,
    KVM_DEBUGREGS,
    KVM_FPU,
    KVM_GET_CPUID2,
    KVM_GET_DEBUGREGS,
    KVM_GET_FPU,
    KVM_GET_LAPIC,
    KVM_GET_MP_STATE,
    KVM_GET_MSRS,
    KVM_GET_NESTED_STATE,
    KVM_GET_ONE_REG,
    KVM_GET_REG_LIST,
    KVM_GET_REGS,
    KVM_GET_SREGS,
    KVM_GET_SREGS2,
    KVM_GET_SUPPORTED_HV_CPUID,
    KVM_GET_VCPU_EVENTS,
    KVM_GET_XCRS,
    KVM_GET_XSAVE,
    KVM_GET_XSAVE2,
    KVM_GUEST_DEBUG,
    KVM_GUESTDBG_ENABLE,
    KVM_GUESTDBG_INJECT_BP,
    KVM_GUESTDBG_INJECT_DB,
    KVM_INTERRUPT,
    KVM_INTERRUPT_LAYOUT,
    KVM_KVMCLOCK_CTRL,
    KVM_LAPIC_STATE,
    KVM_MP_STATE,
    KVM_NESTED_STATE,
    KVM_NMI,
    KVM_ONE_REG,
    KVM_PRE_FAULT_MEMORY,
    KVM_REGS,
    KVM_SET_CPUID,
    KVM_SET_CPUID2,
    KVM_SET_DEBUGREGS,
    KVM_SET_FPU,
    KVM_SET_GUEST_DEBUG,
    KVM_SET_LAPIC,
    KVM_SET_MP_STATE,
    KVM_SET_MSRS,
    KVM_SET_NESTED_STATE,
    KVM_SET_ONE_REG,
    KVM_SET_REGS,
    KVM_SET_SIGNAL_MASK,
    KVM_SET_SREGS,
    KVM_SET_SREGS2,
    KVM_SET_VAPIC_ADDR,
    KVM_SET_VCPU_EVENTS,
    KVM_SET_XCRS,
    KVM_SET_XSAVE,
    KVM_SIGNAL_MASK,
    KVM_SMI,
    KVM_SREGS,
    KVM_SREGS2,
    KVM_STATE_NESTED_EVMCS,
    KVM_STATE_NESTED_FORMAT_SVM,
    KVM_STATE_NESTED_GIF_SET,
    KVM_STATE_NESTED_GUEST_MODE,
    KVM_STATE_NESTED_MTF_PENDING,
    KVM_STATE_NESTED_RUN_PENDING,
    KVM_TPR_ACCESS_CTL,
    KVM_TPR_ACCESS_REPORTING,
    KVM_TRANSLATE,
    KVM_TRANSLATION,
    KVM_VAPIC_ADDR,
    KVM_VCPU_EVENTS,
    KVM_VCPU_TSC_CTRL,
    KVM_VCPU_TSC_OFFSET,
    KVM_X86_MCE,
    KVM_X86_SET_MCE,
    KVM_X86_SETUP_MCE,
    KVM_XCRS,
    KVM_XEN_VCPU_GET_ATTR,
    KVM_XEN_VCPU_SET_ATTR,
    KVM_XSAVE,
    kvm_cpuid_entry2,
    kvm_debugregs,
    kvm_lapic_state,
)
from kvm_vfio.uapi.layout import Layout, Request

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu, VcpuFile
    from kvm_vfio.kernel.task import Task

_MASK32 = (1 << 32) - 1
_U64 = 8
_SIGSET = 8  # bytes of a sigset_t
_VECTORS = 256
_INVALID_GPA = (1 << 64) - 1
_EFER_SVME = 1 << 12


# -- the state of a vCPU, a structure at a time ----------------------------------------------------


class State(NamedTuple):
    """A structure that one request reads and another one writes.

    `missing` says of a vCPU why it has neither, "" if it has: EINVAL before memory is looked at.
    `errnos` is what `set` refuses with.
    """

    layout: Layout[Any]
    get_request: Request
    get: Callable[[Vcpu], bytes]
    set_request: Request
    set: Callable[[Vcpu, Any], None]
    errnos: tuple[int, ...] = (EINVAL,)
    missing: Callable[[Vcpu], str] | None = None


def without(capability: int) -> Callable[[Vcpu], str]:
    """Says of a vCPU's kernel that it does not have a capability."""

    def missing(vcpu: Vcpu) -> str:
        there = capability in recorded(vcpu.vm.kernel).extensions
        return "" if there else "this kernel has no such request"

    return missing


def _get_debugregs(vcpu: Vcpu) -> bytes:
    return KVM_DEBUGREGS.pack(vcpu.debugregs)


def _set_debugregs(vcpu: Vcpu, new: kvm_debugregs) -> None:
    """EINVAL: flags, or a DR6 or DR7 of more than 32 bits."""
    if new.flags or new.dr6 >> 32 or new.dr7 >> 32:
        raise KernelError(EINVAL, "there are no flags, and DR6 and DR7 have 32 bits")
    vcpu.debugregs = new._replace(reserved=bytes(72))


def _get_lapic(vcpu: Vcpu) -> bytes:
    assert vcpu.apic is not None  # noqa: S101  # `missing` has seen to it
    return vcpu.apic.get()


def _set_lapic(vcpu: Vcpu, state: kvm_lapic_state) -> None:
    assert vcpu.apic is not None  # noqa: S101  # `missing` has seen to it
    vcpu.apic.set(state)


def _without_lapic(vcpu: Vcpu) -> str:
    return "" if vcpu.apic is not None else "the VM's local APICs are not KVM's"


STATES = (
    State(KVM_REGS, KVM_GET_REGS, get_regs, KVM_SET_REGS, set_regs, ()),
    State(KVM_SREGS, KVM_GET_SREGS, get_sregs, KVM_SET_SREGS, set_sregs),
    State(
        KVM_SREGS2,
        KVM_GET_SREGS2,
        get_sregs2,
        KVM_SET_SREGS2,
        set_sregs2,
        missing=without(KVM_CAP_SREGS2),
    ),
    State(
        KVM_FPU,
        KVM_GET_FPU,
        lambda vcpu: vcpu.fpu.get_fpu(),
        KVM_SET_FPU,
        lambda vcpu, fpu: vcpu.fpu.set_fpu(fpu),
        (),
    ),
    State(
        KVM_XSAVE,
        KVM_GET_XSAVE,
        lambda vcpu: vcpu.fpu.get_xsave(),
        KVM_SET_XSAVE,
        lambda vcpu, xsave: vcpu.fpu.set_xsave(xsave),
    ),
    State(
        KVM_XCRS,
        KVM_GET_XCRS,
        lambda vcpu: vcpu.fpu.get_xcrs(),
        KVM_SET_XCRS,
        lambda vcpu, xcrs: vcpu.fpu.set_xcrs(xcrs),
    ),
    State(KVM_DEBUGREGS, KVM_GET_DEBUGREGS, _get_debugregs, KVM_SET_DEBUGREGS, _set_debugregs),
    State(
        KVM_VCPU_EVENTS,
        KVM_GET_VCPU_EVENTS,
        lambda vcpu: vcpu.events.get(),
        KVM_SET_VCPU_EVENTS,
        lambda vcpu, events: vcpu.events.set(events),
    ),
    State(KVM_MP_STATE, KVM_GET_MP_STATE, get_mp_state, KVM_SET_MP_STATE, set_mp_state),
    State(
        KVM_LAPIC_STATE,
        KVM_GET_LAPIC,
        _get_lapic,
        KVM_SET_LAPIC,
        _set_lapic,
        (),
        missing=_without_lapic,
    ),
)


def _require(vcpu: Vcpu, missing: Callable[[Vcpu], str] | None) -> None:
    why = missing(vcpu) if missing is not None else ""
    if why:
        raise KernelError(EINVAL, why)


def _getter(state: State) -> Handler:
    def get(file: VcpuFile, task: Task, arg: int) -> int:
        _require(file.vcpu, state.missing)
        task.copy_to_user(arg, state.get(file.vcpu))
        return 0

    return get


def _setter(state: State) -> Handler:
    def set_(file: VcpuFile, task: Task, arg: int) -> int:
        _require(file.vcpu, state.missing)
        state.set(file.vcpu, state.layout.unpack(task.copy_from_user(arg, state.layout.size)))
        return 0

    return set_


def _state_rows() -> Iterator[Row]:
    for state in STATES:
        first = () if state.missing is None else (EINVAL,)
        last = () if first else state.errnos
        reading, writing = (*first, EFAULT), (*first, EFAULT, *last)
        yield Row(state.get_request, _getter(state), Argument.FIXED, errnos=reading)
        yield Row(state.set_request, _setter(state), Argument.FIXED, errnos=writing)


def _get_xsave2(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_XSAVE2: no component here needs more room than KVM_GET_XSAVE has."""
    _require(file.vcpu, without(KVM_CAP_XSAVE2))
    task.copy_to_user(arg, file.vcpu.fpu.get_xsave())
    return 0


# -- CPUID and MSRs --------------------------------------------------------------------------------


def _set_cpuid2(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_CPUID2. EFAULT; E2BIG; EFAULT; EINVAL: see `Cpuid.set`."""
    data = _entries(task, arg, KVM_CPUID2, KVM_CPUID_ENTRY2)
    file.vcpu.set_cpuid([KVM_CPUID_ENTRY2.unpack(entry) for entry in data])
    return 0


def _set_cpuid(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_CPUID: leaves without sub-leaves."""
    data = _entries(task, arg, KVM_CPUID, KVM_CPUID_ENTRY)
    old = [KVM_CPUID_ENTRY.unpack(entry) for entry in data]
    file.vcpu.set_cpuid(
        [kvm_cpuid_entry2(e.function, 0, 0, e.eax, e.ebx, e.ecx, e.edx, bytes(12)) for e in old]
    )
    return 0


def _entries(task: Task, arg: int, head: Layout[Any], entry: Layout[Any]) -> list[bytes]:
    count = head.unpack(task.copy_from_user(arg, head.size)).nent
    if count > MAX_CPUID_ENTRIES:
        raise KernelError(E2BIG, f"{count} leaves are more than {MAX_CPUID_ENTRIES}")
    size = entry.size
    data = task.copy_from_user(arg + head.size, count * size) if count else b""
    return [data[at : at + size] for at in range(0, len(data), size)]


def _get_cpuid2(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_CPUID2. EFAULT; E2BIG: there is less room, and nothing is written; EFAULT."""
    head = KVM_CPUID2.unpack(task.copy_from_user(arg, KVM_CPUID2.size))
    entries, room = file.vcpu.cpuid.entries, head.nent
    if room < len(entries):
        raise KernelError(E2BIG, f"there are {len(entries)} leaves, and room for {room}")
    if entries:
        task.copy_to_user(arg + KVM_CPUID2.size, b"".join(map(KVM_CPUID_ENTRY2.pack, entries)))
    count = len(entries) if file.vcpu.profile.get_cpuid2_counts else room
    task.copy_to_user(arg, KVM_CPUID2.pack(head._replace(nent=count)))
    return 0


def _get_msrs(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_MSRS: how many were read. EFAULT, E2BIG, EFAULT."""
    return msr_io(task, arg, file.vcpu.msrs.get, writeback=True)


def _set_msrs(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_MSRS: how many were written. EFAULT, E2BIG, EFAULT."""
    return msr_io(task, arg, file.vcpu.msrs.set, writeback=False)


# -- interrupts and machine checks -----------------------------------------------------------------


def _interrupt(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_INTERRUPT. EFAULT; EINVAL; ENXIO: the PIC is KVM's; EEXIST: one is on its way."""
    vector = KVM_INTERRUPT_LAYOUT.unpack(task.copy_from_user(arg, KVM_INTERRUPT_LAYOUT.size)).irq
    vcpu = file.vcpu
    if vector >= _VECTORS:
        raise KernelError(EINVAL, f"{vector} is no vector")
    if not vcpu.vm.irqchip_in_kernel:
        vcpu.events.queue_interrupt(vector)
        return 0
    if vcpu.vm.pic_in_kernel:
        raise KernelError(ENXIO, "the interrupts come from KVM's own PIC")
    if vcpu.events.external_vector is not None:
        raise KernelError(EEXIST, f"vector {vcpu.events.external_vector} is on its way")
    vcpu.events.external_vector = vector
    return 0


def _nmi(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_NMI."""
    file.vcpu.events.nmi()
    return 0


def _smi(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SMI."""
    file.vcpu.events.smi()
    return 0


def _setup_mce(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_X86_SETUP_MCE. EFAULT; EINVAL: see `setup_mce`."""
    setup_mce(file.vcpu, int.from_bytes(task.copy_from_user(arg, _U64), "little"))
    return 0


def _set_mce(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_X86_SET_MCE. EFAULT; EINVAL: see `set_mce`."""
    set_mce(file.vcpu, KVM_X86_MCE.unpack(task.copy_from_user(arg, KVM_X86_MCE.size)))
    return 0


def _tpr_access_reporting(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_TPR_ACCESS_REPORTING. EFAULT; EINVAL for flags; EFAULT."""
    asked = task.copy_from_user(arg, KVM_TPR_ACCESS_CTL.size)
    control = KVM_TPR_ACCESS_CTL.unpack(asked)
    if control.flags:
        raise KernelError(EINVAL, f"there are no flags {control.flags:#x}")
    file.vcpu.tpr_access_reporting = bool(control.enabled)
    task.copy_to_user(arg, asked)
    return 0


def _set_vapic_addr(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_VAPIC_ADDR. EINVAL: the APIC is not KVM's; EFAULT; EINVAL: no guest memory there."""
    _require(file.vcpu, _without_lapic)
    address = KVM_VAPIC_ADDR.unpack(task.copy_from_user(arg, KVM_VAPIC_ADDR.size)).vapic_addr
    if address and not file.vcpu.vm.has_guest_memory(address, 4):
        raise KernelError(EINVAL, f"there is no guest memory at {address:#x}")
    return 0


# -- time ------------------------------------------------------------------------------------------


def _set_tsc_khz(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_TSC_KHZ. EINVAL: slower than the processor, which is noted all the same."""
    vcpu, khz = file.vcpu, arg & _MASK32
    vcpu.tsc_khz = khz or vcpu.host_tsc_khz
    tolerated = vcpu.host_tsc_khz * 250 // 1_000_000  # parts per million, tsc_tolerance_ppm
    if vcpu.tsc_khz < vcpu.host_tsc_khz - tolerated:
        raise KernelError(EINVAL, f"{khz} kHz is slower than the processor, which cannot scale")
    return 0


def _get_tsc_khz(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_TSC_KHZ."""
    return file.vcpu.tsc_khz


def _kvmclock_ctrl(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_KVMCLOCK_CTRL: the guest was paused. EINVAL: it has no kvmclock."""
    if not file.vcpu.msrs.kvmclock_active():
        raise KernelError(EINVAL, "the guest has no kvmclock")
    return 0


# -- attributes: the TSC's offset ------------------------------------------------------------------


def _attr(task: Task, arg: int) -> kvm_device_attr:
    """EFAULT; ENXIO for another group."""
    attr = KVM_DEVICE_ATTR.unpack(task.copy_from_user(arg, KVM_DEVICE_ATTR.size))
    if attr.group != KVM_VCPU_TSC_CTRL or attr.attr != KVM_VCPU_TSC_OFFSET:
        raise KernelError(ENXIO, f"a vCPU has no attribute {attr.group, attr.attr}")
    return attr


def _has_attr(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_HAS_DEVICE_ATTR. EFAULT, ENXIO."""
    _require(file.vcpu, without(KVM_CAP_VCPU_ATTRIBUTES))
    _attr(task, arg)
    return 0


def _get_attr(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_DEVICE_ATTR. EFAULT, ENXIO, EFAULT."""
    _require(file.vcpu, without(KVM_CAP_VCPU_ATTRIBUTES))
    offset = file.vcpu.tsc_offset.to_bytes(_U64, "little")
    task.copy_to_user(_attr(task, arg).addr, offset)
    return 0


def _set_attr(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_DEVICE_ATTR. EFAULT, ENXIO, EFAULT."""
    _require(file.vcpu, without(KVM_CAP_VCPU_ATTRIBUTES))
    data = task.copy_from_user(_attr(task, arg).addr, _U64)
    file.vcpu.tsc_offset = int.from_bytes(data, "little")
    return 0


def _get_stats_fd(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_STATS_FD: the fd of the vCPU's statistics. EINVAL before 5.14; EMFILE."""
    vcpu = file.vcpu
    statistics = recorded(vcpu.vm.kernel).vcpu_statistics
    if statistics is None:
        raise KernelError(EINVAL, "this kernel has no such request")
    data = stats.content(f"kvm-{vcpu.vm.number}/vcpu-{vcpu.vcpu_id}", statistics)
    return task.files.install(stats.StatsFile(vcpu.vm, data))


# -- the rest --------------------------------------------------------------------------------------


def _set_signal_mask(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_SIGNAL_MASK; null: none. EFAULT; EINVAL for another size of sigset_t; EFAULT."""
    mask = None
    if arg:
        size = KVM_SIGNAL_MASK.unpack(task.copy_from_user(arg, KVM_SIGNAL_MASK.size)).len
        if size != _SIGSET:
            raise KernelError(EINVAL, f"a sigset_t has {_SIGSET} bytes, not {size}")
        mask = task.copy_from_user(arg + KVM_SIGNAL_MASK.size, _SIGSET)
    file.vcpu.signal_mask = mask
    return 0


def _translate(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_TRANSLATE. EFAULT. Without paging every address is its own."""
    asked = KVM_TRANSLATION.unpack(task.copy_from_user(arg, KVM_TRANSLATION.size))
    vcpu, physical = file.vcpu, asked.linear_address
    if vcpu.paging:
        if vcpu.vm.has_guest_memory(vcpu.sregs.cr3 & ~0xFFF, 8):
            raise NotModelled("page tables in guest memory are not read")
        physical = _INVALID_GPA
    answer = asked._replace(
        physical_address=physical, valid=int(physical != _INVALID_GPA), writeable=1, usermode=0
    )
    task.copy_to_user(arg, KVM_TRANSLATION.pack(answer))
    return 0


def _set_guest_debug(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_GUEST_DEBUG. EFAULT; EBUSY: an exception is on its way, and no other can be."""
    debug = KVM_GUEST_DEBUG.unpack(task.copy_from_user(arg, KVM_GUEST_DEBUG.size))
    vcpu, control = file.vcpu, debug.control
    if control & (KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP):
        injects_db = control & KVM_GUESTDBG_INJECT_DB
        vcpu.events.debugger_injects(DB_VECTOR if injects_db else BP_VECTOR)
    rflags = KVM_REGS.unpack(get_regs(vcpu)).rflags  # without what the debugger before this added
    vcpu.guest_debug = control if control & KVM_GUESTDBG_ENABLE else 0
    vcpu.regs = vcpu.regs._replace(rflags=rflags)
    return 0


def _get_nested_state(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_NESTED_STATE. EFAULT; E2BIG: the size field then says what it takes; EFAULT."""
    size_at = arg + KVM_NESTED_STATE.offsets["size"]
    room = int.from_bytes(task.copy_from_user(size_at, 4), "little")
    size = KVM_NESTED_STATE.size
    if room < size:
        task.copy_to_user(size_at, size.to_bytes(4, "little"))
        raise KernelError(E2BIG, f"the state has {size} bytes, and there is room for {room}")
    flags = KVM_STATE_NESTED_GIF_SET if file.vcpu.gif else 0
    state = KVM_NESTED_STATE.pack_fields(flags, KVM_STATE_NESTED_FORMAT_SVM, size, bytes(120))
    task.copy_to_user(arg, state)
    return 0


def _set_nested_state(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_NESTED_STATE.

    EFAULT; EINVAL: the size, flags that nobody knows or that contradict each other, then another
    format than AMD's, a flag of Intel's, or a state that needs EFER.SVME.
    """
    state = KVM_NESTED_STATE.unpack(task.copy_from_user(arg, KVM_NESTED_STATE.size))
    if state.size < KVM_NESTED_STATE.size:
        raise KernelError(EINVAL, f"the state has {KVM_NESTED_STATE.size} bytes")
    guest_mode = state.flags & KVM_STATE_NESTED_GUEST_MODE
    if state.flags & ~_NESTED_FLAGS or (
        state.flags & KVM_STATE_NESTED_RUN_PENDING and not guest_mode
    ):
        raise KernelError(EINVAL, f"the flags {state.flags:#x} make no sense")
    if state.format != KVM_STATE_NESTED_FORMAT_SVM:
        raise KernelError(EINVAL, f"format {state.format} is not AMD's")
    if state.flags & _NESTED_FLAGS_OF_VMX:
        raise KernelError(EINVAL, "these flags are Intel's")
    allowed = {KVM_STATE_NESTED_GIF_SET}
    if not file.vcpu.profile.gif_needs_svme:
        allowed.add(0)
    if not file.vcpu.sregs.efer & _EFER_SVME and state.flags not in allowed:
        raise KernelError(EINVAL, "without EFER.SVME there is nothing but the GIF")
    if guest_mode:
        raise NotModelled("a nested guest is not modelled")
    file.vcpu.gif = bool(state.flags & KVM_STATE_NESTED_GIF_SET)
    return 0


_NESTED_FLAGS_OF_VMX = KVM_STATE_NESTED_EVMCS | KVM_STATE_NESTED_MTF_PENDING
_NESTED_FLAGS = (
    KVM_STATE_NESTED_GUEST_MODE
    | KVM_STATE_NESTED_RUN_PENDING
    | KVM_STATE_NESTED_GIF_SET
    | _NESTED_FLAGS_OF_VMX
)


def _enable_cap(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_ENABLE_CAP on a vCPU. EFAULT; EINVAL; ENOTTY: what Intel's processors have."""
    asked = KVM_ENABLE_CAP_LAYOUT.unpack(task.copy_from_user(arg, KVM_ENABLE_CAP_LAYOUT.size))
    known = recorded(file.vcpu.vm.kernel).extensions
    if asked.flags:
        raise KernelError(EINVAL, f"there are no flags {asked.flags:#x}")
    if asked.cap in (KVM_CAP_HYPERV_SYNIC, KVM_CAP_HYPERV_SYNIC2):
        if (asked.cap == KVM_CAP_HYPERV_SYNIC2 and asked.arg0) or not (
            file.vcpu.vm.irqchip_in_kernel
        ):
            raise KernelError(EINVAL, "a SynIC needs KVM's interrupt controller")
        raise NotModelled("Hyper-V's SynIC is not modelled")
    if asked.cap in (KVM_CAP_HYPERV_ENLIGHTENED_VMCS, KVM_CAP_HYPERV_DIRECT_TLBFLUSH):
        raise KernelError(ENOTTY, "AMD's processors have no such thing")
    if asked.cap in (KVM_CAP_HYPERV_ENFORCE_CPUID, KVM_CAP_ENFORCE_PV_FEATURE_CPUID):
        if asked.cap not in known:
            raise KernelError(EINVAL, f"this kernel has no capability {asked.cap}")
        if asked.arg0:
            raise NotModelled("refusing paravirtual MSRs that CPUID does not have")
        return 0
    raise KernelError(EINVAL, f"capability {asked.cap} is not a vCPU's")


# -- registers by name -----------------------------------------------------------------------------

_ARCHITECTURE, _X86 = 0xFF << 56, 0x20 << 56
_SIZE, _SIZE_U64 = 0xF << 52, 3 << 52
_RESERVED, _TYPE, _TYPE_MSR = 0xF_FF << 40, 0xFF << 32, 2 << 32


def _one_reg(vcpu: Vcpu, task: Task, arg: int) -> tuple[int, int]:
    """The MSR meant and where its value is. EINVAL before 6.18; EFAULT; EINVAL: no such register.

    Of KVM's own registers there is one, the shadow stack pointer, which no processor here has.
    """
    _require(vcpu, without(KVM_CAP_ONE_REG))
    asked = KVM_ONE_REG.unpack(task.copy_from_user(arg, KVM_ONE_REG.size))
    kind = asked.id & (_ARCHITECTURE | _RESERVED | _TYPE | _SIZE)
    if kind != _X86 | _TYPE_MSR | _SIZE_U64:
        raise KernelError(EINVAL, f"{asked.id:#x} is no register of this vCPU")
    return asked.id & _MASK32, asked.addr


def _get_one_reg(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_ONE_REG. See `_one_reg`; EINVAL; EFAULT."""
    index, address = _one_reg(file.vcpu, task, arg)
    there, value = file.vcpu.msrs.get(index, 0)
    if not there:
        raise KernelError(EINVAL, f"there is no MSR {index:#x}")
    task.copy_to_user(address, value.to_bytes(_U64, "little"))
    return 0


def _set_one_reg(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_SET_ONE_REG. See `_one_reg`; EFAULT; EINVAL."""
    index, address = _one_reg(file.vcpu, task, arg)
    value = int.from_bytes(task.copy_from_user(address, _U64), "little")
    if not file.vcpu.msrs.set(index, value)[0]:
        raise KernelError(EINVAL, f"MSR {index:#x} cannot be {value:#x}")
    return 0


def _get_reg_list(file: VcpuFile, task: Task, arg: int) -> int:
    """KVM_GET_REG_LIST: none here. EINVAL before 6.18; EFAULT."""
    _require(file.vcpu, without(KVM_CAP_ONE_REG))
    task.copy_from_user(arg, _U64)
    task.copy_to_user(arg, bytes(_U64))
    return 0


def _not_modelled_with(capability: int, request: Request, note: str) -> Row:
    """The row of a request that is reported by name where the kernel has it. EINVAL elsewhere."""
    row = not_modelled(request, Argument.FIXED, note)

    def refuse(file: VcpuFile, task: Task, arg: int) -> int:
        _require(file.vcpu, without(capability))
        return row.handler(file, task, arg)

    return row._replace(handler=refuse, errnos=(EINVAL,))


X86_ROWS = (
    *_state_rows(),
    Row(KVM_GET_XSAVE2, _get_xsave2, Argument.FIXED, errnos=(EINVAL, EFAULT)),
    Row(KVM_SET_CPUID, _set_cpuid, Argument.COUNTED, errnos=(EFAULT, E2BIG, EINVAL)),
    Row(KVM_SET_CPUID2, _set_cpuid2, Argument.COUNTED, errnos=(EFAULT, E2BIG, EINVAL)),
    Row(KVM_GET_CPUID2, _get_cpuid2, Argument.COUNTED, errnos=(EFAULT, E2BIG)),
    Row(KVM_GET_MSRS, _get_msrs, Argument.COUNTED, errnos=(EFAULT, E2BIG)),
    Row(KVM_SET_MSRS, _set_msrs, Argument.COUNTED, errnos=(EFAULT, E2BIG)),
    Row(KVM_INTERRUPT, _interrupt, Argument.FIXED, errnos=(EFAULT, EINVAL, ENXIO, EEXIST)),
    Row(KVM_NMI, _nmi, Argument.VALUE),
    Row(KVM_SMI, _smi, Argument.VALUE),
    Row(KVM_X86_SETUP_MCE, _setup_mce, Argument.FIXED, errnos=(EFAULT, EINVAL)),
    Row(KVM_X86_SET_MCE, _set_mce, Argument.FIXED, errnos=(EFAULT, EINVAL)),
    Row(
        KVM_TPR_ACCESS_REPORTING,
        _tpr_access_reporting,
        Argument.FIXED,
        errnos=(EFAULT, EINVAL),
    ),
    Row(KVM_SET_VAPIC_ADDR, _set_vapic_addr, Argument.FIXED, errnos=(EINVAL, EFAULT)),
    Row(
        KVM_SET_TSC_KHZ,
        _set_tsc_khz,
        Argument.VALUE,
        Support.PARTIAL,
        "no clock runs",
        errnos=(EINVAL,),
    ),
    Row(KVM_GET_TSC_KHZ, _get_tsc_khz, Argument.VALUE),
    Row(KVM_KVMCLOCK_CTRL, _kvmclock_ctrl, Argument.VALUE, errnos=(EINVAL,)),
    Row(KVM_HAS_DEVICE_ATTR, _has_attr, Argument.FIXED, errnos=(EINVAL, EFAULT, ENXIO)),
    Row(KVM_GET_DEVICE_ATTR, _get_attr, Argument.FIXED, errnos=(EINVAL, EFAULT, ENXIO)),
    Row(KVM_SET_DEVICE_ATTR, _set_attr, Argument.FIXED, errnos=(EINVAL, EFAULT, ENXIO)),
    Row(KVM_SET_SIGNAL_MASK, _set_signal_mask, Argument.FIXED, errnos=(EFAULT, EINVAL)),
    Row(
        KVM_TRANSLATE,
        _translate,
        Argument.FIXED,
        Support.PARTIAL,
        "no page tables in guest memory",
        errnos=(EFAULT,),
    ),
    Row(KVM_SET_GUEST_DEBUG, _set_guest_debug, Argument.FIXED, errnos=(EFAULT, EBUSY)),
    Row(KVM_GET_NESTED_STATE, _get_nested_state, Argument.FIXED, errnos=(EFAULT, E2BIG)),
    Row(
        KVM_SET_NESTED_STATE,
        _set_nested_state,
        Argument.FIXED,
        Support.PARTIAL,
        "no nested guest",
        errnos=(EFAULT, EINVAL),
    ),
    Row(
        KVM_ENABLE_CAP,
        _enable_cap,
        Argument.FIXED,
        Support.PARTIAL,
        "no SynIC, and no capability that makes CPUID decide",
        errnos=(EFAULT, EINVAL, ENOTTY),
    ),
    Row(KVM_GET_ONE_REG, _get_one_reg, Argument.FIXED, errnos=(EINVAL, EFAULT)),
    Row(KVM_SET_ONE_REG, _set_one_reg, Argument.FIXED, errnos=(EINVAL, EFAULT)),
    Row(KVM_GET_REG_LIST, _get_reg_list, Argument.FIXED, errnos=(EINVAL, EFAULT)),
    not_modelled(KVM_GET_SUPPORTED_HV_CPUID, Argument.COUNTED, "of a vCPU"),
    _not_modelled_with(KVM_CAP_XEN_HVM, KVM_XEN_VCPU_GET_ATTR, "no Xen guests"),
    _not_modelled_with(KVM_CAP_XEN_HVM, KVM_XEN_VCPU_SET_ATTR, "no Xen guests"),
    _not_modelled_with(KVM_CAP_PRE_FAULT_MEMORY, KVM_PRE_FAULT_MEMORY, "no guest page tables"),
    Row(
        KVM_GET_STATS_FD,
        _get_stats_fd,
        Argument.VALUE,
        Support.PARTIAL,
        "host_state_reload does not count the requests",
        errnos=(EINVAL, EMFILE),
    ),
)
