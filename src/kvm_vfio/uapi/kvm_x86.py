# SPDX-License-Identifier: GPL-2.0-only
"""linux/kvm.h and asm/kvm.h: what is asked of KVM about an x86 processor, and of a vCPU.

Rule of this file: kernel names only. An array is `bytes`; a structure with a variable tail is its
fixed head, and the tail's element has a layout of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from kvm_vfio.uapi import kvm, kvm_vm
from kvm_vfio.uapi.kvm import KVMIO
from kvm_vfio.uapi.layout import UINT64, Layout, Request, io, ior, iow, iowr, u8, u16, u32, u64

# -- processors, described -------------------------------------------------------------------------


class kvm_cpuid_entry2(NamedTuple):
    """One leaf of CPUID."""

    function: u32
    index: u32  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    flags: u32
    eax: u32
    ebx: u32
    ecx: u32
    edx: u32
    padding: Annotated[bytes, "12s"]


class kvm_cpuid2(NamedTuple):
    """Followed by `nent` entries."""

    nent: u32
    padding: u32


class kvm_cpuid_entry(NamedTuple):
    """One leaf, as KVM_SET_CPUID takes it."""

    function: u32
    eax: u32
    ebx: u32
    ecx: u32
    edx: u32
    padding: u32


class kvm_cpuid(NamedTuple):
    """Followed by `nent` entries."""

    nent: u32
    padding: u32


class kvm_msr_list(NamedTuple):
    """Followed by `nmsrs` numbers of 32 bits."""

    nmsrs: u32


class kvm_msr_entry(NamedTuple):
    """One model-specific register."""

    index: u32  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    reserved: u32
    data: u64


class kvm_msrs(NamedTuple):
    """Followed by `nmsrs` entries."""

    nmsrs: u32
    pad: u32


KVM_CPUID_ENTRY2 = Layout(kvm_cpuid_entry2, size=40)
KVM_CPUID2 = Layout(kvm_cpuid2, size=8)
KVM_CPUID_ENTRY = Layout(kvm_cpuid_entry, size=24)
KVM_CPUID = Layout(kvm_cpuid, size=8)
KVM_MSR_LIST = Layout(kvm_msr_list, size=4)
KVM_MSR_ENTRY = Layout(kvm_msr_entry, size=16)
KVM_MSRS = Layout(kvm_msrs, size=8)

KVM_CPUID_FLAG_SIGNIFCANT_INDEX = 1 << 0
KVM_CPUID_FLAG_STATEFUL_FUNC = 1 << 1
KVM_CPUID_FLAG_STATE_READ_NEXT = 1 << 2

KVM_GET_MSR_INDEX_LIST = iowr("KVM_GET_MSR_INDEX_LIST", KVMIO, 0x02, KVM_MSR_LIST)
KVM_GET_SUPPORTED_CPUID = iowr("KVM_GET_SUPPORTED_CPUID", KVMIO, 0x05, KVM_CPUID2)
KVM_GET_EMULATED_CPUID = iowr("KVM_GET_EMULATED_CPUID", KVMIO, 0x09, KVM_CPUID2)
KVM_GET_MSR_FEATURE_INDEX_LIST = iowr("KVM_GET_MSR_FEATURE_INDEX_LIST", KVMIO, 0x0A, KVM_MSR_LIST)
KVM_GET_SUPPORTED_HV_CPUID = iowr("KVM_GET_SUPPORTED_HV_CPUID", KVMIO, 0xC1, KVM_CPUID2)
KVM_X86_GET_MCE_CAP_SUPPORTED = ior("KVM_X86_GET_MCE_CAP_SUPPORTED", KVMIO, 0x9D, UINT64)

# -- the registers of a vCPU -----------------------------------------------------------------------


class kvm_regs(NamedTuple):
    """The general registers."""

    rax: u64
    rbx: u64
    rcx: u64
    rdx: u64
    rsi: u64
    rdi: u64
    rsp: u64
    rbp: u64
    r8: u64
    r9: u64
    r10: u64
    r11: u64
    r12: u64
    r13: u64
    r14: u64
    r15: u64
    rip: u64
    rflags: u64


class kvm_segment(NamedTuple):
    """A segment register with its hidden part."""

    base: u64
    limit: u32
    selector: u16
    type: u8
    present: u8
    dpl: u8
    db: u8
    s: u8
    l: u8  # noqa: E741  # the header's own name
    g: u8
    avl: u8
    unusable: u8
    padding: u8


class kvm_dtable(NamedTuple):
    """The register of a descriptor table."""

    base: u64
    limit: u16
    padding: Annotated[bytes, "6s"]


class kvm_sregs(NamedTuple):
    """Special registers: segments are `kvm_segment`, gdt and idt `kvm_dtable`."""

    cs: Annotated[bytes, "24s"]
    ds: Annotated[bytes, "24s"]
    es: Annotated[bytes, "24s"]
    fs: Annotated[bytes, "24s"]
    gs: Annotated[bytes, "24s"]
    ss: Annotated[bytes, "24s"]
    tr: Annotated[bytes, "24s"]
    ldt: Annotated[bytes, "24s"]
    gdt: Annotated[bytes, "16s"]
    idt: Annotated[bytes, "16s"]
    cr0: u64
    cr2: u64
    cr3: u64
    cr4: u64
    cr8: u64
    efer: u64
    apic_base: u64
    interrupt_bitmap: Annotated[bytes, "32s"]


class kvm_sregs2(NamedTuple):
    """As kvm_sregs, with the page directory pointers instead of an interrupt."""

    cs: Annotated[bytes, "24s"]
    ds: Annotated[bytes, "24s"]
    es: Annotated[bytes, "24s"]
    fs: Annotated[bytes, "24s"]
    gs: Annotated[bytes, "24s"]
    ss: Annotated[bytes, "24s"]
    tr: Annotated[bytes, "24s"]
    ldt: Annotated[bytes, "24s"]
    gdt: Annotated[bytes, "16s"]
    idt: Annotated[bytes, "16s"]
    cr0: u64
    cr2: u64
    cr3: u64
    cr4: u64
    cr8: u64
    efer: u64
    apic_base: u64
    flags: u64
    pdptrs: Annotated[bytes, "32s"]


class kvm_fpu(NamedTuple):
    """The x87 and SSE registers, as FXSAVE has them but in another order."""

    fpr: Annotated[bytes, "128s"]
    fcw: u16
    fsw: u16
    ftwx: u8
    pad1: u8
    last_opcode: u16
    last_ip: u64
    last_dp: u64
    xmm: Annotated[bytes, "256s"]
    mxcsr: u32
    pad2: u32


class kvm_xsave(NamedTuple):
    """What XSAVE stores: the legacy area, the header at 512, the other components."""

    region: Annotated[bytes, "4096s"]


class kvm_xcrs(NamedTuple):
    """Extended control registers: `nr_xcrs` of 16."""

    nr_xcrs: u32
    flags: u32
    xcrs: Annotated[bytes, "256s"]
    padding: Annotated[bytes, "128s"]


class kvm_xcr(NamedTuple):
    """One extended control register."""

    xcr: u32
    reserved: u32
    value: u64


class kvm_debugregs(NamedTuple):
    """Debug registers: `db` is four addresses."""

    db: Annotated[bytes, "32s"]
    dr6: u64
    dr7: u64
    flags: u64
    reserved: Annotated[bytes, "72s"]


class kvm_vcpu_events(NamedTuple):
    """What is about to be delivered; `flags` says which fields count."""

    exception_injected: u8
    exception_nr: u8
    exception_has_error_code: u8
    exception_pending: u8
    exception_error_code: u32
    interrupt_injected: u8
    interrupt_nr: u8
    interrupt_soft: u8
    interrupt_shadow: u8
    nmi_injected: u8
    nmi_pending: u8
    nmi_masked: u8
    nmi_pad: u8
    sipi_vector: u32
    flags: u32
    smi_smm: u8
    smi_pending: u8
    smi_smm_inside_nmi: u8
    smi_latched_init: u8
    triple_fault_pending: u8
    reserved: Annotated[bytes, "26s"]
    exception_has_payload: u8
    exception_payload: u64


class kvm_mp_state(NamedTuple):
    """Whether the vCPU runs, waits or has not been started."""

    mp_state: u32


class kvm_lapic_state(NamedTuple):
    """The registers of the local APIC, as its page has them."""

    regs: Annotated[bytes, "1024s"]


KVM_REGS = Layout(kvm_regs, size=144)
KVM_SEGMENT = Layout(kvm_segment, size=24)
KVM_DTABLE = Layout(kvm_dtable, size=16)
KVM_SREGS = Layout(kvm_sregs, size=312)
KVM_SREGS2 = Layout(kvm_sregs2, size=320)
KVM_FPU = Layout(kvm_fpu, size=416)
KVM_XSAVE = Layout(kvm_xsave, size=4096)
KVM_XCR = Layout(kvm_xcr, size=16)
KVM_XCRS = Layout(kvm_xcrs, size=392)
KVM_DEBUGREGS = Layout(kvm_debugregs, size=128)
KVM_VCPU_EVENTS = Layout(kvm_vcpu_events, size=64)
KVM_MP_STATE = Layout(kvm_mp_state, size=4)
KVM_LAPIC_STATE = Layout(kvm_lapic_state, size=1024)

KVM_RUN = io("KVM_RUN", KVMIO, 0x80)
KVM_GET_REGS = ior("KVM_GET_REGS", KVMIO, 0x81, KVM_REGS)
KVM_SET_REGS = iow("KVM_SET_REGS", KVMIO, 0x82, KVM_REGS)
KVM_GET_SREGS = ior("KVM_GET_SREGS", KVMIO, 0x83, KVM_SREGS)
KVM_SET_SREGS = iow("KVM_SET_SREGS", KVMIO, 0x84, KVM_SREGS)
KVM_GET_MSRS = iowr("KVM_GET_MSRS", KVMIO, 0x88, KVM_MSRS)
KVM_SET_MSRS = iow("KVM_SET_MSRS", KVMIO, 0x89, KVM_MSRS)
KVM_SET_CPUID = iow("KVM_SET_CPUID", KVMIO, 0x8A, KVM_CPUID)
KVM_GET_FPU = ior("KVM_GET_FPU", KVMIO, 0x8C, KVM_FPU)
KVM_SET_FPU = iow("KVM_SET_FPU", KVMIO, 0x8D, KVM_FPU)
KVM_GET_LAPIC = ior("KVM_GET_LAPIC", KVMIO, 0x8E, KVM_LAPIC_STATE)
KVM_SET_LAPIC = iow("KVM_SET_LAPIC", KVMIO, 0x8F, KVM_LAPIC_STATE)
KVM_SET_CPUID2 = iow("KVM_SET_CPUID2", KVMIO, 0x90, KVM_CPUID2)
KVM_GET_CPUID2 = iowr("KVM_GET_CPUID2", KVMIO, 0x91, KVM_CPUID2)
KVM_GET_MP_STATE = ior("KVM_GET_MP_STATE", KVMIO, 0x98, KVM_MP_STATE)
KVM_SET_MP_STATE = iow("KVM_SET_MP_STATE", KVMIO, 0x99, KVM_MP_STATE)
KVM_GET_VCPU_EVENTS = ior("KVM_GET_VCPU_EVENTS", KVMIO, 0x9F, KVM_VCPU_EVENTS)
KVM_SET_VCPU_EVENTS = iow("KVM_SET_VCPU_EVENTS", KVMIO, 0xA0, KVM_VCPU_EVENTS)
KVM_GET_DEBUGREGS = ior("KVM_GET_DEBUGREGS", KVMIO, 0xA1, KVM_DEBUGREGS)
KVM_SET_DEBUGREGS = iow("KVM_SET_DEBUGREGS", KVMIO, 0xA2, KVM_DEBUGREGS)
KVM_GET_XSAVE = ior("KVM_GET_XSAVE", KVMIO, 0xA4, KVM_XSAVE)
KVM_SET_XSAVE = iow("KVM_SET_XSAVE", KVMIO, 0xA5, KVM_XSAVE)
KVM_GET_XCRS = ior("KVM_GET_XCRS", KVMIO, 0xA6, KVM_XCRS)
KVM_SET_XCRS = iow("KVM_SET_XCRS", KVMIO, 0xA7, KVM_XCRS)
KVM_GET_XSAVE2 = ior("KVM_GET_XSAVE2", KVMIO, 0xCF, KVM_XSAVE)
KVM_GET_SREGS2 = ior("KVM_GET_SREGS2", KVMIO, 0xCC, KVM_SREGS2)
KVM_SET_SREGS2 = iow("KVM_SET_SREGS2", KVMIO, 0xCD, KVM_SREGS2)

# -- what else a vCPU is asked ---------------------------------------------------------------------


class kvm_run(NamedTuple):
    """The head of a vCPU's memory; of the exits' own data only KVM_EXIT_FAIL_ENTRY's."""

    request_interrupt_window: u8
    immediate_exit: u8
    padding1: Annotated[bytes, "6s"]
    exit_reason: u32
    ready_for_interrupt_injection: u8
    if_flag: u8
    flags: u16
    cr8: u64
    apic_base: u64
    fail_entry_hardware_entry_failure_reason: u64
    fail_entry_cpu: u32
    rest: Annotated[bytes, "2308s"]


