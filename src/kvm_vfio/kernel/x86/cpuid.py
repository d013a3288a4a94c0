# SPDX-License-Identifier: GPL-2.0-only
"""The processor that a vCPU shows its guest (arch/x86/kvm/cpuid.c).

Rule of this file: the leaves are the caller's; KVM writes into them only what depends on the
processor's state, each time that state changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from errno import EINVAL
from typing import TYPE_CHECKING, NamedTuple

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.uapi.kvm_x86 import KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vcpu import Vcpu

MAX_CPUID_ENTRIES = 256  # KVM_MAX_CPUID_ENTRIES


class Feature(NamedTuple):
    """One bit of CPUID."""

    function: int
    leaf: int
    register: str
    bit: int


OSXSAVE = Feature(1, 0, "ecx", 27)
X2APIC = Feature(1, 0, "ecx", 21)
MWAIT = Feature(1, 0, "ecx", 3)
APIC = Feature(1, 0, "edx", 9)
PCID = Feature(1, 0, "ecx", 17)
VMX = Feature(1, 0, "ecx", 5)
XSAVE = Feature(1, 0, "ecx", 26)
TSC_DEADLINE = Feature(1, 0, "ecx", 24)
FSGSBASE = Feature(7, 0, "ebx", 0)
SMEP = Feature(7, 0, "ebx", 7)
SMAP = Feature(7, 0, "ebx", 20)
UMIP = Feature(7, 0, "ecx", 2)
PKU = Feature(7, 0, "ecx", 3)
OSPKE = Feature(7, 0, "ecx", 4)
SHSTK = Feature(7, 0, "ecx", 7)
LA57 = Feature(7, 0, "ecx", 16)
SVM = Feature(0x8000_0001, 0, "ecx", 2)
NX = Feature(0x8000_0001, 0, "edx", 20)
FXSR_OPT = Feature(0x8000_0001, 0, "edx", 25)
LM = Feature(0x8000_0001, 0, "edx", 29)
LAM = Feature(7, 1, "eax", 26)

_XSAVE_LEAF, _ADDRESS_LEAF, _EXTENDED_LEAF = 0xD, 0x8000_0008, 0x8000_0000
_XSAVEC_OR_XSAVES = 1 << 1 | 1 << 3
_LEGACY_AND_HEADER = 512 + 64  # bytes of an XSAVE area without extended components
_FP_AND_SSE = 3
_DEFAULT_MAXPHYADDR = 36
_VIRTUAL_BITS = (0, 48, 57)
# EBX, EDX, ECX of leaf 0: AuthenticAMD, HygonGenuine.
_AMD = ((0x68747541, 0x69746E65, 0x444D4163), (0x6F677948, 0x6E65476E, 0x656E6975))
_MISC_ENABLE, _MISC_ENABLE_MWAIT = 0x1A0, 1 << 18
_MASK32 = (1 << 32) - 1


def find(
    entries: Iterable[kvm_cpuid_entry2], function: int, leaf: int = 0
) -> kvm_cpuid_entry2 | None:
    """cpuid_entry2_find: the first entry that stands for this leaf."""
    for entry in entries:
        if entry.function == function and (
            entry.index == leaf or not entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX
        ):
            return entry
    return None


def has(entries: Iterable[kvm_cpuid_entry2], feature: Feature) -> bool:
    """Whether these leaves have a feature."""
    entry = find(entries, feature.function, feature.leaf)
    return entry is not None and bool(getattr(entry, feature.register) >> feature.bit & 1)


def xcr0_of(entries: Iterable[kvm_cpuid_entry2]) -> int:
    """The components that leaf 0xD allows in XCR0."""
    entry = find(entries, _XSAVE_LEAF)
    return 0 if entry is None else entry.eax | entry.edx << 32


def maxphyaddr_of(entries: Sequence[kvm_cpuid_entry2]) -> int:
    """cpuid_query_maxphyaddr: bits of a physical address."""
    extended, address = find(entries, _EXTENDED_LEAF), find(entries, _ADDRESS_LEAF)
    if extended is None or extended.eax < _ADDRESS_LEAF or address is None:
        return _DEFAULT_MAXPHYADDR
    return address.eax & 0xFF


class Cpuid:
    """The leaves of one vCPU. `supported` is what KVM_GET_SUPPORTED_CPUID says."""

    __slots__ = ("_supported", "_vcpu", "entries", "maxphyaddr", "set_once", "xcr0")

    def __init__(self, vcpu: Vcpu, supported: Sequence[kvm_cpuid_entry2]) -> None:
        self._vcpu = vcpu
        self._supported = supported
        self.entries: list[kvm_cpuid_entry2] = []
        self.set_once = False
        self._after_set()

    def has(self, feature: Feature) -> bool:
        """guest_cpuid_has."""
        return has(self.entries, feature)

    def kvm_has(self, feature: Feature) -> bool:
        """kvm_cpu_cap_has: what KVM supports at all."""
        return has(self._supported, feature)

    @property
    def is_amd(self) -> bool:
        """guest_cpuid_is_amd_or_hygon: the processor is AMD's or Hygon's."""
        vendor = find(self.entries, 0)
        return vendor is not None and (vendor.ebx, vendor.edx, vendor.ecx) in _AMD

    @property
    def supported_xcr0(self) -> int:
        """What KVM supports in XCR0."""
        return xcr0_of(self._supported)

    def set(self, entries: Sequence[kvm_cpuid_entry2]) -> None:
        """kvm_set_cpuid. EINVAL: virtual addresses of another size than Linux knows."""
        address = find(entries, _ADDRESS_LEAF)
        if address is not None and (address.eax >> 8 & 0xFF) not in _VIRTUAL_BITS:
            raise KernelError(EINVAL, "virtual addresses have 48 or 57 bits")
        self.entries = list(entries)
        self.set_once = True
        self._after_set()
        self.update_runtime()

    def _after_set(self) -> None:
        """kvm_vcpu_after_set_cpuid."""
        self.xcr0 = xcr0_of(self.entries) & self.supported_xcr0
        self.maxphyaddr = maxphyaddr_of(self.entries)

    def update_runtime(self) -> None:
        """kvm_update_cpuid_runtime: the bits that follow CR4, XCR0, the APIC and MISC_ENABLE."""
        vcpu, cr4 = self._vcpu, self._vcpu.sregs.cr4
        self._change(OSXSAVE, cr4 >> 18)
        self._change(APIC, vcpu.sregs.apic_base >> 11)
        if vcpu.mwait_follows_misc_enable:
            self._change(MWAIT, vcpu.msrs.stored(_MISC_ENABLE) >> 18)
        self._change(OSPKE, cr4 >> 22)
        self._replace(_XSAVE_LEAF, 0, ebx=self._xstate_size(compacted=False))
        compacting = find(self.entries, _XSAVE_LEAF, 1)
        if compacting is not None and compacting.eax & _XSAVEC_OR_XSAVES:
            self._replace(_XSAVE_LEAF, 1, ebx=self._xstate_size(compacted=True))

    def _change(self, feature: Feature, bit: int) -> None:
        entry = find(self.entries, feature.function, feature.leaf)
        if entry is not None:
            mask = 1 << feature.bit
            value = getattr(entry, feature.register) & ~mask | (bit & 1) << feature.bit
            self._replace(feature.function, feature.leaf, **{feature.register: value})

    def _replace(self, function: int, leaf: int, **registers: int) -> None:
        entry = find(self.entries, function, leaf)
        if entry is not None:
            changed = entry._replace(**registers)  # type: ignore[arg-type]  # registers are ints
            self.entries[self.entries.index(entry)] = changed

    def _xstate_size(self, *, compacted: bool) -> int:
        """xstate_required_size: bytes of an XSAVE area for what XCR0 enables."""
        end = _LEGACY_AND_HEADER
        for entry in self._supported:
            enabled = self._vcpu.xcr0 >> entry.index & 1
            if entry.function != _XSAVE_LEAF or entry.index < 2 or not enabled:  # noqa: PLR2004
                continue
            at = end if compacted else entry.ebx
            if compacted and entry.ecx & 2:
                at = -(-at // 64) * 64
            end = max(end, at + entry.eax)
        return end
