# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios on the model: the referee that hears the model's own effects.

Rule of this file: it reaches into the kernel only where a referee on a real Linux would: probes,
sysfs, a tracing hook.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from errno import EBADF

from kvm_vfio.kernel.iommu.group import PciFunction
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.vfio.external import Member
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.scenario.coverage import Watch
from kvm_vfio.scenario.hands import Event
from kvm_vfio.scenario.ordinary import ScriptProcess
from kvm_vfio.syscalls import Syscalls

_ROOM = 256  # zeros after what is put into memory, for structures that go on


class _Probes(Observer):
    """Every effect as the event a probe on the function of that name would give."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def vm_created(self, vm: Vm) -> None:
        self.seen.append(Event("vmnew", vm.number))

    def vm_destroyed(self, vm: Vm) -> None:
        self.seen.append(Event("vmdel", vm.number))

    def noncoherent_dma_registered(self, vm: Vm) -> None:
        self.seen.append(Event("reg", vm.number))

    def noncoherent_dma_unregistered(self, vm: Vm) -> None:
        self.seen.append(Event("unreg", vm.number))

    def assignment_started(self, vm: Vm) -> None:
        self.seen.append(Event("asg", vm.number))

    def assignment_ended(self, vm: Vm) -> None:
        self.seen.append(Event("unasg", vm.number))

    def kvm_set(self, member: Member, vm: Vm | None) -> None:
        self.seen.append(Event("setkvm", vm.number if vm else None))

    def coherency_asked(self, member: Member, *, coherent: bool) -> None:
        self.seen.append(Event("coh", answer=str(int(coherent))))

    def kvm_vfio_released(self, device: KvmVfio) -> None:
        self.seen.append(Event("devrel"))

    def kvm_vfio_destroyed(self, device: KvmVfio) -> None:
        self.seen.append(Event("devdtor"))


class ModelReferee:
    """The `Referee` of one model kernel; `syscalls` is the process that scenarios run in."""

    def __init__(self, machine: Machine, profile: Profile) -> None:
        self._probes = _Probes()
        self._kernel = Kernel(machine, profile, observer=self._probes)
        self.syscalls = ScriptProcess(self._kernel)
        self.watch = Watch(self._kernel)
        self.syscalls.asked = self.watch.request

    def events(self) -> Sequence[Event]:
        """What happened since the last question."""
        seen, self._probes.seen = self._probes.seen, []
        return seen

    def memory(self, kind: str, data: bytes) -> int:
        """`data` where the program could have put it; for straddle only its first half is there."""
        space = self.syscalls.mm
        if kind == "rw":
            _, address = space.allocate(len(data) + _ROOM)
            space.write(address, data)
            return address
        if kind == "unmapped":
            return space.map(PAGE, readable=False, writable=False).start
        region = space.map(PAGE)
        at = {
            "ro": 0,
            "odd": 1,
            "pageend": PAGE - len(data),
            "straddle": PAGE - len(data) // 2,
        }[kind]
        there = data[: PAGE - at]
        region.data[at : at + len(there)] = there
        region.writable = kind != "ro"
        return region.start + at

    def poke(self, address: int, data: bytes) -> None:
        self.syscalls.mm.write(address, data)

    def peek(self, address: int, size: int) -> bytes:
        """The process's own memory."""
        return self.syscalls.mm.read(address, size)

    def pipe(self) -> tuple[int, int]:
        return self.syscalls.pipe()

    def memfd(self) -> int:
        return self.syscalls.memfd()

    def socket(self) -> int:
        return self.syscalls.socket()

    def link(self, fd: int) -> str:
        return self.syscalls.task.fget(fd).link

    def group_number(self, address: str) -> int:
        return self._function(address).iommu_group.number

    def _function(self, address: str) -> PciFunction:
        try:
            return self._kernel.function(address)
        except KeyError:
            raise ValueError(f"there is no device {address}") from None

    def bind(self, address: str, driver: str | None) -> str:
        function = self._function(address)
        function.remove()
        if driver is not None:
            function.probe(driver)
        return function.driver or ""

    def force_coherency(self, fd: int, *, answer: bool | None) -> None:
        file = self.syscalls.files.get(fd)
        if file is None:
            raise OSError(EBADF, os.strerror(EBADF))
        if not isinstance(file, GroupFile):
            raise ValueError("force_coh takes the handle of an open group")  # noqa: TRY004 - a word
        member = file.vfio_group if self._kernel.profile.member_is_group else file
        self._kernel.external.force(member, answer=answer)

    def in_child(self, call: Callable[[Syscalls], int]) -> int:
        child = self.syscalls.fork()
        try:
            return call(child)
        finally:
            child.exit()
