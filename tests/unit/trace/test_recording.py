# SPDX-License-Identifier: GPL-2.0-only
"""What is recorded of a kernel's decisions, and in which order."""

from __future__ import annotations

from inspect import signature

import pytest

from kvm_vfio.client import Container, Group, Kvm, KvmVfio, ModelSyscalls, model
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.trace.fanout import fan_out
from kvm_vfio.trace.names import reasons
from kvm_vfio.trace.recording import Recording
from kvm_vfio.trace.schema import Decision, Domain, Reason, Record


class Process:
    """A process on a model whose decisions are heard; `did` has those since it was asked last."""

    def __init__(self, linux: str, *, snoop_control: bool) -> None:
        self.records: list[Record] = []
        self.recording = Recording(self.records.extend)
        self.process: ModelSyscalls = model(
            linux, snoop_control=snoop_control, observer=self.recording
        )
        self.recording.start(self.process.kernel, "python", [])

    def did(self) -> list[str]:
        self.recording.answered(1, "", 0)
        decisions = self.decisions()
        self.records.clear()
        return [decision.did for decision in decisions]

    def decisions(self) -> list[Decision]:
        return [record for record in self.records if isinstance(record, Decision)]

    def device(self) -> KvmVfio:
        device = Kvm(self.process).create_vm().create_kvm_vfio()
        assert self.did() == ["vm made", "device made"]
        return device


def in_container(process: ModelSyscalls, number: int) -> tuple[Container, Group]:
    container, group = Container(process), Group(process, number)
    group.set_container(container)
    return container, group


def test_add_and_del_in_the_kernels_order() -> None:
    on = Process("6.12", snoop_control=False)
    device = on.device()
    container, group = in_container(on.process, 1)
    container.set_iommu(3)
    assert on.did() == ["attached", "iommu set"]
    device.add(group)
    assert on.did() == ["taken", "coherency", "noncoherent"]
    device.delete(group)
    assert on.did() == ["dropped", "noncoherent"]


def test_the_chain_of_reasons_where_containers_decide() -> None:
    on = Process("6.1", snoop_control=False)
    device = on.device()
    container, group = in_container(on.process, 1)
    container.set_iommu(3)
    device.add(group)
    on.recording.answered(1, "", 0)
    by_kind = {decision.did: decision for decision in on.decisions()}
    assert by_kind["iommu set"].domains == (Domain("domain 1", (1,), ("dmar0",), coherent=False),)
    assert by_kind["noncoherent"].reasons == (
        Reason(
            "group 1",
            "its container's domain does not enforce coherency: an IOMMU lacks snoop control",
            "container 1",
            "domain 1",
            "dmar0",
        ),
    )
    (vm,) = on.process.kernel.vms.values()
    assert reasons(vm) == by_kind["noncoherent"].reasons


def test_add_before_set_iommu_is_stale_until_the_next_add_or_del() -> None:
    on = Process("6.1", snoop_control=True)
    device = on.device()
    container, group = in_container(on.process, 1)
    device.add(group)
    assert on.did() == ["attached", "taken", "coherency", "noncoherent"]
    container.set_iommu(3)
    assert on.did() == ["iommu set", "stale"]
    other = Group(on.process, 2)
    device.add(other)
    assert on.did() == ["taken", "coherency", "coherency", "noncoherent", "fresh"]


def test_a_release_tells_what_it_drops() -> None:
    on = Process("6.12", snoop_control=True)
    device = on.device()
    group = Group(on.process, 1)
    device.add(group)
    on.did()
    file = on.process.files.get(device.fileno())
    assert file is not None
    on.recording.closing(file, "close")
    device.close()
    assert on.did() == ["device released", "dropped"]


def test_names_last_as_long_as_the_file() -> None:
    on = Process("6.12", snoop_control=True)
    first, second = Group(on.process, 1), Group(on.process, 2)
    files = [on.process.files.get(group.fileno()) for group in (first, second, first)]
    labels = [on.recording.label(file) for file in files if file is not None]
    assert [(label.file, label.what) for label in labels] == [
        (1, "group 1"),
        (2, "group 2"),
        (1, "group 1"),
    ]


@pytest.mark.parametrize("event", [n for n in vars(Observer) if not n.startswith("_")])
def test_fan_out_passes_every_event_on(event: str) -> None:
    heard: list[tuple[str, str]] = []

    def hears(name: str) -> Observer:
        method = lambda self, *a, **k: heard.append((name, event))  # noqa: E731
        made: Observer = type("Hears", (Observer,), {event: method})()
        return made

    listened = fan_out(hears("a"), Observer(), hears("b"))
    named, *others = signature(getattr(Observer, event)).parameters.values()
    plain = [each for each in others if each.kind is not each.KEYWORD_ONLY]
    by_name = {each.name: None for each in others if each.kind is each.KEYWORD_ONLY}
    assert named.name == "self"
    getattr(listened, event)(*plain, **by_name)
    assert heard == [("a", event), ("b", event)]


def test_fan_out_asks_no_more_than_somebody_hears() -> None:
    quiet = model(observer=fan_out(Observer(), Observer())).kernel
    assert isinstance(quiet, Kernel)
    assert not quiet.external.watched
