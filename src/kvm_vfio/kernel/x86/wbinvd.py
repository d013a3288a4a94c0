# SPDX-License-Identifier: GPL-2.0-only
"""What a guest's WBINVD does (arch/x86/kvm/x86.c, kvm_emulate_wbinvd, kvm_arch_vcpu_load).

Rule of this file: it reads the VM's count of noncoherent DMA and decides; it changes nothing of the
VM, and of the machine the caches that it flushes.

WBINVD writes every dirty cache line back and empties the caches, and costs microseconds to
milliseconds. While every device's DMA snoops the CPU caches nobody needs that, and KVM makes it a
no-op. With noncoherent DMA the guest means it: a device would read stale memory otherwise. A vCPU
leaves dirty lines on every CPU it ran on, so KVM keeps a mask of those and flushes them all; on a
processor that does not exit on WBINVD the guest flushes the CPU it is on by itself, and KVM flushes
the old one whenever the vCPU moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm


@dataclass(slots=True)
class Vcpu:
    """A vCPU as far as WBINVD concerns it.

    `exits` is whether the processor leaves guest mode on WBINVD. `cpu` is the CPU it runs on or ran
    on last, -1 before the first; `wbinvd_dirty_mask` the CPUs it may have left dirty lines on;
    `flushes` every CPU on which KVM has executed WBINVD for it, in order.
    """

    vm: Vm
    exits: bool = True
    cpu: int = -1
    wbinvd_dirty_mask: set[int] = field(default_factory=set)
    flushes: list[int] = field(default_factory=list)

    def load(self, cpu: int) -> None:
        """kvm_arch_vcpu_load: the vCPU begins to run on `cpu`."""
        if self.vm.has_noncoherent_dma():
            if self.exits:
                self.wbinvd_dirty_mask.add(cpu)
            elif self.cpu not in (-1, cpu):
                self._flush(self.cpu)
        self.cpu = cpu

    def wbinvd(self) -> frozenset[int]:
        """The guest executes WBINVD: the CPUs whose caches KVM then writes back; empty: a no-op."""
        if not self.vm.has_noncoherent_dma():
            return frozenset()
        if self.exits:
            flushed = frozenset(self.wbinvd_dirty_mask | {self.cpu})
            self.wbinvd_dirty_mask.clear()
        else:
            flushed = frozenset({self.cpu})
        for cpu in sorted(flushed):
            self._flush(cpu)
        return flushed

    def _flush(self, cpu: int) -> None:
        """KVM has WBINVD executed on `cpu`."""
        self.flushes.append(cpu)
        if self.vm.kernel.caches is not None:
            self.vm.kernel.caches.write_back(cpu)


def why_wbinvd(vm: Vm) -> list[str]:
    """Why a WBINVD of this VM's guest is executed, one reason a line; empty: it is a no-op."""
    reasons = [
        f"KVM-VFIO device: {reason}"
        for device in vm.devices
        for reason in device.noncoherent_because()
    ]
    if vm.assigned_noncoherent:
        names = ", ".join(a.function.static.address for a in vm.assigned.values())
        reasons.append(f"legacy device assignment of {names}: an IOMMU lacks snoop control")
    return reasons
