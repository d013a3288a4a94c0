# SPDX-License-Identifier: GPL-2.0-only
"""The registers that KVM_GET_REGS and KVM_GET_SREGS show, and what may be put into them.

Rule of this file: what is kept is what AMD's VMCB can hold (arch/x86/kvm/svm/svm.c), so a segment
reads back as the processor would have it, not as it was written.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EINVAL
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.x86.cpuid import (
    FSGSBASE,
    FXSR_OPT,
    LA57,
    LAM,
    LM,
    NX,
    PCID,
    PKU,
    SHSTK,
    SMAP,
    SMEP,
    SVM,
    UMIP,
    VMX,
    XSAVE,
    Feature,
)
from kvm_vfio.uapi.kvm_x86 import (
    KVM_REGS,
    KVM_SEGMENT,
    KVM_SREGS,
    KVM_SREGS2,
    KVM_SREGS2_FLAGS_PDPTRS_VALID,
    kvm_regs,
    kvm_sregs,
    kvm_sregs2,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

RFLAGS_FIXED, RFLAGS_TF, RFLAGS_IF_SHIFT = 1 << 1, 1 << 8, 9
CR0_PE, CR0_NW, CR0_CD, CR0_PG = 1 << 0, 1 << 29, 1 << 30, 1 << 31
CR4_PAE, CR4_MCE, CR4_OSXSAVE, CR4_PKE = 1 << 5, 1 << 6, 1 << 18, 1 << 22
EFER_LME, EFER_LMA = 1 << 8, 1 << 10
_CR8_MAX = 0xF
_BYTE_GRANULAR = 0xFFFFF  # the largest limit that is counted in bytes

# VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT: every processor that KVM runs on has them.
_CR4_ALWAYS = 0x7FF
_CR4_OF_FEATURE: dict[int, Feature] = {
    1 << 11: UMIP,
    1 << 12: LA57,
    1 << 13: VMX,
    1 << 16: FSGSBASE,
    1 << 17: PCID,
    CR4_OSXSAVE: XSAVE,
    1 << 20: SMEP,
    1 << 21: SMAP,
    CR4_PKE: PKU,
    1 << 23: SHSTK,
    1 << 28: LAM,
}
_EFER_OF_FEATURE: dict[int, Feature] = {
    EFER_LME: LM,
    EFER_LMA: LM,
    1 << 11: NX,
    1 << 12: SVM,
    1 << 14: FXSR_OPT,
}
_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "tr", "ldt")


# -- general registers -----------------------------------------------------------------------------


def get_regs(vcpu: Vcpu) -> bytes:
    """KVM_GET_REGS. The trap flag is the debugger's while it steps."""
    regs = vcpu.regs
    if vcpu.debugger_steps:
        regs = regs._replace(rflags=regs.rflags & ~RFLAGS_TF)
    return KVM_REGS.pack(regs)


def set_regs(vcpu: Vcpu, regs: kvm_regs) -> None:
    """KVM_SET_REGS: anything goes. An exception that was pending is forgotten."""
    vcpu.regs = regs._replace(rflags=regs.rflags | RFLAGS_FIXED)
    vcpu.events.exception_pending = False


# -- special registers -----------------------------------------------------------------------------


def get_sregs(vcpu: Vcpu) -> bytes:
    """KVM_GET_SREGS."""
    return KVM_SREGS.pack(
        vcpu.sregs._replace(cr8=vcpu.cr8, interrupt_bitmap=vcpu.events.interrupt_bitmap())
    )


def set_sregs(vcpu: Vcpu, sregs: kvm_sregs) -> None:
    """KVM_SET_SREGS. EINVAL: CR0, CR3, CR4, EFER and CS do not fit together, or the APIC's base."""
    _set_common(vcpu, sregs)
    if vcpu.pae_paging:
        vcpu.load_pdptrs()
    pending = int.from_bytes(sregs.interrupt_bitmap, "little")
    if pending:
        vcpu.events.queue_interrupt((pending & -pending).bit_length() - 1)


def get_sregs2(vcpu: Vcpu) -> bytes:
    """KVM_GET_SREGS2: with the page directory pointers where PAE paging uses them."""
    flags, pdptrs = 0, bytes(32)
    if vcpu.pae_paging:
        vcpu.load_pdptrs()
        flags, pdptrs = KVM_SREGS2_FLAGS_PDPTRS_VALID, vcpu.pdptrs
    common = vcpu.sregs._replace(cr8=vcpu.cr8)[:-1]
    return KVM_SREGS2.pack(kvm_sregs2(*common, flags, pdptrs))


def set_sregs2(vcpu: Vcpu, sregs2: kvm_sregs2) -> None:
    """KVM_SET_SREGS2. EINVAL: unknown flags, or pointers without PAE paging; as KVM_SET_SREGS."""
    if sregs2.flags & ~KVM_SREGS2_FLAGS_PDPTRS_VALID:
        raise KernelError(EINVAL, f"there are no flags {sregs2.flags:#x}")
    valid = bool(sregs2.flags)
    pae = sregs2.cr0 & CR0_PG and sregs2.cr4 & CR4_PAE and not sregs2.efer & EFER_LMA
    if valid and not pae:
        raise KernelError(EINVAL, "page directory pointers are for PAE paging only")
    _set_common(vcpu, kvm_sregs(*sregs2[:-2], bytes(32)))
    if valid:
        vcpu.pdptrs = sregs2.pdptrs
    elif vcpu.pae_paging:
        vcpu.load_pdptrs()


