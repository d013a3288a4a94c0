# SPDX-License-Identifier: GPL-2.0-only
"""The local APIC of a vCPU, where KVM has it (arch/x86/kvm/lapic.c).

Rule of this file: the registers are a page that can be read and written; no timer runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.x86.cpuid import X2APIC
from kvm_vfio.kernel.x86.interrupt import Interrupt
from kvm_vfio.uapi.kvm_x86 import KVM_LAPIC_STATE, kvm_lapic_state

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

APIC_ID, APIC_LVR, APIC_TASKPRI, APIC_PROCPRI, APIC_ISR = 0x20, 0x30, 0x80, 0xA0, 0x100
APIC_SPIV, APIC_TMR, APIC_IRR, APIC_LVT0, APIC_TMCCT = 0xF0, 0x180, 0x200, 0x350, 0x390
_SW_ENABLED = 1 << 8
_EVERYBODY = 0xFF
_PLAIN, _EXTINT = (0, 1), 7  # delivery modes: fixed, lowest priority; the PIC's
_MASKED = 1 << 16
_DIRECTED_EOI = 1 << 24
_WORD = 4

BSP, X2APIC_ENABLE, ENABLE = 1 << 8, 1 << 10, 1 << 11
_BASE_RESERVED = 0x2FF


class Lapic:
    """The registers of one local APIC. `fresh` is the page of the first vCPU's."""

    def __init__(self, vcpu: Vcpu, fresh: bytes) -> None:
        self._vcpu = vcpu
        self._regs = bytearray(fresh)
        self._version = self._get(APIC_LVR)
        self._in_service = False  # whether KVM has counted an interrupt in service
        self.reset_id()
        if not vcpu.is_bsp:
            self._set(APIC_LVT0, _MASKED)

    def _get(self, register: int) -> int:
        return int.from_bytes(self._regs[register : register + _WORD], "little")

    def _set(self, register: int, value: int) -> None:
        self._regs[register : register + _WORD] = value.to_bytes(_WORD, "little")

    def reset_id(self) -> None:
        """kvm_apic_set_xapic_id: the vCPU's own number, of which 8 bits fit."""
        self._set(APIC_ID, (self._vcpu.vcpu_id & 0xFF) << 24)

    def set_version(self) -> None:
        """kvm_apic_set_version."""
        directed = self._vcpu.cpuid.has(X2APIC) and not self._vcpu.vm.pic_in_kernel
        self._set(APIC_LVR, self._version | (_DIRECTED_EOI if directed else 0))

    @property
    def cr8(self) -> int:
        """The task priority as CR8 shows it."""
        return self._get(APIC_TASKPRI) >> 4 & 0xF

    @cr8.setter
    def cr8(self, value: int) -> None:
        self._set(APIC_TASKPRI, value << 4)
        self._update_priority()

    def _update_priority(self) -> None:
        """apic_update_ppr."""
        in_service = self._isr().bit_length() - 1 if self._in_service else -1
        class_in_service = max(in_service, 0) & 0xF0
        task = self._get(APIC_TASKPRI) & 0xFF
        self._set(APIC_PROCPRI, task if task & 0xF0 >= class_in_service else class_in_service)

    def _isr(self) -> int:
        """The interrupts in service, a bit a vector: eight registers, 16 bytes apart."""
        places = range(APIC_ISR, APIC_ISR + 128, 16)
        return int.from_bytes(b"".join(self._regs[at : at + _WORD] for at in places), "little")

    # -- interrupts --------------------------------------------------------------------------------

    def is_meant(self, interrupt: Interrupt) -> bool:
        """kvm_apic_match_dest. NotModelled: logical destinations, once a guest has enabled one."""
        base = self._vcpu.sregs.apic_base
        if not base & ENABLE:
            return False
        if base & X2APIC_ENABLE:
            raise NotModelled("interrupts to an x2APIC are not modelled")
        if interrupt.logical:
            if self.is_enabled:
                raise NotModelled("interrupts to logical destinations are not modelled")
            return False
        return interrupt.destination in (self._get(APIC_ID) >> 24, _EVERYBODY)

    @property
    def is_enabled(self) -> bool:
        """kvm_apic_sw_enabled: the guest has enabled it."""
        return bool(self._get(APIC_SPIV) & _SW_ENABLED)

    def accept(self, interrupt: Interrupt) -> int:
        """__apic_accept_irq: 1; 0: it is disabled. NotModelled: an NMI and its like."""
        if interrupt.mode == _EXTINT:
            return 0
        if interrupt.mode not in _PLAIN:
            raise NotModelled(f"interrupts of delivery mode {interrupt.mode} are not modelled")
        if not self.is_enabled:
            return 0
        self._set_vector(APIC_IRR, interrupt.vector, there=True)
        self._set_vector(APIC_TMR, interrupt.vector, there=interrupt.level_triggered)
        return 1

    def _set_vector(self, first: int, vector: int, *, there: bool) -> None:
        register, bit = first + vector // 32 * 16, 1 << vector % 32
        bits = self._get(register)
        self._set(register, bits | bit if there else bits & ~bit)

    # -- state -------------------------------------------------------------------------------------

    def get(self) -> bytes:
        """KVM_GET_LAPIC."""
        return bytes(self._regs)

    def set(self, state: kvm_lapic_state) -> None:
        """KVM_SET_LAPIC: as it is, but for the version, the priority and the counter."""
        if self._vcpu.sregs.apic_base & X2APIC_ENABLE:
            raise NotModelled("KVM_SET_LAPIC in x2APIC mode is not modelled")
        self._regs = bytearray(state.regs[: KVM_LAPIC_STATE.size])
        self.set_version()
        self._update_priority()
        self._in_service = self._isr() != 0  # counted only now
        self._set(APIC_TMCCT, 0)


def valid_base(vcpu: Vcpu, base: int) -> bool:
    """kvm_set_apic_base: no reserved bits, and a mode that there is."""
    reserved = _BASE_RESERVED | ~((1 << vcpu.cpuid.maxphyaddr) - 1)
    if not vcpu.cpuid.has(X2APIC):
        reserved |= X2APIC_ENABLE
    return not base & reserved and base & (ENABLE | X2APIC_ENABLE) != X2APIC_ENABLE
