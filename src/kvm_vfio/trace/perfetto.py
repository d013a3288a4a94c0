# SPDX-License-Identifier: GPL-2.0-only
"""A trace for ui.perfetto.dev, in its own format and by its own library.

Rule of this file: a record is told when it is read, and nothing of it is kept but the tracks and
what is still going on.

What one sees: each thread with its calls; each VM with a counter of its noncoherent DMA (WBINVD is
executed while it is not 0), and under it a slice for each member, from ADD to the end of the
membership; each container with a slice for each group in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from kvm_vfio.errors import Unsupported
from kvm_vfio.trace.schema import Call, Close, Decision, End, Header, Record, Task
from kvm_vfio.trace.text import answer_text, close_text, decision_text, request_text

_SEQUENCE = 1  # all packets are of one


def write_perfetto(records: Iterable[Record], file: BinaryIO) -> None:
    """Write `records` to `file`. Unsupported: the library is not installed."""
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2  # noqa: PLC0415 - an extra
        from perfetto.trace_builder.proto_builder import (  # noqa: PLC0415
            StreamingTraceProtoBuilder,
        )
    except ImportError as error:
        raise Unsupported(
            f"Perfetto's library is missing ({error}); pip install kvm-vfio[perfetto]"
        ) from error
    making = _Making(StreamingTraceProtoBuilder(file), perfetto_trace_pb2.TrackEvent)
    for record in records:
        making.take(record)
    making.finish()


class _Making:
    """`kinds` has the names of the kinds of event."""

    def __init__(self, builder: Any, kinds: Any) -> None:  # noqa: ANN401 - the library's
        self._builder = builder
        self._begins, self._ends = kinds.TYPE_SLICE_BEGIN, kinds.TYPE_SLICE_END
        self._instant, self._counts = kinds.TYPE_INSTANT, kinds.TYPE_COUNTER
        self._tracks: dict[object, int] = {}
        self._tasks: dict[int, Task] = {}
        self._going_on: set[object] = set()  # tracks of members and groups with an open slice
        self._at = 0
        self._take: dict[type, Callable[[Any], None]] = {
            Header: lambda _: None,
            Task: self._task,
            Call: self._call,
            Close: self._close,
            Decision: self._decision,
            End: self._end,
        }

    def take(self, record: Record) -> None:
        """Tell a record."""
        self._take[type(record)](record)

    def finish(self) -> None:
        """End what still goes on."""
        for key in sorted(self._going_on, key=str):
            self._event(self._tracks[key], self._ends, self._at)

    # -- packets -----------------------------------------------------------------------------------

    def _packet(self) -> Any:  # noqa: ANN401 - the library's
        packet = self._builder.create_packet()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def _track(
        self, key: object, name: str, parent: int = 0, describe: Callable[[Any], None] | None = None
    ) -> int:
        """The track of `key`, made when it is first asked for."""
        if key not in self._tracks:
            self._tracks[key] = len(self._tracks) + 1
            packet = self._packet()
            descriptor = packet.track_descriptor
            descriptor.uuid, descriptor.name = self._tracks[key], name
            if parent:
                descriptor.parent_uuid = parent
            if describe is not None:
                describe(descriptor)
            self._builder.write_packet(packet)
        return self._tracks[key]

    def _event(
        self, track: int, kind: int, at: int, name: str = "", value: int | None = None, **notes: str
    ) -> None:
        packet = self._packet()
        packet.timestamp = at
        event = packet.track_event
        event.type, event.track_uuid = kind, track
        if name:
            event.name = name
        if value is not None:
            event.counter_value = value
        for note, text in notes.items():
            annotation = event.debug_annotations.add()
            annotation.name, annotation.string_value = note, text
        self._builder.write_packet(packet)

    # -- tracks ------------------------------------------------------------------------------------

    def _thread(self, tid: int) -> int:
        task = self._tasks.get(tid) or Task(0, tid, tid, "?")
        process = self._track(
            ("process", task.pid), task.comm, describe=lambda each: _describe_process(each, task)
        )
        return self._track(
            ("thread", tid), task.comm, process, lambda each: _describe_thread(each, task)
        )

    def _vm(self, number: int) -> int:
        return self._track(("vm", number), f"vm {number}")

    # -- records -----------------------------------------------------------------------------------

    def _task(self, task: Task) -> None:
        self._tasks[task.tid] = task

    def _call(self, call: Call) -> None:
        track, self._at = self._thread(call.tid), call.at
        answer, text = answer_text(call), request_text(call)
        self._event(track, self._begins, call.at, call.call, call=text, answer=answer)
        self._event(track, self._ends, call.at + call.took)

    def _close(self, close: Close) -> None:
        self._at = close.at
        self._event(
            self._track("closes", "last closes"), self._instant, close.at, close_text(close)
        )

    def _end(self, end: End) -> None:
        self._at = end.at

    def _decision(self, decision: Decision) -> None:
        did, member = decision.did, ("member", decision.device, decision.member, decision.file)
        group = "group", decision.container, decision.group
        if did == "taken":
            self._begin(member, decision.member, self._vm(decision.vm), decision)
        elif did in ("dropped", "leaked"):
            self._stop(member)
        elif did == "attached":
            container = self._track(("container", decision.container), decision.container)
            self._begin(group, f"group {decision.group}", container, decision)
        elif did == "detached":
            self._stop(group)
        elif did == "noncoherent":
            self._count(decision.vm, decision.count or 0, decision)
        elif did == "vm made":
            self._count(decision.vm, 0, decision)
        elif did in ("stale", "fresh", "vm destroyed"):
            self._event(self._vm(decision.vm), self._instant, self._at, decision_text(decision))

    def _begin(self, key: object, name: str, parent: int, decision: Decision) -> None:
        track = self._track(key, name, parent)
        self._event(track, self._begins, self._at, name, because=decision_text(decision))
        self._going_on.add(key)

    def _stop(self, key: object) -> None:
        if key in self._going_on:
            self._going_on.remove(key)
            self._event(self._tracks[key], self._ends, self._at)

    def _count(self, vm: int, value: int, decision: Decision) -> None:
        track = self._track(
            ("noncoherent", vm),
            "noncoherent DMA",
            self._vm(vm),
            lambda each: each.counter.SetInParent(),
        )
        because = decision_text(decision)
        self._event(track, self._counts, self._at, value=value)
        self._event(self._vm(vm), self._instant, self._at, because)


def _describe_process(descriptor: Any, task: Task) -> None:  # noqa: ANN401 - the library's
    descriptor.process.pid, descriptor.process.process_name = task.pid, task.comm


def _describe_thread(descriptor: Any, task: Task) -> None:  # noqa: ANN401 - the library's
    descriptor.thread.pid, descriptor.thread.tid = task.pid, task.tid
    descriptor.thread.thread_name = task.comm