class kvm_interrupt(NamedTuple):
    """An interrupt vector."""

    irq: u32


class kvm_tpr_access_ctl(NamedTuple):
    """Whether accesses of the task priority are exits."""

    enabled: u32
    flags: u32
    reserved: Annotated[bytes, "32s"]


class kvm_vapic_addr(NamedTuple):
    """Where the guest keeps its task priority."""

    vapic_addr: u64


class kvm_x86_mce(NamedTuple):
    """A machine check."""

    status: u64
    addr: u64
    misc: u64
    mcg_status: u64
    bank: u8
    pad1: Annotated[bytes, "7s"]
    pad2: Annotated[bytes, "24s"]


class kvm_guest_debug(NamedTuple):
    """`debugreg` is eight registers."""

    control: u32
    pad: u32
    debugreg: Annotated[bytes, "64s"]


class kvm_translation(NamedTuple):
    """A linear address, and the physical one it leads to."""

    linear_address: u64
    physical_address: u64
    valid: u8
    writeable: u8
    usermode: u8
    pad: Annotated[bytes, "5s"]


class kvm_signal_mask(NamedTuple):
    """Followed by a sigset_t of `len` bytes."""

    len: u32


class kvm_nested_state(NamedTuple):
    """Followed by what the format has; `hdr` is the format's own head."""

    flags: u16
    format: u16
    size: u32
    hdr: Annotated[bytes, "120s"]


