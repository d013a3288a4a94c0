# SPDX-License-Identifier: GPL-2.0-only
"""What is on its way to a guest: exceptions, interrupts, NMIs, SMIs (arch/x86/kvm/x86.c).

Rule of this file: nothing is ever delivered, since no guest code runs; what is queued stays queued
and can be read back.
"""

from __future__ import annotations

from errno import EBUSY, EINVAL
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.uapi.kvm_x86 import (
    KVM_VCPU_EVENTS,
    KVM_VCPUEVENT_VALID_NMI_PENDING,
    KVM_VCPUEVENT_VALID_PAYLOAD,
    KVM_VCPUEVENT_VALID_SHADOW,
    KVM_VCPUEVENT_VALID_SIPI_VECTOR,
    KVM_VCPUEVENT_VALID_SMM,
    KVM_VCPUEVENT_VALID_TRIPLE_FAULT,
    kvm_vcpu_events,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

DB_VECTOR, NMI_VECTOR, BP_VECTOR, OF_VECTOR, DF_VECTOR, GP_VECTOR, MC_VECTOR = 1, 2, 3, 4, 8, 13, 18
_CONTRIBUTORY = (0, 10, 11, 12, 13, 14)  # divide error, TSS, segment, stack, protection, page
_EXCEPTIONS = 32
_SHADOW = 3  # AMD has one shadow, which is STI's and MOV SS's
_MP_STATE_INIT_RECEIVED = 2
_KNOWN = (
    KVM_VCPUEVENT_VALID_NMI_PENDING
    | KVM_VCPUEVENT_VALID_SIPI_VECTOR
    | KVM_VCPUEVENT_VALID_SHADOW
    | KVM_VCPUEVENT_VALID_SMM
    | KVM_VCPUEVENT_VALID_PAYLOAD
)
_REPORTED = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM


class Events:
    """The queues of one vCPU."""

    def __init__(self, vcpu: Vcpu) -> None:
        self._vcpu = vcpu
        # The exception, its number and the rest, as the structure has them.
        self.exception_injected = False
        self.exception_pending = False
        self.exception_nr = 0
        self.has_error_code = 0
        self.error_code = 0
        self.has_payload = 0
        self.payload = 0
        self.interrupt_injected = False
        self.interrupt_nr = 0
        self.interrupt_soft = 0
        self.shadow = 0
        self.nmi_injected = False
        self.nmi_pending = 0
        self.nmi_masked = False
        self._nmi_queued = 0
        self.smm = False
        self.smi_pending = False
        self._smi_queued = False
        self.smm_inside_nmi = False
        self.latched_init = False
        self.sipi_pending = False
        self.sipi_vector = 0
        self.triple_fault = False
        self.external_vector: int | None = None  # from a PIC in user space

    # -- what other requests queue -----------------------------------------------------------------

    def queue_exception(self, vector: int) -> None:
        """kvm_queue_exception of one that comes with nothing: it takes the place of another.

        One after a double fault is a triple fault.
        """
        if (self.exception_pending or self.exception_injected) and self.exception_nr == DF_VECTOR:
            self.triple_fault = True
            return
        self.exception_pending, self.exception_injected = True, False
        self.exception_nr, self.has_error_code, self.error_code = vector, 0, 0
        self.has_payload, self.payload = 0, 0

    def inject_gp(self) -> None:
        """kvm_inject_gp: a second exception of its kind makes a double fault."""
        before = self.exception_nr if self.exception_pending or self.exception_injected else None
        if before == DF_VECTOR:
            self.triple_fault = True
            return
        self.queue_exception(DF_VECTOR if before in _CONTRIBUTORY else GP_VECTOR)
        self.has_error_code = 1

    def queue_interrupt(self, vector: int) -> None:
        """kvm_queue_interrupt."""
        self.interrupt_injected, self.interrupt_nr, self.interrupt_soft = True, vector, 0

    def interrupt_bitmap(self) -> bytes:
        """The interrupt as KVM_GET_SREGS shows it."""
        if not self.interrupt_injected or self.interrupt_soft:
            return bytes(32)
        return (1 << self.interrupt_nr).to_bytes(32, "little")

    def nmi(self) -> None:
        """KVM_NMI."""
        self._nmi_queued += 1

    def smi(self) -> None:
        """KVM_SMI: pending from the next look at the events on."""
        self._smi_queued = True

    def debugger_injects(self, vector: int) -> None:
        """KVM_SET_GUEST_DEBUG's exception. EBUSY: there is one already."""
        waits = self._vcpu.profile.debugger_waits_for_injected and self.exception_injected
        if self.exception_pending or self.triple_fault or waits:
            raise KernelError(EBUSY, f"exception {self.exception_nr} is on its way")
        self.queue_exception(vector)

    def _process_nmi(self) -> None:
        """process_nmi: one at a time while NMIs are blocked, else two."""
        limit = 1 if self.nmi_masked or self.nmi_injected else 2
        self.nmi_pending = min(self.nmi_pending + self._nmi_queued, limit)
        self._nmi_queued = 0

    # -- all of it ---------------------------------------------------------------------------------

    def get(self) -> bytes:
        """KVM_GET_VCPU_EVENTS."""
        self._process_nmi()
        self.smi_pending, self._smi_queued = self.smi_pending or self._smi_queued, False
        vm = self._vcpu.vm
        soft = self.exception_nr in (BP_VECTOR, OF_VECTOR)  # they will happen again by themselves
        pending = self.exception_pending and not soft
        injected = self.exception_injected and not soft
        if not vm.exception_payload:
            injected |= pending
        counted = self._vcpu.profile.pending_nmis_counted
        flags = _REPORTED
        flags |= KVM_VCPUEVENT_VALID_PAYLOAD if vm.exception_payload else 0
        flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT if vm.triple_fault_event else 0
        return KVM_VCPU_EVENTS.pack(
            kvm_vcpu_events(
                exception_injected=int(injected),
                exception_nr=self.exception_nr,
                exception_has_error_code=self.has_error_code,
                exception_pending=int(pending),
                exception_error_code=self.error_code,
                interrupt_injected=int(self.interrupt_injected and not self.interrupt_soft),
                interrupt_nr=self.interrupt_nr,
                interrupt_soft=0,
                interrupt_shadow=self.shadow,
                nmi_injected=int(self.nmi_injected),
                nmi_pending=self.nmi_pending if counted else int(self.nmi_pending != 0),
                nmi_masked=int(self.nmi_masked),
                nmi_pad=0,
                sipi_vector=0,
                flags=flags,
                smi_smm=int(self.smm),
                smi_pending=int(self.smi_pending),
                smi_smm_inside_nmi=int(self.smm_inside_nmi),
                smi_latched_init=int(self.latched_init),
                triple_fault_pending=int(vm.triple_fault_event and self.triple_fault),
                reserved=bytes(26),
                exception_has_payload=self.has_payload,
                exception_payload=self.payload,
            )
        )

    def set(self, events: kvm_vcpu_events) -> None:
        """KVM_SET_VCPU_EVENTS.

        EINVAL: unknown flags; a payload that the VM has not enabled; an exception above 31, or an
        NMI as one; an SMI while an INIT is being received. At last, with everything else done,
        EINVAL for a triple fault that the VM has not enabled.
        """
        self._require_valid(events)
        with_payload = bool(events.flags & KVM_VCPUEVENT_VALID_PAYLOAD)
        pending = bool(events.exception_pending) and with_payload
        self._process_nmi()
        self.exception_pending = pending
        self.exception_injected = bool(events.exception_injected) and not pending
        self.exception_nr = events.exception_nr
        self.has_error_code = int(events.exception_has_error_code != 0)
        self.error_code = events.exception_error_code
        self.has_payload = int(pending and events.exception_has_payload != 0)
        self.payload = events.exception_payload
        self.interrupt_injected = bool(events.interrupt_injected)
        self.interrupt_nr = events.interrupt_nr
        self.interrupt_soft = int(events.interrupt_soft != 0)
        if events.flags & KVM_VCPUEVENT_VALID_SHADOW:
            self.shadow = _SHADOW if events.interrupt_shadow else 0
        self.nmi_injected = bool(events.nmi_injected)
        if events.flags & KVM_VCPUEVENT_VALID_NMI_PENDING:
            self.nmi_pending = events.nmi_pending
            if self._vcpu.profile.pending_nmis_counted:  # as many as can be, from the next look on
                self.nmi_pending, self._nmi_queued = 0, events.nmi_pending
        self.nmi_masked = bool(events.nmi_masked)
        if events.flags & KVM_VCPUEVENT_VALID_SIPI_VECTOR and self._vcpu.apic is not None:
            self.sipi_vector = events.sipi_vector
        if events.flags & KVM_VCPUEVENT_VALID_SMM:
            self._set_smm(events)
        if events.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT:
            if not self._vcpu.vm.triple_fault_event:
                raise KernelError(EINVAL, "the VM has not enabled KVM_CAP_X86_TRIPLE_FAULT_EVENT")
            self.triple_fault = bool(events.triple_fault_pending)

    def _require_valid(self, events: kvm_vcpu_events) -> None:
        known = _KNOWN
        if self._vcpu.profile.triple_fault_events:
            known |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT
        if events.flags & ~known:
            raise KernelError(EINVAL, f"there are no flags {events.flags & ~known:#x}")
        with_payload = events.flags & KVM_VCPUEVENT_VALID_PAYLOAD
        if with_payload and not self._vcpu.vm.exception_payload:
            raise KernelError(EINVAL, "the VM has not enabled KVM_CAP_EXCEPTION_PAYLOAD")
        exception = events.exception_injected or (with_payload and events.exception_pending)
        if exception and (events.exception_nr >= _EXCEPTIONS or events.exception_nr == NMI_VECTOR):
            raise KernelError(EINVAL, f"{events.exception_nr} is no exception")
        if (
            events.flags & KVM_VCPUEVENT_VALID_SMM
            and (events.smi_smm or events.smi_pending)
            and self._vcpu.mp_state == _MP_STATE_INIT_RECEIVED
        ):
            raise KernelError(EINVAL, "an INIT is received, which SMM would hold back")

    def _set_smm(self, events: kvm_vcpu_events) -> None:
        if not events.smi_smm:
            self.smm_inside_nmi = False
        else:
            self.smm_inside_nmi = bool(events.smi_smm_inside_nmi)
        self.smm = bool(events.smi_smm)
        self.smi_pending = bool(events.smi_pending)
        if self._vcpu.apic is not None:
            self.latched_init = bool(events.smi_latched_init)
