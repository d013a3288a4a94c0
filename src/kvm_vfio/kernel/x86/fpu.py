# SPDX-License-Identifier: GPL-2.0-only
"""The x87, SSE and extended registers (arch/x86/kernel/fpu/core.c and xstate.c).

Rule of this file: the area is kept as XSAVE lays it out. A component that XSTATE_BV does not have
is in its initial state, whatever the area holds there.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.x86.cpuid import xcr0_of
from kvm_vfio.uapi.kvm_x86 import (
    KVM_FPU,
    KVM_XCR,
    KVM_XCRS,
    kvm_cpuid_entry2,
    kvm_fpu,
    kvm_xcrs,
    kvm_xsave,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

FP, SSE, YMM, PKRU = 1 << 0, 1 << 1, 1 << 2, 1 << 9
_BNDREGS, _BNDCSR = 1 << 3, 1 << 4
_AVX512 = 7 << 5
_XTILE = 3 << 17
_MAX_XCRS = 16
_MXCSR_MASK = 0xFFFF  # where the fresh area does not say it

# Where the parts of the legacy area are: the x87 state without MXCSR, MXCSR, the XMM registers.
_X87_HEAD, _MXCSR, _X87_STACK, _XMM = (
    slice(0, 24),
    slice(24, 32),
    slice(32, 160),
    slice(160, 416),
)
_HEADER, _EXTENDED = 512, 576
_HEADER_REST = slice(520, 576)  # XCOMP_BV and what is reserved


class Fpu:
    """The registers of one vCPU."""

    def __init__(self, vcpu: Vcpu, fresh: bytes, supported: tuple[kvm_cpuid_entry2, ...]) -> None:
        self._vcpu = vcpu
        self._init = fresh
        self._area = bytearray(fresh)
        self._area[_HEADER:_EXTENDED] = bytes(_EXTENDED - _HEADER)
        self._xstate_bv = 0
        self._supported = xcr0_of(supported)
        self._mxcsr_mask = int.from_bytes(fresh[28:32], "little") or _MXCSR_MASK
        self._components = {
            # of the extended components: where each is, as leaf 0xD says
            1 << entry.index: slice(entry.ebx, entry.ebx + entry.eax)
            for entry in supported
            if entry.function == 0xD and entry.index >= 2 and entry.eax  # noqa: PLR2004
        }

    # -- the legacy area ---------------------------------------------------------------------------

    def get_fpu(self) -> bytes:
        """KVM_GET_FPU: without MXCSR."""
        area = self._area
        word = int.from_bytes
        return KVM_FPU.pack(
            kvm_fpu(
                fpr=bytes(area[_X87_STACK]),
                fcw=word(area[0:2], "little"),
                fsw=word(area[2:4], "little"),
                ftwx=area[4],
                pad1=0,
                last_opcode=word(area[6:8], "little"),
                last_ip=word(area[8:16], "little"),
                last_dp=word(area[16:24], "little"),
                xmm=bytes(area[_XMM]),
                mxcsr=0,
                pad2=0,
            )
        )

    def set_fpu(self, fpu: kvm_fpu) -> None:
        """KVM_SET_FPU: as it is, and without MXCSR."""
        area = self._area
        area[0:6] = fpu.fcw.to_bytes(2, "little") + fpu.fsw.to_bytes(2, "little") + bytes(2)
        area[4] = fpu.ftwx
        area[6:8] = fpu.last_opcode.to_bytes(2, "little")
        area[8:24] = fpu.last_ip.to_bytes(8, "little") + fpu.last_dp.to_bytes(8, "little")
        area[_X87_STACK], area[_XMM] = fpu.fpr, fpu.xmm

    # -- all of it ---------------------------------------------------------------------------------

    def get_xsave(self) -> bytes:
        """KVM_GET_XSAVE: what is not in use, or not enabled in the guest's CPUID, is initial."""
        shown = self._xstate_bv & (self._vcpu.cpuid.xcr0 | FP | SSE)
        by_component = self._vcpu.profile.xsave_by_component
        result = bytearray(self._init if by_component else bytes(len(self._init)))
        legacy = (
            (FP, _X87_HEAD),
            (SSE | YMM, _MXCSR),
            (FP, _X87_STACK),
            (SSE, _XMM),
        )
        for features, place in legacy:
            if shown & features or not by_component:
                result[place] = self._area[place]
        result[_HEADER : _HEADER + 8] = shown.to_bytes(8, "little")
        for feature, place in self._components.items():
            if shown & feature:
                result[place] = self._area[place]
        if shown & PKRU and by_component:  # which KVM keeps itself, without the padding
            at = self._components[PKRU].start
            result[at + 4 : at + 8] = bytes(4)
        return bytes(result)

    def set_xsave(self, xsave: kvm_xsave) -> None:
        """KVM_SET_XSAVE.

        EINVAL: components that KVM does not support, the compacted format or reserved bytes of the
        header, reserved bits of MXCSR.
        """
        new = xsave.region
        xstate_bv = int.from_bytes(new[_HEADER : _HEADER + 8], "little")
        if xstate_bv & ~self._supported:
            raise KernelError(EINVAL, f"components {xstate_bv:#x} are not all supported")
        by_component = self._vcpu.profile.xsave_by_component
        if by_component and any(new[_HEADER_REST]):
            raise KernelError(EINVAL, "the header has reserved bytes that are not 0")
        uses_mxcsr = xstate_bv & (FP | SSE | YMM) or not by_component
        if uses_mxcsr and int.from_bytes(new[24:28], "little") & ~self._mxcsr_mask:
            raise KernelError(EINVAL, "MXCSR has reserved bits set")
        if not by_component:
            self._area[:_HEADER] = new[:_HEADER]
        else:
            self._take_legacy(new, xstate_bv)
        for feature, place in self._components.items():
            if xstate_bv & feature:
                self._area[place] = new[place]
        self._xstate_bv = xstate_bv

    def _take_legacy(self, new: bytes, xstate_bv: int) -> None:
        if xstate_bv & (FP | SSE | YMM):
            self._area[_MXCSR] = new[_MXCSR]
        if xstate_bv & FP:
            self._area[_X87_HEAD], self._area[_X87_STACK] = new[_X87_HEAD], new[_X87_STACK]
        if xstate_bv & SSE:
            self._area[_XMM] = new[_XMM]

    # -- XCR0 --------------------------------------------------------------------------------------

    def get_xcrs(self) -> bytes:
        """KVM_GET_XCRS: there is one register, XCR0."""
        xcr0 = KVM_XCR.pack_fields(0, 0, self._vcpu.xcr0)
        return KVM_XCRS.pack(kvm_xcrs(1, 0, xcr0 + bytes(256 - KVM_XCR.size), bytes(128)))

    def set_xcrs(self, xcrs: kvm_xcrs) -> None:
        """KVM_SET_XCRS. EINVAL: more than 16, flags, or a value that XCR0 cannot have."""
        if xcrs.nr_xcrs > _MAX_XCRS or xcrs.flags:
            raise KernelError(EINVAL, "there are at most 16 registers, and no flags")
        for number in range(xcrs.nr_xcrs):
            at = number * KVM_XCR.size
            register = KVM_XCR.unpack(xcrs.xcrs[at : at + KVM_XCR.size])
            if register.xcr == 0:
                self._set_xcr0(register.value)
                return

    def _set_xcr0(self, value: int) -> None:
        """__kvm_set_xcr."""
        if not _possible(value) or value & ~(self._vcpu.cpuid.xcr0 | FP):
            raise KernelError(EINVAL, f"XCR0 cannot be {value:#x}")
        self._vcpu.xcr0 = value
        self._vcpu.cpuid.update_runtime()


def _possible(xcr0: int) -> bool:
    if not xcr0 & FP or (xcr0 & YMM and not xcr0 & SSE):
        return False
    if bool(xcr0 & _BNDREGS) != bool(xcr0 & _BNDCSR):
        return False
    if xcr0 & _AVX512 and not (xcr0 & YMM and xcr0 & _AVX512 == _AVX512):
        return False
    return not xcr0 & _XTILE or xcr0 & _XTILE == _XTILE