class kvm_one_reg(NamedTuple):
    """A register by name; `addr` is where its value is."""

    id: u64
    addr: u64


class kvm_reg_list(NamedTuple):
    """Followed by `n` names of registers."""

    n: u64


class kvm_xen_vcpu_attr(NamedTuple):
    """What a Xen guest's vCPU has; `u` is the attribute's own."""

    type: u16
    pad: Annotated[bytes, "6s"]
    u: Annotated[bytes, "64s"]


class kvm_pre_fault_memory(NamedTuple):
    """Guest memory to be mapped ahead. Bytes."""

    gpa: u64
    size: u64
    flags: u64
    padding: Annotated[bytes, "40s"]


KVM_ONE_REG = Layout(kvm_one_reg, size=16)
KVM_REG_LIST = Layout(kvm_reg_list, size=8)
KVM_XEN_VCPU_ATTR = Layout(kvm_xen_vcpu_attr, size=72)
KVM_PRE_FAULT_MEMORY_LAYOUT = Layout(kvm_pre_fault_memory, size=64)
KVM_RUN_LAYOUT = Layout(kvm_run, size=2352)
KVM_INTERRUPT_LAYOUT = Layout(kvm_interrupt, size=4)
KVM_TPR_ACCESS_CTL = Layout(kvm_tpr_access_ctl, size=40)
KVM_VAPIC_ADDR = Layout(kvm_vapic_addr, size=8)
KVM_X86_MCE = Layout(kvm_x86_mce, size=64)
KVM_GUEST_DEBUG = Layout(kvm_guest_debug, size=72)
KVM_TRANSLATION = Layout(kvm_translation, size=24)
KVM_SIGNAL_MASK = Layout(kvm_signal_mask, size=4)
KVM_NESTED_STATE = Layout(kvm_nested_state, size=128)

