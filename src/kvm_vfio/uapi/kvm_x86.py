# SPDX-License-Identifier: GPL-2.0-only
"""linux/kvm.h and asm/kvm.h: what is asked of KVM about an x86 processor, and of a vCPU.

Rule of this file: kernel names only. An array is `bytes`; a structure with a variable tail is its
fixed head, and the tail's element has a layout of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from kvm_vfio.uapi.kvm import KVMIO
from kvm_vfio.uapi.layout import Layout, Request, io, ior, iow, iowr, u8, u16, u32, u64

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


class _u64(NamedTuple):
    value: u64


_U64 = Layout(_u64, size=8)

KVM_GET_MSR_INDEX_LIST = iowr("KVM_GET_MSR_INDEX_LIST", KVMIO, 0x02, KVM_MSR_LIST)
KVM_GET_SUPPORTED_CPUID = iowr("KVM_GET_SUPPORTED_CPUID", KVMIO, 0x05, KVM_CPUID2)
KVM_GET_EMULATED_CPUID = iowr("KVM_GET_EMULATED_CPUID", KVMIO, 0x09, KVM_CPUID2)
KVM_GET_MSR_FEATURE_INDEX_LIST = iowr("KVM_GET_MSR_FEATURE_INDEX_LIST", KVMIO, 0x0A, KVM_MSR_LIST)
KVM_GET_SUPPORTED_HV_CPUID = iowr("KVM_GET_SUPPORTED_HV_CPUID", KVMIO, 0xC1, KVM_CPUID2)
KVM_X86_GET_MCE_CAP_SUPPORTED = ior("KVM_X86_GET_MCE_CAP_SUPPORTED", KVMIO, 0x9D, _U64)

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
KVM_GET_STATS_FD = io("KVM_GET_STATS_FD", KVMIO, 0xCE)

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
