# SPDX-License-Identifier: GPL-2.0-only
"""A trace in Perfetto's format, read back with Perfetto's own messages."""

from __future__ import annotations

import io
import sys
from collections import defaultdict
from typing import Any

import pytest

from kvm_vfio import Container, Group, Kvm, Unsupported, model
from kvm_vfio.trace.perfetto import write_perfetto
from kvm_vfio.trace.schema import Call, Record

messages = pytest.importorskip(
    "perfetto.protos.perfetto.trace.perfetto_trace_pb2",
    reason="Perfetto's library is missing; pip install perfetto",
)


@pytest.fixture(scope="module")
def records() -> list[Record]:
    heard: list[Record] = []
    linux = model("6.1", snoop_control=False, trace=heard.extend)
    container, first, second = Container(linux), Group(linux, 1), Group(linux, 2)
    first.set_container(container)
    container.set_iommu()
    device = Kvm(linux).create_vm().create_kvm_vfio()
    device.add(first)
    device.add(second)
    device.delete(first)
    device.delete(second)
    device.add(second)  # and it stays
    return heard


@pytest.fixture(scope="module")
def packets(records: list[Record]) -> list[Any]:
    file = io.BytesIO()
    write_perfetto(records, file)
    return list(messages.Trace.FromString(file.getvalue()).packet)


def tracks(packets: list[Any]) -> dict[int, Any]:
    found = [p.track_descriptor for p in packets if p.HasField("track_descriptor")]
    return {descriptor.uuid: descriptor for descriptor in found}


def events(packets: list[Any]) -> dict[str, list[Any]]:
    """Of each track, by the names from the top."""
    by_track = defaultdict(list)
    known = tracks(packets)
    for packet in packets:
        if packet.HasField("track_event"):
            track = known[packet.track_event.track_uuid]
            parent = known.get(track.parent_uuid)
            path = f"{parent.name}/{track.name}" if parent else track.name
            by_track[path].append(packet)
    return by_track


def test_a_vm_has_its_members_as_slices(packets: list[Any]) -> None:
    event = messages.TrackEvent
    found = events(packets)
    begins_ends = [event.TYPE_SLICE_BEGIN, event.TYPE_SLICE_END]
    assert [p.track_event.type for p in found["vm 1/group 1"]] == begins_ends
    assert [p.track_event.type for p in found["vm 1/group 2"]] == begins_ends * 2
    assert [p.track_event.type for p in found["container 1/group 1"]] == begins_ends


def test_noncoherent_dma_is_a_counter(packets: list[Any]) -> None:
    counted = [p.track_event.counter_value for p in events(packets)["vm 1/noncoherent DMA"]]
    assert counted == [0, 1, 0]
    (track,) = (t for t in tracks(packets).values() if t.name == "noncoherent DMA")
    assert track.HasField("counter")


def test_a_thread_has_its_calls(packets: list[Any], records: list[Record]) -> None:
    calls = [record for record in records if isinstance(record, Call)]
    shown = events(packets)["python/python"]
    assert [p.track_event.name for p in shown[::2]] == [call.call for call in calls]
    assert [p.timestamp for p in shown[::2]] == [call.at for call in calls]
    assert [p.timestamp for p in shown[1::2]] == [call.at + call.took for call in calls]
    notes = {n.name: n.string_value for n in shown[0].track_event.debug_annotations}
    assert notes == {"call": 'open("/dev/vfio/vfio")', "answer": "fd 3: container 1"}


def test_without_the_library_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "perfetto.trace_builder.proto_builder", None)
    with pytest.raises(Unsupported, match=r"pip install kvm-vfio\[perfetto\]"):
        write_perfetto([], io.BytesIO())
