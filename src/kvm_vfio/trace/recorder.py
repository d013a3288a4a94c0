# SPDX-License-Identifier: GPL-2.0-only
"""What happened, as the model tells it and in the order it happened.

Rule of this file: it listens and remembers, and its memory is bounded: what happens again is
counted, and what is too much is counted as too much.

Whoever makes calls on the model says when each begins and which it is (`cause`), so that every
effect has one.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from kvm_vfio.kernel.iommu.dma import DmaFault
from kvm_vfio.kernel.iommu.group import PciFunction
from kvm_vfio.kernel.kvm.vcpu import Vcpu
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.vfio.external import Member
from kvm_vfio.kernel.x86.wbinvd import why_wbinvd

Kind = TypeVar("Kind", bound=Hashable)

_MOST_KINDS = 200
_HURRY = 0.001  # seconds: who changes more often than that gets no words for each
_MOST_CHANGES = 10  # from the beginning, and as many from the end

_HOLDS = "the KVM-VFIO device of VM {vm} holds {member}"
_LETS_GO = "the KVM-VFIO device of VM {vm} lets go of {member}"
_ON = "noncoherent DMA of VM {vm}: on"
_OFF = "noncoherent DMA of VM {vm}: off"


@dataclass(frozen=True, slots=True)
class Change:
    """A VM's WBINVD begins or ceases to be executed; `cause` is a call, `reasons` are the why."""

    vm: int
    noncoherent: bool
    cause: str
    reasons: tuple[str, ...]


class Recorder(Observer, Generic[Kind]):
    """The history of one kernel, as much of it as a person reads afterwards.

    `heard` has what the call at hand brought about.
    """

    def __init__(self) -> None:
        self.changes = 0
        self.first_changes: list[Change] = []
        self.last_changes: deque[Change] = deque(maxlen=_MOST_CHANGES)
        self.failures: Counter[tuple[Kind, int, str]] = Counter()  # call, errno, why
        self.failures_left_out = 0
        self.not_modelled: Counter[str] = Counter()
        self.not_reached: Counter[str] = Counter()
        self.dma_faults: Counter[str] = Counter()
        self.stale_reads: Counter[str] = Counter()  # by the device's address
        self.leaked: list[str] = []
        self._last_change = 0.0
        self.vms = 0
        self.members_taken = 0
        self.guest_code_wanted_times = 0
        self.interrupts: Counter[tuple[int, int]] = Counter()  # by irqfd: VM, GSI
        self.heard: list[tuple[str, Vm, Member | None]] = []
        self.cause: Callable[[], str] = lambda: "nobody"  # asked only if a call matters

    # -- calls -------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A call begins; `cause` now names it."""
        self.heard.clear()

    def failed(self, kind: Kind, errno: int, why: str) -> None:
        """A call was answered with -errno; calls of one `kind` are counted together."""
        failure = kind, errno, why
        if failure in self.failures or len(self.failures) < _MOST_KINDS:
            self.failures[failure] += 1
        else:
            self.failures_left_out += 1

    def unknown(self, what: str) -> None:
        """A call that the model cannot answer."""
        if what in self.not_modelled or len(self.not_modelled) < _MOST_KINDS:
            self.not_modelled[what] += 1
        else:
            self.not_modelled["others"] += 1

    def unreachable(self, whom: str) -> None:
        """A call of a process that cannot be looked into, so nobody could answer it."""
        if len(self.not_reached) < _MOST_KINDS:
            self.not_reached[whom] += 1

    # -- Observer ----------------------------------------------------------------------------------

    def vm_created(self, vm: Vm) -> None:
        self.vms += 1
        self.heard.append(("VM {vm} is made", vm, None))

    def vm_destroyed(self, vm: Vm) -> None:
        self.heard.append(("VM {vm} is destroyed", vm, None))

    def guest_code_wanted(self, vcpu: Vcpu) -> None:
        self.guest_code_wanted_times += 1

    def irqfd_injected(self, vm: Vm, gsi: int) -> None:
        line = vm.number, gsi
        if line in self.interrupts or len(self.interrupts) < _MOST_KINDS:
            self.interrupts[line] += 1

    def noncoherent_dma_registered(self, vm: Vm) -> None:
        self._changed(vm, noncoherent=True)

    def noncoherent_dma_unregistered(self, vm: Vm) -> None:
        self._changed(vm, noncoherent=False)

    def _changed(self, vm: Vm, *, noncoherent: bool) -> None:
        self.heard.append((_ON if noncoherent else _OFF, vm, None))
        if vm.noncoherent_dma_count > 1 or (vm.noncoherent_dma_count == 1) != noncoherent:
            return  # the other registrar is there as well
        self.changes += 1
        now = time.monotonic()
        hurried, self._last_change = now - self._last_change < _HURRY, now
        if len(self.first_changes) < _MOST_CHANGES:
            self.first_changes.append(self._change(vm, noncoherent=noncoherent))
        elif not hurried:
            self.last_changes.append(self._change(vm, noncoherent=noncoherent))

    def _change(self, vm: Vm, *, noncoherent: bool) -> Change:
        cause = f"{self.cause()}{self._whose_membership()}"
        return Change(vm.number, noncoherent, cause, tuple(why_wbinvd(vm)))

    def _whose_membership(self) -> str:
        for said, _, member in reversed(self.heard):
            if member is not None:
                return f" (ADD of {member.name})" if said is _HOLDS else f" ({member.name} leaves)"
        return ""

    def reference_taken(self, device: KvmVfio, member: Member) -> None:
        self.members_taken += 1
        self.heard.append((_HOLDS, device.vm, member))

    def reference_dropped(self, device: KvmVfio, member: Member) -> None:
        self.heard.append((_LETS_GO, device.vm, member))

    def dma_faulted(self, fault: DmaFault, function: PciFunction) -> None:
        what = f"{function.static.address} at {fault}"
        if what in self.dma_faults or len(self.dma_faults) < _MOST_KINDS:
            self.dma_faults[what] += 1

    def stale_dma(self, function: PciFunction, iova: int) -> None:
        self.stale_reads[function.static.address] += 1

    def reference_leaked(self, device: KvmVfio, member: Member) -> None:
        self.leaked.append(
            f"{member.name}: the KVM-VFIO device of VM {device.vm.number} is gone and VFIO was not"
            " loaded, so the reference is held for ever"
        )
        del self.leaked[_MOST_KINDS:]
