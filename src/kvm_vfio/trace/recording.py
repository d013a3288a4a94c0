# SPDX-License-Identifier: GPL-2.0-only
"""Turns what happens on one kernel into records.

Rule of this file: nothing is kept that the kernel does not keep too, but for the call at hand. A
call's record goes to the sink when the call has its answer, and after it what the kernel decided
during the call.

Whoever makes calls says `begin`, then `answered`; `closing` and `closed` for a file that nobody has
open any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from errno import errorcode
from importlib.metadata import version
from typing import Any, Literal

from kvm_vfio.kernel.file import EventFile, File, OtherFile
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.vfio.container import Container
from kvm_vfio.kernel.vfio.external import External, Member
from kvm_vfio.kernel.vfio.group import VfioGroup
from kvm_vfio.trace import names
from kvm_vfio.trace.schema import (
    VERSION,
    Answer,
    Call,
    Close,
    Decision,
    End,
    Header,
    Object,
    Reason,
    Record,
    Task,
)
from kvm_vfio.trace.watched import Seen

Sink = Callable[[list[Record]], None]
"""Takes records, in their order, and may keep them."""

_clock = time.monotonic_ns
_NOT_OURS = (OtherFile, EventFile)


class Label:
    """What a file is in the trace.

    `reason` is why it is noncoherent as a member, as long as `epoch` lasts; `found` is how it was
    told of the last time.
    """

    __slots__ = ("epoch", "file", "found", "reason", "what")

    def __init__(self, file: int, what: str) -> None:
        self.file = file
        self.what = what
        self.found: Object | None = None
        self.epoch = -1
        self.reason: Reason | None = None


class Recording(Observer):
    """The records of one kernel. `seen` is to hear what calls read, write and look up."""

    def __init__(self, sink: Sink) -> None:
        self.seen = Seen()
        self.n = 0  # of the call or close at hand
        self._sink = sink
        self._start = _clock()
        self._at = self._start
        self._files = 0
        self._groups: dict[int, Label] = {}  # of groups that are members themselves
        self._kernel: Kernel | None = None
        self._epoch = 0
        self._stale: dict[KvmVfio, bool] = {}
        self._records: list[Record] = []  # what has been decided since the call came
        self._no: Reason | None = None  # the last no that was answered in it

    def start(self, kernel: Kernel, kvm: str, program: Sequence[str]) -> None:
        """The first record. `kvm` is who provides VMs: "host", "model", or "python"."""
        self._kernel = kernel
        self._epoch = kernel.external.epoch
        by = f"kvm-vfio {version('kvm-vfio')}"
        header = Header(VERSION, by, time.time_ns(), kernel.profile.name, kvm, kernel.machine)
        header.program = tuple(program)
        self._sink([header])

    def end(self, status: int | None = None) -> None:
        """The last record."""
        self._sink([End(_clock() - self._start, status)])

    # -- calls -------------------------------------------------------------------------------------

    def task(self, tid: int, pid: int, comm: str) -> None:
        """Who `tid` is, from here on."""
        self._sink([Task(_clock() - self._start, tid, pid, comm)])

    def begin(self) -> None:
        """A call has come."""
        self.n += 1
        self.seen.clear()
        self._at = _clock()

    def answered(
        self,
        tid: int,
        call: str,
        answer: Answer,
        fd: int | None = None,
        file: File | None = None,
        args: Any = None,  # noqa: ANN401 - any structure
        out: Any = None,  # noqa: ANN401 - any structure
        why: str = "",
        fault: str = "",
        modelled: bool = True,  # noqa: FBT001, FBT002 - a call of its own for each call is dear
    ) -> None:
        """The call has its answer: a number that is not negative, or -errno."""
        now, at, seen = _clock(), self._at, self.seen
        record = Call(self.n, at - self._start, now - at, tid, call, answer, fd)
        if file is not None:
            label = file.label or self.label(file)
            record.file, record.on = label.file, label.what
        record.args, record.out = args, out
        if seen.looked_up:
            record.looked_up = self._looked_up(seen.looked_up)
        if seen.made:
            record.made = tuple([self._object(*each) for each in seen.made])
        if why:
            record.why = why
        if fault:
            record.fault = fault
        if not modelled:
            record.modelled = False
        if type(answer) is int and answer < 0:
            record.answer = errorcode.get(-answer, str(answer))
        kernel = self._kernel
        if kernel is not None and (kernel.external.epoch != self._epoch or self._stale):
            self._look_for_stale(kernel)
        if self._records:
            self._records.insert(0, record)
            self._sink(self._records)
            self._records, self._no = [], None
        else:
            self._sink([record])

    def closing(self, file: File, cause: Literal["close", "exit", "kill"], by: str = "") -> None:
        """Nobody has `file` open any more; what that brings about comes next."""
        self.n += 1
        self._at = _clock()
        label = self.label(file)
        self._sink([Close(self.n, self._at - self._start, label.file, label.what, cause, by)])

    def closed(self) -> None:
        """What it brought about is over."""
        self._tell()

    def changed(self, what: str) -> None:
        """Something happened to the machine that is no call: `what`, as a sentence."""
        self._records.append(Decision(self.n, "machine changed", because=what))
        self._tell()

    def _tell(self) -> None:
        if self._kernel is not None:
            self._look_for_stale(self._kernel)
        records, self._records, self._no = self._records, [], None
        if records:
            self._sink(records)

    def label(self, file: File) -> Label:
        """What `file` is called; a number of its own when it is first asked about."""
        label: Label | None = file.label
        if label is None:
            number = 0
            if not isinstance(file, _NOT_OURS):
                self._files += 1
                number = self._files
            label = file.label = Label(number, names.object_name(file))
        return label

    def _looked_up(self, files: Mapping[int, File | None]) -> tuple[Object, ...]:
        if len(files) > 1:
            return tuple(self._object(fd, file) for fd, file in files.items())
        ((fd, file),) = files.items()  # the usual case, and the quick one
        return (self._object(fd, file),)

    def _object(self, fd: int, file: File | None) -> Object:
        if file is None:
            return Object(fd, 0, "")
        label = file.label or self.label(file)
        found: Object | None = label.found
        if found is None or found.fd != fd:
            found = label.found = Object(fd, label.file, label.what)
        return found

    # -- what is stale -----------------------------------------------------------------------------

    def _look_for_stale(self, kernel: Kernel) -> None:
        """KVM-VFIO answers by what it asked last; say where the answer would be another now."""
        if kernel.external.epoch == self._epoch and not self._stale:
            return
        self._epoch = kernel.external.epoch
        stale = {
            device: would
            for vm in kernel.vms.values()
            for device in vm.devices
            if isinstance(device, KvmVfio)
            and (would := not all(map(device.external.judge, device.members))) != device.noncoherent
        }
        for device in stale.keys() - self._stale.keys():
            self._of_device(device, "stale", on=device.noncoherent)
        for device in self._stale.keys() - stale.keys():
            self._of_device(device, "fresh", on=device.noncoherent)
        self._stale = stale

    # -- Observer ----------------------------------------------------------------------------------

    def _of_device(
        self, device: KvmVfio, did: str, *, count: int | None = None, on: bool | None = None
    ) -> None:
        name = names.device_name(device)
        decision = Decision(self.n, did, device.vm.number, name, count=count, on=on)
        self._records.append(decision)

    def _of_member(self, device: KvmVfio, did: str, member: Member) -> None:
        label = self._label_of(member)
        name = names.device_name(device)
        self._records.append(Decision(self.n, did, device.vm.number, name, label.what, label.file))

    def _label_of(self, member: Member) -> Label:
        if not isinstance(member, VfioGroup):
            return member.label or self.label(member)
        if member.number not in self._groups:
            self._groups[member.number] = Label(0, names.member_name(member))
        return self._groups[member.number]

    @staticmethod
    def _reason(external: External, member: Member, label: Label) -> Reason:
        """Why a member is noncoherent: thought about once, while nothing changes."""
        if label.reason is None or label.epoch != external.epoch:
            label.reason, label.epoch = names.reason(external, member), external.epoch
        return label.reason

    def vm_created(self, vm: Vm) -> None:
        self._records.append(Decision(self.n, "vm made", vm.number))

    def vm_destroyed(self, vm: Vm) -> None:
        self._records.append(Decision(self.n, "vm destroyed", vm.number))

    def irqfd_injected(self, vm: Vm, gsi: int) -> None:
        self._records.append(Decision(self.n, "interrupt", vm.number, because=f"GSI {gsi}"))

    def kvm_vfio_created(self, device: KvmVfio) -> None:
        self._of_device(device, "device made")

    def kvm_vfio_released(self, device: KvmVfio) -> None:
        self._of_device(device, "device released", count=len(device.members))

    def kvm_vfio_destroyed(self, device: KvmVfio) -> None:
        self._of_device(device, "device destroyed", count=len(device.members))

    def reference_taken(self, device: KvmVfio, member: Member) -> None:
        self._of_member(device, "taken", member)

    def reference_dropped(self, device: KvmVfio, member: Member) -> None:
        self._of_member(device, "dropped", member)

    def reference_leaked(self, device: KvmVfio, member: Member) -> None:
        self._of_member(device, "leaked", member)

    def coherency_asked(self, member: Member, *, coherent: bool) -> None:
        label = self._label_of(member)
        decision = Decision(self.n, "coherency", 0, "", label.what, 0, None, "", coherent)
        if not coherent and self._kernel is not None:
            self._no = reason = self._reason(self._kernel.external, member, label)
            decision.because = reason.because
        self._records.append(decision)

    def noncoherent_dma_registered(self, vm: Vm) -> None:
        decision = Decision(self.n, "noncoherent", vm.number)
        decision.on, decision.count = True, vm.noncoherent_dma_count
        decision.reasons = names.reasons(vm) if self._no is None else (self._no,)
        self._records.append(decision)

    def noncoherent_dma_unregistered(self, vm: Vm) -> None:
        decision = Decision(self.n, "noncoherent", vm.number)
        decision.on, decision.count = False, vm.noncoherent_dma_count
        self._records.append(decision)

    def group_attached(self, vfio_group: VfioGroup, container: Container) -> None:
        self._of_container("attached", container, vfio_group.number)

    def group_detached(self, vfio_group: VfioGroup, container: Container) -> None:
        self._of_container("detached", container, vfio_group.number)

    def iommu_set(self, container: Container) -> None:
        self._of_container("iommu set", container, None)

    def _of_container(self, did: str, container: Container, group: int | None) -> None:
        decision = Decision(self.n, did, group=group, container=names.container_name(container))
        decision.domains = names.domains(container)
        self._records.append(decision)
