# SPDX-License-Identifier: GPL-2.0-only
"""What a campaign has met, and what it never did.

Rule of this file: what there is to meet comes from the model's own tables (requests, and the errnos
that each documents) and from `TRANSITIONS`; nothing is listed twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from errno import errorcode
from typing import NamedTuple

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Row, Support
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.vfio.group import VfioGroup
from kvm_vfio.kernel.vfs import VFS_IOCTLS

_RESULT = re.compile(r"\d+ (\S+) .*?=> (-[A-Z0-9]+|\S+)")
_EVENT_NAME = re.compile(r" ([a-z]+)(?=[ (=]|$)")

OK = "ok"


class Asked(NamedTuple):
    """A request of a kind of file, by their names, and the answer: an errno's name, or "ok"."""

    file: str
    request: str
    answer: str


class Transition(NamedTuple):
    """Something went from one state to another within one operation."""

    what: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.before} -> {self.after}"


ABSENT = "absent"
DEVICE, GROUP = "KVM-VFIO device", "VFIO group"

_AFTER: Mapping[str, Mapping[str, str]] = {
    # what a thing in this state can become; a script's `reset` ends everything at once
    DEVICE: {
        ABSENT: "empty",
        "empty": "absent coherent noncoherent",
        "coherent": "absent empty noncoherent",
        "noncoherent": "absent empty coherent",
    },
    GROUP: {
        ABSENT: "closed",
        "closed": "absent open",
        "open": "absent closed contained translated",
        "contained": "absent closed open translated",
        "translated": "absent closed open kept in-use",
        "in-use": "closed kept translated",
        "kept": "closed",
    },
}
TRANSITIONS = frozenset(
    Transition(what, before, after)
    for what, states in _AFTER.items()
    for before, afters in states.items()
    for after in afters.split()
)


@dataclass
class Coverage:
    """What a campaign has met."""

    calls: int = 0
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)  # (verb, errno or "ok")
    events: Counter[str] = field(default_factory=Counter)
    asked: Counter[Asked] = field(default_factory=Counter)
    transitions: Counter[Transition] = field(default_factory=Counter)
    not_modelled: Counter[str] = field(default_factory=Counter)
    died: list[str] = field(default_factory=list)

    def add(self, lines: Sequence[str]) -> None:
        """Count the lines of a script."""
        self.calls += len(lines)
        for line in lines:
            result = _RESULT.match(line)
            if result is None:
                continue
            answer = result[2] if result[2].startswith("-") else OK
            self.answers[result[1], answer] += 1
            self.events.update(_EVENT_NAME.findall(line.rpartition("|")[2]))

    def merge(self, other: Coverage) -> None:
        """Add what another one has met."""
        self.calls += other.calls
        self.answers += other.answers
        self.events += other.events
        self.asked += other.asked
        self.transitions += other.transitions
        self.not_modelled += other.not_modelled
        self.died += other.died

    def never_asked(self) -> list[str]:
        """The requests of the model's tables that no call was, by kind of file."""
        met = {(each.file, each.request) for each in self.asked}
        missing = [(file, row) for file, row in _rows() if _key(file, row) not in met]
        return [f"{row.request.name} of {file}" for file, row in missing]

    def never_answered(self) -> list[str]:
        """The documented errnos that no call got, of the requests that were made.

        A request whose result is a count, which can look like any errno, documents none.
        """
        met: dict[tuple[str, str], set[str]] = {}
        for each in self.asked:
            met.setdefault((each.file, each.request), set()).add(each.answer)
        missing = (
            (file, row, [errorcode[e] for e in row.errnos if errorcode[e] not in met[key]])
            for file, row in _rows()
            if (key := _key(file, row)) in met and errorcode.keys() >= set(row.errnos)
        )
        return [f"{row.request.name} {' '.join(errnos)}" for _, row, errnos in missing if errnos]

    def never_gone(self) -> list[Transition]:
        """The transitions that did not happen."""
        return sorted(TRANSITIONS - self.transitions.keys())


class Watch:
    """Looks at one kernel between operations, and counts what it sees."""

    def __init__(self, kernel: Kernel) -> None:
        self.asked: Counter[Asked] = Counter()
        self.transitions: Counter[Transition] = Counter()
        self._kernel = kernel
        self._states = dict(_states(kernel))

    def request(self, file: File, request: int, errno: int) -> None:
        """`file` was asked; `errno` is 0 for an answer that was none."""
        row = file.row(request)
        if row is not None:
            answer = errorcode.get(errno, str(errno)) if errno else OK
            self.asked[Asked(file.kind, row.request.name, answer)] += 1

    def look(self) -> None:
        """An operation is over."""
        before, self._states = self._states, dict(_states(self._kernel))
        for key in before.keys() | self._states.keys():
            old, new = before.get(key, ABSENT), self._states.get(key, ABSENT)
            if old != new:
                self.transitions[Transition(key[0], old, new)] += 1


def _states(kernel: Kernel) -> Iterator[tuple[tuple[str, int], str]]:
    """Everything that has a state, by what it is and its number."""
    for vm in kernel.vms.values():
        for device in vm.devices:
            if isinstance(device, KvmVfio):
                yield (DEVICE, vm.number), _device_state(device)
    for number, group in kernel.vfio_groups.items():
        yield (GROUP, number), _group_state(group)


def _device_state(device: KvmVfio) -> str:
    if not device.members:
        return "empty"
    return "noncoherent" if device.noncoherent else "coherent"


def _group_state(group: VfioGroup) -> str:
    if group.opened_file is None:
        return "closed" if group.container is None else "kept"
    if group.container is None:
        return "open"
    if group.container.iommu is None:
        return "contained"
    in_use = any(device.open_count for device in group.devices.values())
    return "in-use" if in_use else "translated"


def _rows() -> Iterator[tuple[str, Row]]:
    """Every modelled request of every kind of file that has requests of its own."""
    kinds = {kind.kind: kind for kind in _kinds(File) if kind.ioctls.rows}
    for name, kind in sorted(kinds.items()):
        for table in kind.tables():
            for row in table:
                if row.support is not Support.NONE and table is not VFS_IOCTLS:
                    yield name, row


def _kinds(parent: type[File]) -> Iterator[type[File]]:
    for kind in parent.__subclasses__():
        yield kind
        yield from _kinds(kind)


def _key(file: str, row: Row) -> tuple[str, str]:
    return file, row.request.name
