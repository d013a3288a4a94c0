# SPDX-License-Identifier: GPL-2.0-only
"""Finds in the records of a program what it did wrong, and why its WBINVD was executed.

Rule of this file: it hears records once, in their order, and keeps what is alive: open files,
members, VMs. What has ended is kept only if it is worth telling, and only so much of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kvm_vfio.profiles import PROFILES
from kvm_vfio.profiles.profile import Coherency, DeviceEnd, Profile
from kvm_vfio.trace.explanation import (
    Cause,
    Explanation,
    Problem,
    Refusal,
    Turn,
    VmStory,
)
from kvm_vfio.trace.remedies import remedy
from kvm_vfio.trace.schema import (
    CONTINUED,
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
from kvm_vfio.trace.text import attribute, close_text, printable, request_text

_MOST = 200  # problems, kinds of refusals, stories of VMs that are gone
_MOST_TURNS = 10  # of a VM, from the beginning, and as many from the end
_MOST_OWNERS = 64  # of a file

# What an answer that came too early means, by what the device goes on saying.
_SINCE = {
    True: " Linux {linux} judged it then, took it for noncoherent, and executes WBINVD until the"
    " next ADD or DEL, which costs the guest time.",
    False: " Linux {linux} judged it then, took it for coherent, and makes WBINVD a no-op until the"
    " next ADD or DEL: the guest can read what a device has not written yet.",
}
_ELSEWHERE = (
    " It makes no difference in Linux {linux}, which asks the IOMMU of the group's devices; but up"
    " to Linux 5.18 such an ADD is EINVAL, and from 5.19 to 6.1 the group is judged too early, and"
    " wrongly until the next ADD or DEL."
)
_ASKS = {
    Coherency.NEVER: "asks nobody: any member means noncoherent DMA",
    Coherency.CONTAINER: "asks the member's container (VFIO_DMA_CC_IOMMU)",
    Coherency.GROUP_CONTAINER: "asks the member's container (VFIO_DMA_CC_IOMMU), and takes a group"
    " that has none for coherent",
    Coherency.DEVICES: "asks whether the IOMMU of every device in the group can enforce coherency",
}
_CLOSED = {
    DeviceEnd.DESTROYED_WITH_VM: "Linux {linux} keeps the device until its VM ends, and nobody can"
    " take a group away from it any more",
    DeviceEnd.RELEASED_ON_CLOSE: "Linux {linux} takes its groups away from the VM at that moment",
    DeviceEnd.DESTROYED_ON_CLOSE: "Linux {linux} takes its groups away from the VM at that moment",
}


class _File:
    """An open file, or one that was: `owners` are the files it was used with."""

    def __init__(self, made: Object, cause: Call) -> None:
        self.what = made.what
        self.fd = made.fd
        self.cause = cause
        self.owners: dict[_File, None] = {}
        self.closed_by: Close | None = None

    def abandoned(self) -> bool:
        """Whether everything it was used with has been closed by hand, and it has not."""
        return bool(self.owners) and all(
            owner.closed_by is not None and owner.closed_by.cause == "close"
            for owner in self.owners
        )


class _Member:
    """A reference of a KVM-VFIO device, and the call that took it."""

    def __init__(self, cause: Call | Close, group: int | None) -> None:
        self.cause = cause
        self.group = group
        self.order: Problem | None = None  # it came before its container's IOMMU
        self.misjudged = False  # and is judged wrongly, since then


class _Device:
    def __init__(self, vm: int) -> None:
        self.vm = vm
        self.over = False
        self.members: dict[tuple[str, int], _Member] = {}
        self.stale: tuple[Call | Close, bool] | None = None  # since when, and what it says


class _Vm:
    def __init__(self) -> None:
        self.count = 0
        self.first: list[Turn] = []
        self.last: list[Turn] = []
        self.left_out = 0
        self.because: tuple[str, ...] = ()
        self.ended: Cause | None = None


class History:
    """Hears records (it is a sink for them) and explains, at any time."""

    def __init__(self) -> None:
        self._linux, self._machine = "?", "?"
        self._profile: Profile | None = None
        self._tasks: dict[int, str] = {}
        self._cause: Call | Close | None = None
        self._calls = 0
        self._files: dict[int, _File] = {}
        self._vms: dict[int, _Vm] = {}
        self._ending: list[int] = []  # VMs that the last cause has destroyed
        self._gone: list[VmStory] = []
        self._quiet = 0  # VMs that are gone and never had noncoherent DMA
        self._devices: dict[str, _Device] = {}
        self._container_of: dict[int, str] = {}
        self._with_iommu: set[str] = set()
        self._problems: list[Problem] = []
        self._refusals: dict[tuple[str, str, str], Refusal] = {}
        self._not_modelled: dict[str, None] = {}
        self._left_out = 0
        self._live = self._ended = False
        self._hear: dict[type, Callable[[Any], None]] = {
            Header: self._header,
            Task: self._task,
            Call: self._call,
            Close: self._close,
            Decision: self._decision,
            End: self._end,
        }

    def __call__(self, records: Iterable[Record]) -> None:
        """Hear records."""
        for record in records:
            self._hear[type(record)](record)

    def explanation(self) -> Explanation:
        """What can be said now."""
        stories = [
            self._story(number, vm) for number, vm in self._vms.items() if vm.first or not vm.ended
        ]
        return Explanation(
            self._linux,
            self._machine,
            self._calls,
            (*self._gone, *stories),
            (*self._problems, *self._standing()),
            tuple(self._refusals.values()),
            tuple(self._not_modelled),
            self._left_out,
            whole=self._ended or self._live,
            quiet=self._quiet + sum(not vm.first for vm in self._vms.values() if vm.ended),
        )

    def held(self) -> Iterable[str]:
        """What is open or held now, each with the call that opened or took it."""
        for file in self._files.values():
            yield f"{file.what} (fd {file.fd}) is open since {self._told(file.cause)}"
        for name, device in self._devices.items():
            for (member, _), held in device.members.items():
                yield f"{name} of vm {device.vm} holds {member} since {self._told(held.cause)}"

    # -- records -----------------------------------------------------------------------------------

    def _header(self, header: Header) -> None:
        self._linux, self._machine = header.linux, header.machine.name
        self._live = header.kvm == "python"
        if header.linux in PROFILES:
            self._profile = PROFILES[header.linux]

    def _task(self, task: Task) -> None:
        if len(self._tasks) >= _MOST * _MOST:
            self._tasks.clear()
        self._tasks[task.tid] = f"{printable(task.comm)}[{task.pid}]"

    def _call(self, call: Call) -> None:
        self._begin(call)
        if call.answer == CONTINUED:
            return
        self._calls += 1
        if isinstance(call.answer, str):
            self._refused(call)
            return
        for made in call.made:
            if made.file:
                self._files[made.file] = _File(made, call)
        self._relate(call)

    def _begin(self, cause: Call | Close) -> None:
        self._cause = cause
        for number in self._ending:
            self._forget(number, self._vms.pop(number))
        self._ending.clear()

    def _forget(self, number: int, vm: _Vm) -> None:
        if vm.first and len(self._gone) < _MOST:
            self._gone.append(self._story(number, vm))
        else:
            self._quiet += 1

    def _relate(self, call: Call) -> None:
        """Which files are used with which: a group with its container and its KVM-VFIO device."""
        subject = self._files.get(call.file)
        if subject is None:
            return
        if call.call in ("VFIO_GROUP_GET_DEVICE_FD", "KVM_CREATE_DEVICE"):
            for made in call.made:
                self._use(self._files.get(made.file), subject)
        elif call.call == "VFIO_GROUP_SET_CONTAINER":
            for found in call.looked_up:
                container = self._files.get(found.file)
                self._use(subject, container)
                self._use(container, subject)
        elif attribute(call) == "GROUP_ADD":
            for found in call.looked_up:
                self._use(self._files.get(found.file), subject)

    @staticmethod
    def _use(file: _File | None, owner: _File | None) -> None:
        if file is None or owner is None:
            return
        if len(file.owners) >= _MOST_OWNERS:
            del file.owners[next(iter(file.owners))]
        file.owners[owner] = None

    def _refused(self, call: Call) -> None:
        errno = str(call.answer)
        if not call.modelled:
            if len(self._not_modelled) < _MOST:
                self._not_modelled[call.why] = None
            return
        kind = call.call, errno, call.fault or call.why
        if kind in self._refusals:
            self._refusals[kind].times += 1
        elif len(self._refusals) >= _MOST:
            self._left_out += 1
        else:
            self._refusals[kind] = Refusal(
                self._told(call),
                errno,
                kind[2],
                "" if call.fault else remedy(call.call, errno, call.why),
                injected=bool(call.fault),
            )

    def _close(self, close: Close) -> None:
        self._begin(close)
        file = self._files.pop(close.file, None)
        device = self._devices.get(close.what)
        if close.cause == "close" and device is not None and device.members:
            self._closed_with_members(close, device, file)
        if file is None:
            return
        file.closed_by = close
        if close.cause != "close" and file.abandoned():
            self._problem(self._left_open(file, close))

    def _end(self, _end: End) -> None:
        self._ended = True

    def _decision(self, decision: Decision) -> None:
        hear = self._DECISIONS.get(decision.did)
        if hear is not None and self._cause is not None:
            hear(self, decision, self._cause)

    # -- decisions ---------------------------------------------------------------------------------

    def _vm_made(self, decision: Decision, _cause: Call | Close) -> None:
        self._vms[decision.vm] = _Vm()

    def _vm_destroyed(self, decision: Decision, cause: Call | Close) -> None:
        if decision.vm in self._vms:
            self._vms[decision.vm].ended = self._told(cause)
            self._ending.append(decision.vm)

    def _device_made(self, decision: Decision, _cause: Call | Close) -> None:
        self._devices[decision.device] = _Device(decision.vm)

    def _device_over(self, decision: Decision, _cause: Call | Close) -> None:
        device = self._devices.get(decision.device)
        if device is not None:
            device.over, device.stale = True, None
            self._forget_if_over(decision.device, device)

    def _forget_if_over(self, name: str, device: _Device) -> None:
        if device.over and not device.members:
            del self._devices[name]

    def _taken(self, decision: Decision, cause: Call | Close) -> None:
        device = self._devices.get(decision.device)
        if device is None:
            return
        kind, _, number = decision.member.partition(" ")
        group = int(number) if kind == "group" else None
        self._looked_again(device, cause)
        device.members[decision.member, decision.file] = _Member(cause, group)

    @staticmethod
    def _looked_again(device: _Device, cause: Call | Close) -> None:
        if device.stale is None:
            return
        for member in device.members.values():
            if member.order is not None and member.misjudged:
                member.order.what += f" That is #{cause.n}."
        device.stale = None

    def _dropped(self, decision: Decision, cause: Call | Close) -> None:
        device = self._devices.get(decision.device)
        if device is None:
            return
        device.members.pop((decision.member, decision.file), None)
        self._looked_again(device, cause)
        self._forget_if_over(decision.device, device)

    def _leaked(self, decision: Decision, _cause: Call | Close) -> None:
        device = self._devices.get(decision.device)
        key = decision.member, decision.file
        if device is None or key not in device.members:
            return
        member = device.members.pop(key)
        self._forget_if_over(decision.device, device)
        self._problem(
            Problem(
                "leaked reference",
                f"{decision.device} of vm {decision.vm} took a reference on {decision.member} and"
                " was closed when VFIO was not loaded any more: nobody can drop it",
                self._told(member.cause),
                "DEL the group, and close the KVM-VFIO device, before VFIO is unloaded.",
            )
        )

    def _noncoherent(self, decision: Decision, cause: Call | Close) -> None:
        vm = self._vms.get(decision.vm)
        if vm is None:
            return
        before, vm.count = vm.count, decision.count or 0
        if bool(before) == bool(vm.count):
            return
        vm.because = self._chain(decision) if vm.count else ()
        turn = Turn(bool(vm.count), self._told(cause), vm.because)
        if len(vm.first) < _MOST_TURNS:
            vm.first.append(turn)
            return
        vm.last.append(turn)
        if len(vm.last) > _MOST_TURNS:
            del vm.last[0]
            vm.left_out += 1

    def _attached(self, decision: Decision, cause: Call | Close) -> None:
        if decision.group is None:
            return
        self._container_of[decision.group] = decision.container
        if decision.container in self._with_iommu:
            self._iommu_came(decision.container, {decision.group}, cause)

    def _detached(self, decision: Decision, _cause: Call | Close) -> None:
        if decision.group is not None:
            self._container_of.pop(decision.group, None)
        if not decision.domains:
            self._with_iommu.discard(decision.container)

    def _iommu_set(self, decision: Decision, cause: Call | Close) -> None:
        self._with_iommu.add(decision.container)
        groups = {n for n, name in self._container_of.items() if name == decision.container}
        self._iommu_came(decision.container, groups, cause)

    def _stale(self, decision: Decision, cause: Call | Close) -> None:
        device = self._devices.get(decision.device)
        if device is None:
            return
        device.stale = cause, bool(decision.on)
        for member in device.members.values():
            self._misjudged(device, member)

    def _misjudged(self, device: _Device, member: _Member) -> None:
        if member.order is None or member.misjudged or device.stale is None:
            return
        member.misjudged = True
        member.order.what += _SINCE[device.stale[1]].format(linux=self._linux)

    def _fresh(self, decision: Decision, _cause: Call | Close) -> None:
        if decision.device in self._devices:
            self._devices[decision.device].stale = None

    _DECISIONS = {  # noqa: RUF012 - it is what `did` means, and nobody changes it
        "vm made": _vm_made,
        "vm destroyed": _vm_destroyed,
        "device made": _device_made,
        "device released": _device_over,
        "device destroyed": _device_over,
        "taken": _taken,
        "dropped": _dropped,
        "leaked": _leaked,
        "noncoherent": _noncoherent,
        "attached": _attached,
        "detached": _detached,
        "iommu set": _iommu_set,
        "stale": _stale,
        "fresh": _fresh,
    }

    # -- what is wrong -----------------------------------------------------------------------------

    def _problem(self, problem: Problem) -> None:
        if len(self._problems) < _MOST:
            self._problems.append(problem)
        else:
            self._left_out += 1

    def _closed_with_members(self, close: Close, device: _Device, file: _File | None) -> None:
        members = [name for name, _ in device.members]
        calls = ", ".join(f"#{member.cause.n}" for member in device.members.values())
        end = self._profile.device_end if self._profile else DeviceEnd.RELEASED_ON_CLOSE
        self._problem(
            Problem(
                "closed before DEL",
                f"{close.what}, the KVM-VFIO device of vm {device.vm}, was closed while it held"
                f" {_and(members)} (added by {calls}):"
                f" {_CLOSED[end].format(linux=self._linux)}.",
                self._told(close),
                f"DEL {_and(members)} (KVM_DEV_VFIO_GROUP_DEL), then close the device"
                f"{f' (fd {file.fd})' if file else ''}.",
            )
        )

    def _iommu_came(self, container: str, groups: set[int], cause: Call | Close) -> None:
        for name, device in self._devices.items():
            for (member, _), held in device.members.items():
                if held.group in groups and held.order is None:
                    held.order = self._order(name, device, member, held, container, cause)
                    self._misjudged(device, held)
                    self._problem(held.order)

    def _order(
        self,
        name: str,
        device: _Device,
        member: str,
        held: _Member,
        container: str,
        cause: Call | Close,
    ) -> Problem:
        what = (
            f"{member} was added to {name} of vm {device.vm} before {container} had an IOMMU for it"
            f" (#{cause.n})."
        )
        if self._profile is not None and self._profile.coherency is Coherency.DEVICES:
            what += _ELSEWHERE.format(linux=self._linux)
        return Problem(
            "added before SET_IOMMU",
            what,
            self._told(held.cause),
            f"Put {member} in its container and call VFIO_SET_IOMMU first, then ADD it.",
        )

    def _left_open(self, file: _File, close: Close) -> Problem:
        who = close.by or f"fd {file.fd}"
        owners = _and([owner.what for owner in file.owners])
        return Problem(
            "left open",
            f"{file.what} ({who}) was still open at the end, though {owners}, which it was used"
            " with, had been closed.",
            self._told(file.cause),
            f"Close fd {file.fd} when {owners} {'is' if len(file.owners) == 1 else 'are'} closed:"
            f" {_KEEPS.get(file.what.partition(' ')[0], 'it is held')} until then.",
        )

    def _standing(self) -> Iterable[Problem]:
        """What is wrong as long as it stays like this."""
        for name, device in self._devices.items():
            if device.stale is None or any(m.order for m in device.members.values()):
                continue
            cause, on = device.stale
            says, would = ("noncoherent", "coherent") if on else ("coherent", "noncoherent")
            yield Problem(
                "stale answer",
                f"{name} of vm {device.vm} still says {says} and would find {would}: it looks only"
                f" at ADD and DEL, and #{cause.n} came later.",
                self._told(cause),
                "ADD or DEL a group after changing containers or drivers.",
            )

    # -- words -------------------------------------------------------------------------------------

    def _told(self, cause: Call | Close) -> Cause:
        if isinstance(cause, Close):
            return Cause(cause.n, close_text(cause))
        return Cause(cause.n, request_text(cause), self._tasks.get(cause.tid, ""))

    def _story(self, number: int, vm: _Vm) -> VmStory:
        because = vm.because if vm.count else tuple(self._coherent(number))
        turns = (*vm.first, *vm.last)
        return VmStory(number, bool(vm.count), because, turns, vm.left_out, vm.ended)

    def _coherent(self, number: int) -> Iterable[str]:
        members = [
            (name, member)
            for name, device in self._devices.items()
            if device.vm == number
            for member, _ in device.members
        ]
        for name, member in members:
            yield f"{name} holds {member}, whose DMA it takes for coherent"
        if not members:
            yield "it has no VFIO group"

    def _chain(self, decision: Decision) -> tuple[str, ...]:
        chain: list[str] = []
        for reason in decision.reasons:
            chain += self._links(decision.vm, reason)
        if self._profile is not None:
            chain.append(f"Linux {self._linux} {_ASKS[self._profile.coherency]}")
        return tuple(chain)

    def _links(self, vm: int, reason: Reason) -> Iterable[str]:
        held = next(
            (
                (name, member)
                for name, device in self._devices.items()
                if device.vm == vm
                for (what, _), member in device.members.items()
                if what == reason.member
            ),
            None,
        )
        if held is not None:
            name, member = held
            since = "this call" if member.cause is self._cause else str(self._told(member.cause))
            yield f"{name} holds {reason.member} since {since}"
        yield f"{reason.member} is noncoherent: {reason.because}"
        path = [reason.member, reason.container, reason.domain, reason.iommu]
        if reason.container:
            yield " -> ".join(filter(None, path))


_KEEPS = {
    "group": "nobody else can open the group",
    "container": "its groups and mappings stay",
    "device": "its group stays in use",
    "kvm-vfio": "the VM lives",
}


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
