# SPDX-License-Identifier: GPL-2.0-only
"""Model-specific registers, one at a time and many at a time (arch/x86/kvm/x86.c, svm.c, mtrr.c).

Rule of this file: what a register takes, bit by bit, is what it was recorded to take. Where bits
depend on each other, or on other state, there is a function here with the name of the register.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from errno import E2BIG
from typing import TYPE_CHECKING

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.x86 import lapic
from kvm_vfio.kernel.x86.registers import EFER_LMA, base_of, with_base
from kvm_vfio.profiles.recording import KvmRecording, Msr
from kvm_vfio.uapi.kvm_x86 import KVM_MSR_ENTRY, KVM_MSRS

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu
    from kvm_vfio.kernel.task import Task

_MAX_IO_MSRS = 256
_MASK64 = (1 << 64) - 1

DoMsr = Callable[[int, int], tuple[bool, int]]
"""(index, data) -> whether the register took part, and the data afterwards."""


def msr_io(task: Task, arg: int, do_msr: DoMsr, *, writeback: bool) -> int:
    """One list of registers: how many of them `do_msr` took. EFAULT; E2BIG; EFAULT.

    An unknown register ends the list, and that is no error.
    """
    count = KVM_MSRS.unpack(task.copy_from_user(arg, KVM_MSRS.size)).nmsrs
    if count >= _MAX_IO_MSRS:
        raise KernelError(E2BIG, f"{count} registers are more than {_MAX_IO_MSRS - 1} at a time")
    at, size = arg + KVM_MSRS.size, KVM_MSR_ENTRY.size
    data = task.copy_from_user(at, count * size) if count else b""
    entries = [KVM_MSR_ENTRY.unpack(data[i * size : (i + 1) * size]) for i in range(count)]
    done = 0
    for entry in entries:
        taken, data_after = do_msr(entry.index, entry.data)
        entries[done] = entry._replace(data=data_after)
        if not taken:
            break
        done += 1
    if writeback and count:
        task.copy_to_user(at, b"".join(map(KVM_MSR_ENTRY.pack, entries)))
    return done


# -- registers with rules --------------------------------------------------------------------------

APIC_BASE, TSC, MISC_ENABLE = 0x1B, 0x10, 0x1A0
MCG_CAP, MCG_STATUS, MCG_CTL = 0x179, 0x17A, 0x17B
MC0_CTL, MC0_CTL2, MAX_MCE_BANKS = 0x400, 0x280, 32
_MACHINE_CHECKS = range(MC0_CTL, MC0_CTL + 4 * MAX_MCE_BANKS)
MTRR_BASE, MTRR_DEFAULT, PAT = 0x200, 0x2FF, 0x277
X2APIC_FIRST, X2APIC_LAST = 0x800, 0x8FF
EFER, FS_BASE, GS_BASE = 0xC000_0080, 0xC000_0100, 0xC000_0101
PLATFORM_INFO, _CPUID_FAULT = 0xCE, 1 << 31
MISC_FEATURES_ENABLES = 0x140
_HV_VP_INDEX = 0x4000_0002
_SYSENTER = (0x175, 0x176)
_CANONICAL = (0xC000_0082, 0xC000_0083, 0xC000_0102, FS_BASE, GS_BASE)
_VM_CR, _VM_CR_LOCK_DIS, _VM_CR_DIS = 0xC001_0114, 1 << 3 | 1 << 4, 1 << 4
_KVM_WALL_CLOCK, _KVM_SYSTEM_TIME = 0x4B56_4D00, 0x4B56_4D01
_KVM_ASYNC_PF_EN, _KVM_ASYNC_PF_INT, _KVM_ASYNC_PF_ACK = 0x4B56_4D02, 0x4B56_4D06, 0x4B56_4D07
_ASYNC_PF_RESERVED, _ASYNC_PF_ON = 0x30, 1 | 8  # bits; both are needed for it to be on
_KVM_PV_EOI_EN = 0x4B56_4D04
_SAME = {0x11: _KVM_WALL_CLOCK, 0x12: _KVM_SYSTEM_TIME}  # the old number of each
_MTRR_FIXED = (0x250, 0x258, 0x259, *range(0x268, 0x270))
_MTRR_VARIABLE = range(MTRR_BASE, MTRR_BASE + 16)
_MTRR_TYPES = frozenset({0, 1, 4, 5, 6})
_PAT_TYPES = _MTRR_TYPES | {7}

# Hyper-V's registers that all vCPUs of a VM share, beside KVM's wall clock.
_OF_VM = frozenset(
    {
        _KVM_WALL_CLOCK,
        *range(0x4000_0000, 0x4000_0002),
        *range(0x4000_0020, 0x4000_0024),
        *range(0x4000_00F1, 0x4000_0100),
        *range(0x4000_0100, 0x4000_0109),
        0x4000_0118,
    }
)
_HV_GUEST_OS_ID, _HV_HYPERCALL = 0x4000_0000, 0x4000_0001


class Msrs:
    """The registers of one vCPU."""

    def __init__(self, vcpu: Vcpu, recorded: KvmRecording) -> None:
        self._vcpu = vcpu
        self._without, self._with = recorded.msrs, recorded.msrs_with_cpuid
        self._listed = (
            frozenset(recorded.msr_indices) if vcpu.profile.listed_msrs_read_zero else frozenset()
        )
        self._values: dict[int, int] = {}
        self.mcg_cap = MAX_MCE_BANKS
        self.mcg_ctl = 0
        self.banks = [0] * (4 * MAX_MCE_BANKS)
        self.ctl2 = [0] * MAX_MCE_BANKS

    def _known(self) -> Mapping[int, Msr]:
        return self._with if self._vcpu.cpuid.is_amd else self._without

    def stored(self, index: int) -> int:
        """The value of an ordinary register."""
        index = _SAME.get(index, index)
        values = self._vcpu.vm.msrs if index in _OF_VM else self._values
        if index in values:
            return values[index]
        if index == _HV_VP_INDEX:
            return self._vcpu.index
        known = self._known().get(index)
        return 0 if known is None or known.value is None else known.value

    def store(self, index: int, value: int) -> None:
        """Let an ordinary register have this value."""
        index = _SAME.get(index, index)
        (self._vcpu.vm.msrs if index in _OF_VM else self._values)[index] = value

    def kvmclock_active(self) -> bool:
        """Whether the guest reads its time from memory."""
        address = self.stored(_KVM_SYSTEM_TIME)
        return bool(address & 1) and self._vcpu.vm.has_guest_memory(address & ~1, 32)

    # -- read --------------------------------------------------------------------------------------

    def get(self, index: int, data: int) -> tuple[bool, int]:
        """do_get_msr: whether there is such a register, and its value.

        A register that is not there reads as 0; one that does not answer just now, in older
        kernels, leaves the data alone.
        """
        value = self._get(index)
        if value is not None:
            return True, value
        known_to_kvm = index in _MACHINE_CHECKS or X2APIC_FIRST <= index <= X2APIC_LAST
        untouched = known_to_kvm and not self._vcpu.profile.refused_msrs_read_zero
        return False, data if untouched else 0

    def _get(self, index: int) -> int | None:
        special = self._get_special(index)
        if special is not None:
            return special
        if self._machine_check(index):
            return self._get_machine_check(index)
        known = self._known().get(index)
        if known is None:
            if X2APIC_FIRST <= index <= X2APIC_LAST:
                self._require_no_x2apic(index)
                return None
            if index in self._listed:
                return 0
            raise NotModelled(f"MSR {index:#x} has not been recorded")
        if known.value is None and not known.clock:
            return None
        return self.stored(index)

    def _get_special(self, index: int) -> int | None:
        sregs = self._vcpu.sregs
        if index == EFER:
            return sregs.efer
        if index == APIC_BASE:
            return sregs.apic_base
        if index in (FS_BASE, GS_BASE) and self._known()[index].value is not None:
            return base_of(sregs.fs if index == FS_BASE else sregs.gs)
        return None

    def _require_no_x2apic(self, index: int) -> None:
        if self._vcpu.sregs.apic_base & lapic.X2APIC_ENABLE and self._vcpu.apic is not None:
            raise NotModelled(f"MSR {index:#x}: the x2APIC's registers are not modelled")

    # -- write -------------------------------------------------------------------------------------

    def set(self, index: int, data: int) -> tuple[bool, int]:
        """do_set_msr: whether the register took the value."""
        return self._rule(index)(index, data), data

    def _rule(self, index: int) -> Callable[[int, int], bool]:
        if self._machine_check(index):
            return self._set_machine_check
        return self._RULES.get(index, Msrs._set_plain).__get__(self)  # type: ignore[no-any-return]

    def _set_plain(self, index: int, data: int) -> bool:
        """The bits that were recorded to be taken, and of these the ones that are kept."""
        known = self._known().get(index)
        if known is None:
            if X2APIC_FIRST <= index <= X2APIC_LAST:
                self._require_no_x2apic(index)
                return False
            raise NotModelled(f"MSR {index:#x} has not been recorded")
        if data & ~known.taken or not (data or known.takes_zero):
            return False
        if known.clock:
            self.store(index, data)
        elif known.kept:
            self.store(index, data & known.kept)
        return True

    def _set_apic_base(self, index: int, data: int) -> bool:
        return self._vcpu.set_apic_base(data)

    @property
    def efer_reserved(self) -> int:
        """The bits of EFER that KVM knows no processor to have here."""
        return ~self._without[EFER].taken

    def _set_efer(self, index: int, data: int) -> bool:
        """set_efer by the VMM: LMA stays as it is."""
        sregs = self._vcpu.sregs
        if data & self.efer_reserved:
            return False
        efer = data & ~EFER_LMA | sregs.efer & EFER_LMA
        self._vcpu.sregs = sregs._replace(efer=efer)
        return True

    def _set_canonical(self, index: int, data: int) -> bool:
        """An address: the upper bits are all the same."""
        known = self._known()[index]
        if not known.takes_zero or _canonical(data, known.taken.bit_length() + 1) != data:
            return False
        if index == FS_BASE:
            self._vcpu.sregs = self._vcpu.sregs._replace(fs=with_base(self._vcpu.sregs.fs, data))
        elif index == GS_BASE:
            self._vcpu.sregs = self._vcpu.sregs._replace(gs=with_base(self._vcpu.sregs.gs, data))
        else:
            self.store(index, data)
        return True

    def _set_sysenter(self, index: int, data: int) -> bool:
        """Made an address, of which AMD's processors keep 32 bits."""
        kept = self._known()[index].kept
        bits = kept.bit_length() + 1
        narrow = kept == (1 << 32) - 1
        self.store(index, data & kept if narrow else _canonical(data, bits))
        return True

    def _set_memory_types(self, index: int, data: int) -> bool:
        """PAT and the fixed MTRRs: eight types, a byte each."""
        types = _PAT_TYPES if index == PAT else _MTRR_TYPES
        if not types.issuperset(data.to_bytes(8, "little")):
            return False
        self.store(index, data)
        return True

    def _set_mtrr_default(self, index: int, data: int) -> bool:
        if data & ~0xCFF or data & 0xFF not in _MTRR_TYPES:
            return False
        self.store(index, data)
        return True

    def _set_mtrr_variable(self, index: int, data: int) -> bool:
        """A base with a type, or a mask."""
        is_base = index % 2 == 0
        if is_base and data & 0xFF not in _MTRR_TYPES:
            return False
        low = 0xF00 if is_base else 0x7FF
        if data >> self._vcpu.cpuid.maxphyaddr or data & low:
            if self._vcpu.profile.bad_mtrr_injects_gp:
                self._vcpu.events.inject_gp()
            return False
        self.store(index, data)
        return True

    def _set_vm_cr(self, index: int, data: int) -> bool:
        """svm_set_vm_cr: once SVM is disabled, it stays so."""
        if data & ~self._known()[index].taken:
            return False
        old = self.stored(index)
        fixed = _VM_CR_LOCK_DIS if old & _VM_CR_DIS else 0
        self.store(index, old & fixed | data & ~fixed)
        return True

    def _set_platform_info(self, index: int, data: int) -> bool:
        """CPUID faulting cannot go away while it is on."""
        if not data & _CPUID_FAULT and self.stored(MISC_FEATURES_ENABLES):
            return False
        return self._set_plain(index, data)

    def _set_misc_features(self, index: int, data: int) -> bool:
        """CPUID faulting, where the platform has it."""
        if data and not self.stored(PLATFORM_INFO) & _CPUID_FAULT:
            return False
        return self._set_plain(index, data)

    def _set_async_pf(self, index: int, data: int) -> bool:
        """kvm_pv_enable_async_pf: on, it needs guest memory."""
        if data & _ASYNC_PF_RESERVED:
            return False
        if self._vcpu.apic is None:
            return not data
        on = data & _ASYNC_PF_ON == _ASYNC_PF_ON
        taken = not on or self._vcpu.vm.has_guest_memory(data & ~0x3F, 8)
        if taken or self._vcpu.profile.failed_async_pf_is_kept:
            self.store(index, data)
        return taken

    def _set_async_pf_int(self, index: int, data: int) -> bool:
        """The vector; without a local APIC of KVM's there is none."""
        if data >> 8 or self._vcpu.apic is None:
            return False
        self.store(index, data)
        return True

    def _set_hypercall(self, index: int, data: int) -> bool:
        """Ignored until the guest has said what it is."""
        if self.stored(_HV_GUEST_OS_ID):
            raise NotModelled("Hyper-V's hypercall page is not modelled")
        return True

    _RULES: Mapping[int, Callable[[Msrs, int, int], bool]] = {
        APIC_BASE: _set_apic_base,
        EFER: _set_efer,
        **dict.fromkeys(_CANONICAL, _set_canonical),
        **dict.fromkeys(_SYSENTER, _set_sysenter),
        **dict.fromkeys((PAT, *_MTRR_FIXED), _set_memory_types),
        MTRR_DEFAULT: _set_mtrr_default,
        **dict.fromkeys(_MTRR_VARIABLE, _set_mtrr_variable),
        _VM_CR: _set_vm_cr,
        PLATFORM_INFO: _set_platform_info,
        MISC_FEATURES_ENABLES: _set_misc_features,
        _KVM_ASYNC_PF_EN: _set_async_pf,
        _KVM_ASYNC_PF_INT: _set_async_pf_int,
        _HV_HYPERCALL: _set_hypercall,
    }

    # -- machine checks ----------------------------------------------------------------------------

    def _machine_check(self, index: int) -> bool:
        return index in _MACHINE_CHECKS or index in (MCG_CAP, MCG_CTL)

    def _get_machine_check(self, index: int) -> int | None:
        if index == MCG_CAP:
            return self.mcg_cap
        if index == MCG_CTL:
            return self.mcg_ctl
        return self.banks[index - MC0_CTL] if self._has_bank(index) else None

    def _has_bank(self, index: int) -> bool:
        return index - MC0_CTL < 4 * (self.mcg_cap & 0xFF)

    def _set_machine_check(self, index: int, data: int) -> bool:
        """set_msr_mce."""
        if index == MCG_CAP:
            return False
        if index == MCG_CTL:
            if data and (not self.mcg_cap & MCG_CTL_P or data != _MASK64):
                return False
            self.mcg_ctl = data
            return True
        if not self._has_bank(index):
            return False
        is_control = (index - MC0_CTL) % 4 == 0
        # Linux clears bit 10 of bank 4 on some AMD processors, and bit 0 of bank 0 on some of
        # Intel's; KVM takes both for all.
        if is_control and data and data | 1 << 10 | 1 != _MASK64:
            return False
        self.banks[index - MC0_CTL] = data
        return True


MCG_CTL_P, MCG_CMCI_P = 1 << 8, 1 << 10


def _canonical(address: int, bits: int) -> int:
    """The address of which the lower `bits` are these, the others as the highest of them."""
    low = address & (1 << bits) - 1
    return low | (_MASK64 << bits & _MASK64 if low >> bits - 1 else 0)
