# SPDX-License-Identifier: GPL-2.0-only
"""What was so when, from the records."""

from __future__ import annotations

import pytest

from kvm_vfio.report.course import FOREVER, Course, course
from kvm_vfio.report.problems import problems
from tests.unit.report.records import CONTAINER, DEVICE, GROUP, VM, Trace, a_vm_and_a_group


def at(made: Course, row: int) -> set[str]:
    """The state at a row, each span as words."""
    names = [node.name for node in made.nodes]
    return {
        f"{names[span.x]} {span.what}{f' {names[span.y]}' if span.y >= 0 else ''}"
        for span in made.spans
        if span.begin <= row and (span.end == FOREVER or row < span.end)
    }


def test_the_state_before_and_after_an_add() -> None:
    made = course(a_vm_and_a_group().end())
    assert [row.text for row in made.rows[9:]] == [
        "KVM_SET_DEVICE_ATTR(kvm-vfio 1, group 3 (fd 7)) = 0",
        "kvm-vfio 1 of vm 1 holds group 3",
        "vm 1: noncoherent DMA on (group 3: dmar0 has no snoop control)",
    ]
    before = at(made, 9)
    assert before == {
        *(f"{name} there" for name in ("vm 1", "kvm-vfio 1", "container 1", "group 3")),
        *(f"{name} open" for name in ("vm 1", "kvm-vfio 1", "container 1", "group 3")),
        "iommu dmar0 there",
        "iommu dmar0 has group 3",
        "device 0000:00:12.0 there",
        "group 3 has device 0000:00:12.0",
        "vm 1 has kvm-vfio 1",
        "group 3 in container 1",
        "container 1 has domain 1",
        "domain 1 there",
        "domain 1 maps group 3",
        "domain 1 noncoherent",
    }
    assert at(made, 10) - before == {"kvm-vfio 1 holds group 3"}
    assert at(made, 11) - before == {"kvm-vfio 1 holds group 3", "vm 1 executed"}


def test_a_call_is_about_what_it_named_and_made() -> None:
    made = course(a_vm_and_a_group().end())
    names = [[made.nodes[node].name for node in row.nodes] for row in made.rows]
    assert names[0] == []  # /dev/kvm is no object of the picture
    assert names[3] == ["vm 1", "kvm-vfio 1"]
    assert names[9] == ["kvm-vfio 1", "group 3"]


def test_a_container_lasts_as_long_as_a_group_is_in_it() -> None:
    trace = a_vm_and_a_group().close(CONTAINER).close(GROUP)
    trace.decided("detached", group=3, container="container 1")
    made = course(trace.end())
    assert "container 1 open" not in at(made, 12)
    assert {"container 1 there", "domain 1 there", "group 3 in container 1"} <= at(made, 12)
    assert "group 3 open" not in at(made, 13)
    gone = at(made, 14)
    assert not {name for name in gone if "container" in name or "domain" in name}


def test_the_end_of_a_vm_ends_what_is_so_of_it() -> None:
    trace = a_vm_and_a_group().close(DEVICE)
    trace.decided("device released", vm=1, device="kvm-vfio 1", count=1)
    trace.decided("dropped", vm=1, device="kvm-vfio 1", member="group 3")
    trace.decided("noncoherent", vm=1, on=False, count=0)
    trace.close(VM).decided("vm destroyed", vm=1)
    made = course(trace.end())
    assert not {text for text in at(made, 17) if "vm 1" in text or "kvm-vfio" in text}


def test_a_leak_stays() -> None:
    trace = a_vm_and_a_group().close(DEVICE)
    trace.decided("leaked", vm=1, device="kvm-vfio 1", member="group 3")
    trace.decided("device destroyed", vm=1, device="kvm-vfio 1", count=0)
    made = course(trace.end())
    last = at(made, len(made.rows) - 1)
    assert "kvm-vfio 1 leaked group 3" in last
    assert "kvm-vfio 1 holds group 3" not in last
    assert [p.kind for p in problems(made)] == ["mistake", "cost"]


def test_stale_until_it_is_told() -> None:
    trace = a_vm_and_a_group().call("VFIO_SET_IOMMU", CONTAINER)
    trace.decided("stale", vm=1, device="kvm-vfio 1", on=True)
    trace.call("KVM_SET_DEVICE_ATTR", DEVICE)
    trace.decided("dropped", vm=1, device="kvm-vfio 1", member="group 3")
    made = course(trace.end())
    assert "kvm-vfio 1 stale" in at(made, 14)
    assert "kvm-vfio 1 stale" not in at(made, 15)


def test_places_are_used_again() -> None:
    trace = Trace()
    for _ in range(50):
        trace.call("KVM_CREATE_VM", answer=4, made=[VM]).decided("vm made", vm=1)
        trace.close(VM).decided("vm destroyed", vm=1)
    made = course(trace.end())
    assert {node.slot for node in made.nodes} == {0}


def test_objects_that_are_there_together_have_places_of_their_own() -> None:
    made = course(a_vm_and_a_group().end())
    places = [(node.kind, node.slot) for node in made.nodes]
    assert len(set(places)) == len(places)


def test_calls_of_others_are_told_apart() -> None:
    trace = Trace().call("mmap", answer="continue").call("KVM_RUN", VM, answer="continue")
    made = course(trace.end())
    assert [(row.kind, row.failed) for row in made.rows] == [("other", False), ("call", False)]


def test_calls_that_were_refused_alike_are_one_problem() -> None:
    trace = Trace()
    for _ in range(3):
        why = "VFIO group 3 is a member already"
        trace.call("KVM_SET_DEVICE_ATTR", DEVICE, answer="EEXIST", why=why)
    trace.call("KVM_SET_DEVICE_ATTR", DEVICE, answer="ENOENT", why="no member")
    found = problems(course(trace.end()))
    assert [(p.row, p.kind, p.times) for p in found] == [(0, "refused", 3), (3, "refused", 1)]
    assert found[0].fix


def test_there_is_a_bound() -> None:
    made = course(a_vm_and_a_group().end(), most=5)
    assert (len(made.rows), made.cut) == (5, True)


def test_a_trace_that_was_cut_off() -> None:
    made = course(a_vm_and_a_group().records)
    assert (made.end, made.cut) == (None, False)


def test_a_trace_begins_with_its_header() -> None:
    with pytest.raises(TypeError):
        course(a_vm_and_a_group().records[1:])