KVM_EXIT_FAIL_ENTRY = 9

KVM_MP_STATE_RUNNABLE = 0
KVM_MP_STATE_UNINITIALIZED = 1
KVM_MP_STATE_INIT_RECEIVED = 2
KVM_MP_STATE_HALTED = 3
KVM_MP_STATE_SIPI_RECEIVED = 4
KVM_MP_STATE_AP_RESET_HOLD = 9

KVM_VCPUEVENT_VALID_NMI_PENDING = 1 << 0
KVM_VCPUEVENT_VALID_SIPI_VECTOR = 1 << 1
KVM_VCPUEVENT_VALID_SHADOW = 1 << 2
KVM_VCPUEVENT_VALID_SMM = 1 << 3
KVM_VCPUEVENT_VALID_PAYLOAD = 1 << 4
KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 1 << 5

KVM_SREGS2_FLAGS_PDPTRS_VALID = 1 << 0

KVM_GUESTDBG_ENABLE = 1 << 0
KVM_GUESTDBG_SINGLESTEP = 1 << 1
KVM_GUESTDBG_USE_HW_BP = 1 << 17
KVM_GUESTDBG_INJECT_DB = 1 << 18
KVM_GUESTDBG_INJECT_BP = 1 << 19

KVM_STATE_NESTED_FORMAT_SVM = 1
KVM_STATE_NESTED_GUEST_MODE = 1 << 0
KVM_STATE_NESTED_RUN_PENDING = 1 << 1
KVM_STATE_NESTED_EVMCS = 1 << 2
KVM_STATE_NESTED_MTF_PENDING = 1 << 3
KVM_STATE_NESTED_GIF_SET = 1 << 8