def _set_common(vcpu: Vcpu, sregs: kvm_sregs) -> None:
    """__set_sregs_common."""
    _require_valid(vcpu, sregs)
    if not vcpu.set_apic_base(sregs.apic_base):
        raise KernelError(EINVAL, f"the APIC's base cannot be {sregs.apic_base:#x}")
    segments = {name: _as_kept(name, getattr(sregs, name)) for name in _SEGMENTS}
    gdt, idt = (bytes(table[:10]) + bytes(6) for table in (sregs.gdt, sregs.idt))
    changed = vcpu.sregs.cr4 ^ sregs.cr4
    sregs = sregs._replace(**segments)  # type: ignore[arg-type]  # segments are bytes
    vcpu.sregs = sregs._replace(
        gdt=gdt, idt=idt, apic_base=vcpu.sregs.apic_base, interrupt_bitmap=bytes(32)
    )
    if sregs.cr8 <= _CR8_MAX:
        vcpu.cr8 = sregs.cr8
    if changed & (CR4_OSXSAVE | CR4_PKE):
        vcpu.cpuid.update_runtime()
    vcpu.wake_on_reset()


def _require_valid(vcpu: Vcpu, sregs: kvm_sregs) -> None:
    """kvm_is_valid_sregs. EINVAL."""
    if sregs.efer & EFER_LME and sregs.cr0 & CR0_PG:
        if not sregs.cr4 & CR4_PAE or not sregs.efer & EFER_LMA:
            raise KernelError(EINVAL, "64-bit mode needs CR4.PAE and EFER.LMA")
        if sregs.cr3 >> vcpu.cpuid.maxphyaddr:
            raise KernelError(EINVAL, f"CR3 {sregs.cr3:#x} is no physical address")
    elif sregs.efer & EFER_LMA or KVM_SEGMENT.unpack(sregs.cs).l:
        raise KernelError(EINVAL, "EFER.LMA and a 64-bit CS are for 64-bit mode only")
    if vcpu.profile.sregs_check_efer and not _valid_efer(vcpu, sregs.efer):
        raise KernelError(EINVAL, f"EFER {sregs.efer:#x} has bits that this processor has not")
    if sregs.cr4 & vcpu.cr4_reserved:
        raise KernelError(EINVAL, f"CR4 {sregs.cr4:#x} has bits that are reserved")
    if vcpu.profile.sregs_check_cr0 and not _valid_cr0(sregs.cr0):
        raise KernelError(EINVAL, f"CR0 {sregs.cr0:#x} is not possible")


def _valid_efer(vcpu: Vcpu, efer: int) -> bool:
    """kvm_valid_efer."""
    missing = sum(bit for bit, f in _EFER_OF_FEATURE.items() if not vcpu.cpuid.has(f))
    return not efer & (vcpu.msrs.efer_reserved | missing)


def _valid_cr0(cr0: int) -> bool:
    if cr0 >> 32:
        return False
    return not (cr0 & CR0_NW and not cr0 & CR0_CD) and not (cr0 & CR0_PG and not cr0 & CR0_PE)


def cr4_reserved(has: Callable[[Feature], bool]) -> int:
    """The bits of CR4 that a processor with these features reserves."""
    allowed = sum(bit for bit, feature in _CR4_OF_FEATURE.items() if has(feature))
    return ~(_CR4_ALWAYS | allowed) & (1 << 64) - 1


def _as_kept(name: str, data: bytes) -> bytes:
    """What svm_get_segment says of a segment that svm_set_segment was given."""
    segment = KVM_SEGMENT.unpack(data)
    present = segment.present & 1 and not segment.unusable
    kind, db = segment.type & 0xF, segment.db & 1
    if name == "tr":
        kind |= 0x2  # busy
    elif name in ("ds", "es", "fs", "gs") and present:
        kind |= 0x1  # accessed
    elif name == "ss" and not present:
        db = 0
    return KVM_SEGMENT.pack(
        segment._replace(
            type=kind,
            present=int(bool(present)),
            dpl=segment.dpl & 3,
            db=db,
            s=segment.s & 1,
            l=segment.l & 1,
            g=int(segment.limit > _BYTE_GRANULAR),
            avl=segment.avl & 1,
            unusable=int(not present),
            padding=0,
        )
    )


def pdptrs_at(cr3: int) -> int:
    """Where in guest memory CR3 has the page directory pointers."""
    return cr3 & 0xFFFF_FFE0


def with_base(segment: bytes, base: int) -> bytes:
    """A segment that begins elsewhere: what writing MSR_FS_BASE does."""
    return base.to_bytes(8, "little") + segment[8:]


def base_of(segment: bytes) -> int:
    """Where a segment begins."""
    return int.from_bytes(segment[:8], "little")
