# SPDX-License-Identifier: GPL-2.0-only
"""Whether a vCPU runs, waits for its start, or halts (arch/x86/kvm/x86.c, lapic.c).

Rule of this file: only a local APIC of KVM's can hold a vCPU back; without one it is runnable.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.uapi.kvm_x86 import (
    KVM_MP_STATE,
    KVM_MP_STATE_AP_RESET_HOLD,
    KVM_MP_STATE_HALTED,
    KVM_MP_STATE_INIT_RECEIVED,
    KVM_MP_STATE_RUNNABLE,
    KVM_MP_STATE_SIPI_RECEIVED,
    KVM_MP_STATE_UNINITIALIZED,
    KVM_SEGMENT,
    kvm_mp_state,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

_OF_LAPIC = frozenset(
    {
        KVM_MP_STATE_UNINITIALIZED,
        KVM_MP_STATE_HALTED,
        KVM_MP_STATE_AP_RESET_HOLD,
        KVM_MP_STATE_INIT_RECEIVED,
        KVM_MP_STATE_SIPI_RECEIVED,
    }
)
_STARTING = (KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_SIPI_RECEIVED)


def get_mp_state(vcpu: Vcpu) -> bytes:
    """KVM_GET_MP_STATE: an INIT or a SIPI that is pending is received first."""
    _accept_events(vcpu)
    return KVM_MP_STATE.pack_fields(vcpu.mp_state)


def set_mp_state(vcpu: Vcpu, new: kvm_mp_state) -> None:
    """KVM_SET_MP_STATE.

    EINVAL: no such state; all but RUNNABLE without a local APIC of KVM's; INIT and SIPI while an
    SMI, SMM or a clear GIF holds them back.
    """
    wanted = new.mp_state
    known = wanted in _OF_LAPIC or not vcpu.profile.mp_states_checked
    allowed = wanted == KVM_MP_STATE_RUNNABLE or (known and vcpu.apic is not None)
    if not allowed:
        raise KernelError(EINVAL, f"this vCPU cannot have state {wanted}")
    held_back = _held_back(vcpu) or vcpu.events.smi_pending
    if wanted in _STARTING and held_back and vcpu.profile.blocked_init_is_refused:
        raise KernelError(EINVAL, "INIT and SIPI are held back")
    if wanted == KVM_MP_STATE_SIPI_RECEIVED:
        vcpu.mp_state = KVM_MP_STATE_INIT_RECEIVED
        vcpu.events.sipi_pending = True
    else:
        vcpu.mp_state = wanted


def _held_back(vcpu: Vcpu) -> bool:
    return vcpu.events.smm or not vcpu.gif


def _accept_events(vcpu: Vcpu) -> None:
    """kvm_apic_accept_events."""
    events = vcpu.events
    if not events.sipi_pending and not events.latched_init:
        return
    if _held_back(vcpu):
        events.sipi_pending = False
        return
    if events.latched_init:
        raise NotModelled("the reset of a vCPU by INIT is not modelled")
    events.sipi_pending = False
    if vcpu.mp_state == KVM_MP_STATE_INIT_RECEIVED:
        _start(vcpu, events.sipi_vector)


def _start(vcpu: Vcpu, vector: int) -> None:
    """kvm_vcpu_deliver_sipi_vector: the vCPU begins at page `vector`."""
    cs = KVM_SEGMENT.unpack(vcpu.sregs.cs)
    selector = vector << 8 & 0xFFFF
    cs = cs._replace(selector=selector, base=vector << 12)
    vcpu.sregs = vcpu.sregs._replace(cs=KVM_SEGMENT.pack(cs))
    vcpu.regs = vcpu.regs._replace(rip=0)
    vcpu.mp_state = KVM_MP_STATE_RUNNABLE
