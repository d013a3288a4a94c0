# SPDX-License-Identifier: GPL-2.0-only
"""Machine checks that a VMM sets up and reports (arch/x86/kvm/x86.c).

Rule of this file: a bank has four registers: what is checked, then status, address and more of the
last error; an error that is not yet read is not overwritten by a lesser one.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.kvm.recorded import recorded
from kvm_vfio.kernel.x86.events import MC_VECTOR
from kvm_vfio.kernel.x86.msr import MAX_MCE_BANKS, MCG_CMCI_P, MCG_CTL_P, MCG_STATUS
from kvm_vfio.kernel.x86.registers import CR4_MCE
from kvm_vfio.uapi.kvm_x86 import kvm_x86_mce

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

_ALL = (1 << 64) - 1
_COUNTS = 0xFF00FF  # how many banks there are, and how many extended registers
_OF_AMD = 0x1FF  # what svm_setup_mce leaves: the number of banks, and MCG_CTL
_MCIP = 1 << 2  # of MCG_STATUS: a machine check is being handled
_VALID, _OVERFLOW, _UNCORRECTED = 1 << 63, 1 << 62, 1 << 61
_CONTEXT_CORRUPT, _SIGNALLED, _ACTION_REQUIRED = 1 << 57, 1 << 56, 1 << 55


def setup_mce(vcpu: Vcpu, capabilities: int) -> None:
    """KVM_X86_SETUP_MCE. EINVAL: no bank, more than 32, or what KVM does not support."""
    banks = capabilities & 0xFF
    if not 0 < banks <= MAX_MCE_BANKS:
        raise KernelError(EINVAL, f"there are 1 to {MAX_MCE_BANKS} banks")
    if capabilities & ~(recorded(vcpu.vm.kernel).mce_cap | _COUNTS):
        raise KernelError(EINVAL, f"machine checks cannot do all of {capabilities:#x}")
    msrs = vcpu.msrs
    msrs.mcg_cap = capabilities & _OF_AMD
    if capabilities & MCG_CTL_P:
        msrs.mcg_ctl = _ALL
    for bank in range(banks):
        msrs.banks[4 * bank] = _ALL
        if capabilities & MCG_CMCI_P:
            msrs.ctl2[bank] = 0


def set_mce(vcpu: Vcpu, mce: kvm_x86_mce) -> None:
    """KVM_X86_SET_MCE. EINVAL: no such bank, or an error that is not valid."""
    msrs = vcpu.msrs
    if mce.bank >= msrs.mcg_cap & 0xFF or not mce.status & _VALID:
        raise KernelError(EINVAL, f"bank {mce.bank} with status {mce.status:#x}")
    at = 4 * mce.bank
    control, status = msrs.banks[at], msrs.banks[at + 1]
    if _needs_no_action(mce):
        _write(vcpu, at, mce, mce.status, reports=True)
    elif mce.status & _UNCORRECTED:
        _uncorrected(vcpu, at, mce, control, status)
    elif status & _VALID and status & _UNCORRECTED:
        msrs.banks[at + 1] |= _OVERFLOW
    else:
        _write(vcpu, at, mce, mce.status | (_OVERFLOW if status & _VALID else 0), reports=False)


def _needs_no_action(mce: kvm_x86_mce) -> bool:
    """is_ucna."""
    others = _CONTEXT_CORRUPT | _SIGNALLED | _ACTION_REQUIRED
    uncorrected = bool(mce.status & _UNCORRECTED)
    return not mce.mcg_status and not mce.status & others and uncorrected


def _uncorrected(vcpu: Vcpu, at: int, mce: kvm_x86_mce, control: int, status: int) -> None:
    msrs = vcpu.msrs
    if (msrs.mcg_cap & MCG_CTL_P and msrs.mcg_ctl != _ALL) or control != _ALL:
        return  # reporting is off
    if msrs.stored(MCG_STATUS) & _MCIP or not vcpu.sregs.cr4 & CR4_MCE:
        vcpu.events.triple_fault = True
        return
    _write(vcpu, at, mce, mce.status | (_OVERFLOW if status & _VALID else 0), reports=True)
    vcpu.events.queue_exception(MC_VECTOR)


def _write(vcpu: Vcpu, at: int, mce: kvm_x86_mce, status: int, *, reports: bool) -> None:
    vcpu.msrs.banks[at + 1 : at + 4] = [status, mce.addr, mce.misc]
    if reports:
        vcpu.msrs.store(MCG_STATUS, mce.mcg_status)
