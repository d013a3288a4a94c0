# SPDX-License-Identifier: GPL-2.0-only
"""What a real kernel's KVM said of itself: capabilities, processors, a vCPU as it is born.

Rule of this file: it reads the texts that tools/record_kvm.py wrote, each when it is first asked
for, and adds nothing. The processor is an AMD one, as QEMU emulates it (`-cpu max`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from types import ModuleType
from typing import NamedTuple

from kvm_vfio.uapi.kvm_x86 import kvm_cpuid_entry2

_PADDING = bytes(12)


class Msr(NamedTuple):
    """A model-specific register of a fresh vCPU.

    `value` is None where reading is refused, and where it is a clock's. `takes_zero` is whether 0
    may be written. Of writing single bits, `taken` has those that were accepted and `kept` those
    that then read back as written; a register that never changes keeps none.
    """

    value: int | None
    takes_zero: bool
    taken: int
    kept: int
    clock: bool


class Statistic(NamedTuple):
    """One statistic: `offset` into the data, in bytes; `size` in values of 64 bits."""

    flags: int
    exponent: int
    size: int
    offset: int
    bucket_size: int
    name: str


class Statistics(NamedTuple):
    """What a statistics file begins with, and its descriptors in order."""

    name_size: int
    id_offset: int
    desc_offset: int
    data_offset: int
    descriptors: tuple[Statistic, ...]


class KvmRecording:
    """One kernel's recording: what a module of `kvm_vfio.profiles.recorded` has."""

    def __init__(self, module: ModuleType) -> None:
        self._texts = vars(module)
        self.release: str = self._texts["RELEASE"]

    def __repr__(self) -> str:
        return f"<KvmRecording of Linux {self.release}>"

    def _lines(self, name: str) -> list[list[str]]:
        return [line.split() for line in self._texts[name].splitlines() if line]

    # -- the system --------------------------------------------------------------------------------

    @cached_property
    def extensions(self) -> Mapping[int, int]:
        """KVM_CHECK_EXTENSION on /dev/kvm: the capabilities that are not 0."""
        return {int(number): int(value) for number, value in self._lines("EXTENSIONS")}

    @cached_property
    def vm_extensions(self) -> Mapping[int, int]:
        """The same on a VM that nothing has been asked of."""
        of_vm = {int(number): int(value) for number, value in self._lines("VM_EXTENSIONS")}
        return {**self.extensions, **of_vm}

    @cached_property
    def supported_cpuid(self) -> tuple[kvm_cpuid_entry2, ...]:
        """KVM_GET_SUPPORTED_CPUID."""
        return self._cpuid("SUPPORTED_CPUID")

    @cached_property
    def emulated_cpuid(self) -> tuple[kvm_cpuid_entry2, ...]:
        """KVM_GET_EMULATED_CPUID."""
        return self._cpuid("EMULATED_CPUID")

    @cached_property
    def supported_hv_cpuid(self) -> tuple[kvm_cpuid_entry2, ...]:
        """KVM_GET_SUPPORTED_HV_CPUID on /dev/kvm."""
        return self._cpuid("SUPPORTED_HV_CPUID")

    def _cpuid(self, name: str) -> tuple[kvm_cpuid_entry2, ...]:
        return tuple(
            kvm_cpuid_entry2._make([*(int(word, 16) for word in words), _PADDING])
            for words in self._lines(name)
        )

    @cached_property
    def msr_indices(self) -> tuple[int, ...]:
        """KVM_GET_MSR_INDEX_LIST."""
        return tuple(int(index, 16) for (index,) in self._lines("MSR_INDICES"))

    @cached_property
    def feature_msrs(self) -> Mapping[int, int]:
        """KVM_GET_MSR_FEATURE_INDEX_LIST in its order, with the values."""
        return {int(index, 16): int(value, 16) for index, value in self._lines("FEATURE_MSRS")}

    @cached_property
    def tsc_khz(self) -> int:
        """KVM_GET_TSC_KHZ of a fresh vCPU; measured anew at each boot, and never quite the same."""
        return int(self._texts["TSC_KHZ"])

    @cached_property
    def mce_cap(self) -> int:
        """KVM_X86_GET_MCE_CAP_SUPPORTED."""
        return int(self._texts["MCE_CAP"], 16)

    @cached_property
    def attributes(self) -> Mapping[tuple[int, int], int]:
        """KVM_GET_DEVICE_ATTR on /dev/kvm, by group and number."""
        lines = self._lines("ATTRIBUTES")
        return {(int(group), int(number)): int(value, 16) for group, number, value in lines}

    @cached_property
    def vcpu_mmap_size(self) -> int:
        """KVM_GET_VCPU_MMAP_SIZE, bytes."""
        return int(self._texts["VCPU_MMAP_SIZE"])

    # -- a fresh vCPU ------------------------------------------------------------------------------

    @cache  # noqa: B019  # recordings live as long as the process
    def fresh(self, name: str) -> bytes:
        """The structure that KVM_GET_NAME returns for the first vCPU, before anything is set."""
        *rows, (size,) = self._lines(f"FRESH_{name.upper()}")
        data = bytearray(int(size, 16))
        for at, row in rows:
            content = bytes.fromhex(row)
            data[int(at, 16) : int(at, 16) + len(content)] = content
        return bytes(data)

    @cached_property
    def msrs(self) -> Mapping[int, Msr]:
        """Every register that was tried, of a vCPU without CPUID."""
        return self._msrs("MSRS")

    @cached_property
    def msrs_with_cpuid(self) -> Mapping[int, Msr]:
        """The same where the vCPU was given KVM_GET_SUPPORTED_CPUID's answer."""
        return {**self.msrs, **self._msrs("MSRS_WITH_CPUID")}

    def _msrs(self, name: str) -> dict[int, Msr]:
        return {
            int(index, 16): Msr(
                value=None if value in ("-", "clock") else int(value, 16),
                takes_zero=zero == "0",
                taken=int(taken, 16),
                kept=int(kept, 16),
                clock=value == "clock",
            )
            for index, value, zero, taken, kept in self._lines(name)
        }

    # -- statistics --------------------------------------------------------------------------------

    @cached_property
    def vm_statistics(self) -> Statistics | None:
        """KVM_GET_STATS_FD of a VM; None where there is no such request."""
        return self._statistics("VM_STATS")

    @cached_property
    def vcpu_statistics(self) -> Statistics | None:
        """KVM_GET_STATS_FD of a vCPU."""
        return self._statistics("VCPU_STATS")

    def _statistics(self, name: str) -> Statistics | None:
        lines = self._lines(name)
        if not lines:
            return None
        (_, name_size, _, id_offset, desc_offset, data_offset), *descriptors = lines
        return Statistics(
            int(name_size),
            int(id_offset),
            int(desc_offset),
            int(data_offset),
            tuple(Statistic._make([*map(int, words[:-1]), words[-1]]) for words in descriptors),
        )