KVM_VCPU_TSC_CTRL = 0
KVM_VCPU_TSC_OFFSET = 0

# Capabilities of a vCPU.
KVM_CAP_XEN_HVM = 38
KVM_CAP_HYPERV_SYNIC = 123
KVM_CAP_HYPERV_SYNIC2 = 148
KVM_CAP_HYPERV_ENLIGHTENED_VMCS = 163
KVM_CAP_HYPERV_DIRECT_TLBFLUSH = 175
KVM_CAP_ENFORCE_PV_FEATURE_CPUID = 190
KVM_CAP_HYPERV_ENFORCE_CPUID = 199
KVM_CAP_SREGS2 = 200
KVM_CAP_BINARY_STATS_FD = 203
KVM_CAP_XSAVE2 = 208
KVM_CAP_PRE_FAULT_MEMORY = 236

KVM_TRANSLATE = iowr("KVM_TRANSLATE", KVMIO, 0x85, KVM_TRANSLATION)
KVM_INTERRUPT = iow("KVM_INTERRUPT", KVMIO, 0x86, KVM_INTERRUPT_LAYOUT)
KVM_SET_SIGNAL_MASK = iow("KVM_SET_SIGNAL_MASK", KVMIO, 0x8B, KVM_SIGNAL_MASK)
KVM_TPR_ACCESS_REPORTING = iowr("KVM_TPR_ACCESS_REPORTING", KVMIO, 0x92, KVM_TPR_ACCESS_CTL)
KVM_SET_VAPIC_ADDR = iow("KVM_SET_VAPIC_ADDR", KVMIO, 0x93, KVM_VAPIC_ADDR)
KVM_NMI = io("KVM_NMI", KVMIO, 0x9A)
KVM_SET_GUEST_DEBUG = iow("KVM_SET_GUEST_DEBUG", KVMIO, 0x9B, KVM_GUEST_DEBUG)
KVM_X86_SETUP_MCE = iow("KVM_X86_SETUP_MCE", KVMIO, 0x9C, UINT64)
KVM_X86_SET_MCE = iow("KVM_X86_SET_MCE", KVMIO, 0x9E, KVM_X86_MCE)
KVM_KVMCLOCK_CTRL = io("KVM_KVMCLOCK_CTRL", KVMIO, 0xAD)
KVM_SMI = io("KVM_SMI", KVMIO, 0xB7)
KVM_GET_ONE_REG = iow("KVM_GET_ONE_REG", KVMIO, 0xAB, KVM_ONE_REG)
KVM_SET_ONE_REG = iow("KVM_SET_ONE_REG", KVMIO, 0xAC, KVM_ONE_REG)
KVM_GET_REG_LIST = iowr("KVM_GET_REG_LIST", KVMIO, 0xB0, KVM_REG_LIST)
KVM_XEN_VCPU_GET_ATTR = iowr("KVM_XEN_VCPU_GET_ATTR", KVMIO, 0xCA, KVM_XEN_VCPU_ATTR)
KVM_XEN_VCPU_SET_ATTR = iow("KVM_XEN_VCPU_SET_ATTR", KVMIO, 0xCB, KVM_XEN_VCPU_ATTR)
KVM_PRE_FAULT_MEMORY = iowr("KVM_PRE_FAULT_MEMORY", KVMIO, 0xD5, KVM_PRE_FAULT_MEMORY_LAYOUT)
KVM_GET_NESTED_STATE = iowr("KVM_GET_NESTED_STATE", KVMIO, 0xBE, KVM_NESTED_STATE)
KVM_SET_NESTED_STATE = iow("KVM_SET_NESTED_STATE", KVMIO, 0xBF, KVM_NESTED_STATE)

