# SPDX-License-Identifier: GPL-2.0-only
"""From the records of a trace to the course of events: rows, and spans of what was so when.

Rule of this file: pure, one pass, and a state is never stored. Whatever was so for a while (an
object is there, a file is open, a device holds a group, WBINVD is executed) is one span, from the
row that began it up to, and not with, the row that ended it. The state at a row is every span that
it lies in.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from kvm_vfio.trace.explanation import Explanation
from kvm_vfio.trace.history import History
from kvm_vfio.trace.schema import (
    CONTINUED,
    Call,
    Close,
    Decision,
    Domain,
    End,
    Header,
    Object,
    Record,
    Task,
)
from kvm_vfio.trace.text import call_text, close_text, decision_text

FOREVER = -1  # the end of a span that no row ended
_NOBODY = -1
MOST_ROWS = 1_000_000  # 700 MB until the page is made
CHUNK = 500  # rows whose records are packed together

_KINDS = ("vm", "kvm-vfio", "container", "domain", "group", "device", "iommu")
_ENCODE = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Span:
    """`what` was so of node `x` (and `y`, for a tie) from row `begin` up to row `end`.

    Of a node: "there", "open", "executed" (its WBINVD is), "stale", "noncoherent" (a domain). Of
    two: "has", "holds", "leaked", "in", "maps".
    """

    what: str
    x: int
    y: int
    begin: int
    end: int = FOREVER
    text: str = ""


@dataclass(slots=True)
class Row:
    """A "call", a "close" or a "decision"; an "other" call is the computer's own and of no object.

    `nodes` are the objects that it is about.
    """

    kind: str
    n: int
    at: int
    took: int
    task: int
    failed: bool
    text: str
    nodes: tuple[int, ...]


@dataclass(slots=True)
class Node:
    """An object; `slot` is its place among those of its kind that are there at the same time."""

    name: str
    kind: str
    slot: int = 0


@dataclass
class Course:
    """All of a trace. `packed` has the records of the rows as they were, `CHUNK` at a time."""

    header: Header
    rows: list[Row] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    end: End | None = None
    told: Explanation | None = None
    cut: bool = False  # there was more than MOST_ROWS


def course(records: Iterable[Record], *, most: int = MOST_ROWS) -> Course:
    """What happened in `records`, the header first."""
    records = iter(records)
    header = next(records)
    if not isinstance(header, Header):
        raise TypeError("a trace begins with its header")
    making = _Making(Course(header))
    heard = History()
    heard([header])
    for record in records:
        if len(making.made.rows) >= most:
            making.made.cut = True
            break
        making.take(record)
        heard([record])
    making.finish()
    making.made.told = heard.explanation()
    return making.made


class _About(NamedTuple):
    """The nodes that a decision names."""

    vm: int | None
    device: int | None
    member: int | None
    group: int | None
    container: int | None


_Key = tuple[str, int, int]


class _Making:
    def __init__(self, made: Course) -> None:
        self.made = made
        self._records: list[bytes] = []
        self._nodes: dict[str, int] = {}
        self._tasks: dict[int, int] = {}
        self._files: dict[int, int] = {}  # open files: the node of each
        self._opened: Counter[int] = Counter()  # and how many each has
        self._live: dict[_Key, Span] = {}
        self._of: dict[int, dict[_Key, None]] = {}  # what is live, by node
        self._at = self._task = 0
        self._hardware = {
            f"group {group.number}": (iommu.name, [d.address for d in group.devices])
            for iommu, group in made.header.machine.groups()
        }
        self._home = {a: group for group, (_, devices) in self._hardware.items() for a in devices}

    def take(self, record: Record) -> None:
        if isinstance(record, Call):
            self._call(record)
        elif isinstance(record, Decision):
            self._decision(record)
        elif isinstance(record, Close):
            self._close(record)
        elif isinstance(record, Task):
            self._tasks[record.tid] = len(self.made.tasks)
            self.made.tasks.append(f"{record.comm} [{record.pid}]")
        elif isinstance(record, End):
            self.made.end = record

    def finish(self) -> None:
        """Pack what is left, and give every node its place."""
        self._pack()
        there: dict[int, Span] = {s.x: s for s in self.made.spans if s.what == "there"}
        free: dict[str, list[int]] = {}
        ends: list[tuple[int, str, int]] = []
        most: dict[str, int] = {}
        for node, span in sorted(there.items(), key=lambda item: item[1].begin):
            while ends and ends[0][0] <= span.begin:
                _, kind, slot = heapq.heappop(ends)
                heapq.heappush(free.setdefault(kind, []), slot)
            kind = self.made.nodes[node].kind
            if free.get(kind):
                slot = heapq.heappop(free[kind])
            else:
                slot = most[kind] = most.get(kind, -1) + 1
            self.made.nodes[node].slot = slot
            if span.end != FOREVER:
                heapq.heappush(ends, (span.end, kind, slot))

    # -- rows --------------------------------------------------------------------------------------

    def _row(
        self,
        kind: str,
        record: Call | Close | Decision,
        text: str,
        nodes: Iterable[int | None],
        *,
        failed: bool = False,
        took: int = 0,
    ) -> None:
        about = tuple(dict.fromkeys(node for node in nodes if node is not None))
        self.made.rows.append(Row(kind, record.n, self._at, took, self._task, failed, text, about))
        self._records.append(_ENCODE(record))
        if len(self._records) == CHUNK:
            self._pack()

    def _pack(self) -> None:
        if self._records:
            self.made.packed.append(zlib.compress(b"\n".join(self._records), 9))
            self._records.clear()

    @property
    def _now(self) -> int:
        return len(self.made.rows)

    def _call(self, call: Call) -> None:
        self._at, self._task = call.at, self._tasks.get(call.tid, -1)
        on = self._seen(Object(call.fd or 0, call.file, call.on)) if call.file else None
        nodes = [on, *map(self._seen, (*call.looked_up, *call.made))]
        failed = isinstance(call.answer, str) and call.answer != CONTINUED
        others = call.answer == CONTINUED and all(node is None for node in nodes)
        kind = "other" if others else "call"
        self._row(kind, call, call_text(call), nodes, failed=failed, took=call.took)

    def _close(self, close: Close) -> None:
        self._at, self._task = close.at, -1
        node = self._files.pop(close.file, None)
        if node is None:
            node = self._node(close.what)
        else:
            self._opened[node] -= 1
            if not self._opened[node]:
                self._end("open", node)
                self._let_go_of_container(node)
        self._row("close", close, close_text(close), [node])

    # -- nodes and spans ---------------------------------------------------------------------------

    def _node(self, name: str) -> int | None:
        """The node of a name, made when it is first met; None for what is no object of ours."""
        if name in self._nodes:
            return self._nodes[name]
        kind = name.partition(" ")[0]
        if kind not in _KINDS:
            return None
        node = self._nodes[name] = len(self.made.nodes)
        self.made.nodes.append(Node(name, kind))
        self._begin("there", node)
        if name in self._hardware:
            iommu, devices = self._hardware[name]
            self._tie("has", self._node(f"iommu {iommu}"), node)
            for address in devices:
                self._tie("has", node, self._node(f"device {address}"))
        elif kind == "device":
            self._node(self._home.get(name.partition(" ")[2], ""))
        return node

    def _seen(self, found: Object) -> int | None:
        """The node of an open file."""
        node = self._node(found.what)
        if node is not None and found.file and found.file not in self._files:
            self._files[found.file] = node
            self._opened[node] += 1
            self._begin("open", node)
        return node

    def _begin(self, what: str, x: int | None, y: int | None = None, text: str = "") -> None:
        if x is None:
            return
        key = what, x, _NOBODY if y is None else y
        if key not in self._live:
            span = self._live[key] = Span(*key, self._now, text=text)
            self.made.spans.append(span)
            for node in key[1:]:
                self._of.setdefault(node, {})[key] = None

    def _tie(self, what: str, x: int | None, y: int | None, text: str = "") -> None:
        if y is not None:
            self._begin(what, x, y, text)

    def _end(self, what: str, x: int | None, y: int | None = None) -> None:
        if x is not None:
            self._end_key((what, x, _NOBODY if y is None else y))

    def _end_key(self, key: _Key) -> None:
        span = self._live.pop(key, None)
        if span is not None:
            span.end = self._now
            for node in key[1:]:
                self._of[node].pop(key, None)

    def _end_all(self, x: int | None) -> None:
        """Nothing is so of `x` any more; what leaked stays so."""
        for key in self._keys(x):
            if key[0] != "leaked":
                self._end_key(key)

    def _keys(self, x: int | None) -> list[_Key]:
        return [] if x is None else list(self._of.get(x, ()))

    # -- decisions ---------------------------------------------------------------------------------

    def _decision(self, decision: Decision) -> None:
        about = _About(
            vm=self._node(f"vm {decision.vm}") if decision.vm else None,
            device=self._node(decision.device),
            member=self._node(decision.member),
            group=None if decision.group is None else self._node(f"group {decision.group}"),
            container=self._node(decision.container),
        )
        change = _CHANGES.get(decision.did)
        if change is not None:
            change(self, decision, about)
        self._row("decision", decision, decision_text(decision), about)

    def vm_destroyed(self, _decision: Decision, about: _About) -> None:
        self._end_all(about.vm)

    def device_made(self, _decision: Decision, about: _About) -> None:
        self._tie("has", about.vm, about.device)

    def device_ended(self, _decision: Decision, about: _About) -> None:
        self._end_all(about.device)

    def taken(self, _decision: Decision, about: _About) -> None:
        self._end("stale", about.device)
        self._tie("holds", about.device, about.member)

    def dropped(self, _decision: Decision, about: _About) -> None:
        self._end("stale", about.device)
        self._end("holds", about.device, about.member)

    def leaked(self, _decision: Decision, about: _About) -> None:
        self._end("holds", about.device, about.member)
        self._tie("leaked", about.device, about.member)

    def noncoherent(self, decision: Decision, about: _About) -> None:
        self._end("executed", about.vm)
        if decision.count:
            reasons = (f"{reason.member}: {reason.because}" for reason in decision.reasons)
            self._begin("executed", about.vm, text="; ".join(reasons))

    def stale(self, decision: Decision, about: _About) -> None:
        self._begin("stale", about.device, text=decision_text(decision))

    def fresh(self, _decision: Decision, about: _About) -> None:
        self._end("stale", about.device)

    def attached(self, decision: Decision, about: _About) -> None:
        self._tie("in", about.group, about.container)
        self._map(about.container, decision.domains)

    def detached(self, decision: Decision, about: _About) -> None:
        self._end("in", about.group, about.container)
        self._map(about.container, decision.domains)
        self._let_go_of_container(about.container)

    def iommu_set(self, decision: Decision, about: _About) -> None:
        self._map(about.container, decision.domains)

    def _map(self, container: int | None, domains: tuple[Domain, ...]) -> None:
        """The container now has these domains, and no others."""
        if container is None:
            return
        now = {domain.what for domain in domains}
        for what, x, y in self._keys(container):
            if what == "has" and x == container and self.made.nodes[y].name not in now:
                self._forget(y)
        for domain in domains:
            node = self._node(domain.what)
            groups = [self._node(f"group {number}") for number in domain.groups]
            for key in self._keys(node):
                if key[0] == "maps" and key[2] not in groups:
                    self._end_key(key)
            self._tie("has", container, node)
            for group in groups:
                self._tie("maps", node, group)
            if not domain.coherent:
                self._begin("noncoherent", node)

    def _forget(self, node: int) -> None:
        """The object is no more; another of its name would be another node."""
        self._end_all(node)
        self._nodes.pop(self.made.nodes[node].name, None)

    def _let_go_of_container(self, node: int | None) -> None:
        """A container ends when nobody has it open and no group is in it."""
        if node is None or self.made.nodes[node].kind != "container":
            return
        held = any(key[0] == "in" for key in self._keys(node))
        if not held and not self._opened[node]:
            self._map(node, ())
            self._forget(node)


_CHANGES: dict[str, Callable[[_Making, Decision, _About], None]] = {
    "vm destroyed": _Making.vm_destroyed,
    "device made": _Making.device_made,
    "device released": _Making.device_ended,
    "device destroyed": _Making.device_ended,
    "taken": _Making.taken,
    "dropped": _Making.dropped,
    "leaked": _Making.leaked,
    "noncoherent": _Making.noncoherent,
    "stale": _Making.stale,
    "fresh": _Making.fresh,
    "attached": _Making.attached,
    "detached": _Making.detached,
    "iommu set": _Making.iommu_set,
}