# -- which file takes what ------------------------------------------------------------------------


def _by_number(*requests: Request) -> Mapping[int, Request]:
    return {int(request): request for request in requests}


SYSTEM_REQUESTS = _by_number(
    KVM_GET_SUPPORTED_CPUID,
    KVM_GET_EMULATED_CPUID,
    KVM_GET_SUPPORTED_HV_CPUID,
    KVM_GET_MSR_INDEX_LIST,
    KVM_GET_MSR_FEATURE_INDEX_LIST,
    KVM_GET_MSRS,
    KVM_X86_GET_MCE_CAP_SUPPORTED,
)

VCPU_REQUESTS = _by_number(
    KVM_RUN,
    KVM_GET_ONE_REG,
    KVM_SET_ONE_REG,
    KVM_GET_REG_LIST,
    KVM_XEN_VCPU_GET_ATTR,
    KVM_XEN_VCPU_SET_ATTR,
    KVM_PRE_FAULT_MEMORY,
    KVM_GET_REGS,
    KVM_SET_REGS,
    KVM_GET_SREGS,
    KVM_SET_SREGS,
    KVM_GET_SREGS2,
    KVM_SET_SREGS2,
    KVM_TRANSLATE,
    KVM_INTERRUPT,
    KVM_GET_MSRS,
    KVM_SET_MSRS,
    KVM_SET_CPUID,
    KVM_SET_SIGNAL_MASK,
    KVM_GET_FPU,
    KVM_SET_FPU,
    KVM_GET_LAPIC,
    KVM_SET_LAPIC,
    KVM_SET_CPUID2,
    KVM_GET_CPUID2,
    KVM_TPR_ACCESS_REPORTING,
    KVM_SET_VAPIC_ADDR,
    KVM_GET_MP_STATE,
    KVM_SET_MP_STATE,
    KVM_NMI,
    KVM_SET_GUEST_DEBUG,
    KVM_X86_SETUP_MCE,
    KVM_X86_SET_MCE,
    KVM_GET_VCPU_EVENTS,
    KVM_SET_VCPU_EVENTS,
    KVM_GET_DEBUGREGS,
    KVM_SET_DEBUGREGS,
    kvm_vm.KVM_SET_TSC_KHZ,
    kvm_vm.KVM_GET_TSC_KHZ,
    KVM_GET_XSAVE,
    KVM_SET_XSAVE,
    KVM_GET_XSAVE2,
    KVM_GET_XCRS,
    KVM_SET_XCRS,
    KVM_KVMCLOCK_CTRL,
    KVM_SMI,
    KVM_GET_NESTED_STATE,
    KVM_SET_NESTED_STATE,
    kvm_vm.KVM_ENABLE_CAP,
    KVM_GET_SUPPORTED_HV_CPUID,
    kvm_vm.KVM_GET_STATS_FD,
    kvm.KVM_SET_DEVICE_ATTR,
    kvm.KVM_GET_DEVICE_ATTR,
    kvm.KVM_HAS_DEVICE_ATTR,
)
