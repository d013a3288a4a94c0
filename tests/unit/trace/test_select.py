# SPDX-License-Identifier: GPL-2.0-only
"""A part of a trace."""

from __future__ import annotations

from typing import Any

import pytest

from kvm_vfio import Container, Group, Kvm, model
from kvm_vfio.trace.schema import Call, Close, Decision, Header, Record
from kvm_vfio.trace.select import Selection
from kvm_vfio.trace.text import lines


@pytest.fixture(scope="module")
def records() -> list[Record]:
    heard: list[Record] = []
    linux = model("6.1", snoop_control=False, trace=heard.extend)
    container = Container(linux)
    first, second = Group(linux, 1), Group(linux, 2)
    first.set_container(container)
    container.set_iommu()
    with Kvm(linux).create_vm() as vm, vm.create_kvm_vfio() as device:
        device.add(first)
        device.add(second)
        with pytest.raises(FileExistsError):
            device.add(second)
        device.delete(second)
        device.delete(first)
    return heard


def chosen(records: list[Record], **options: Any) -> list[str]:  # noqa: ANN401
    return [
        record.call if isinstance(record, Call) else record.what
        for record in Selection(**options).of(records)
        if isinstance(record, Call | Close)
    ]


def test_everything(records: list[Record]) -> None:
    assert list(Selection().of(records)) == records


def test_by_name(records: list[Record]) -> None:
    assert chosen(records, calls=("VFIO_SET_*", "KVM_CREATE_VM")) == [
        "VFIO_SET_IOMMU",
        "KVM_CREATE_VM",
    ]


def test_failed(records: list[Record]) -> None:
    assert chosen(records, failed=True) == ["KVM_SET_DEVICE_ATTR"]


def test_about_an_object_with_the_decisions(records: list[Record]) -> None:
    assert chosen(records, about=("group 2",)) == ["open", *["KVM_SET_DEVICE_ATTR"] * 3]
    last = list(Selection(about=("group 2",), calls=("KVM_SET*",)).of(records))
    assert any(isinstance(record, Decision) and record.did == "dropped" for record in last)


def test_about_an_object_that_only_a_decision_names(records: list[Record]) -> None:
    assert "KVM_CREATE_VM" in chosen(records, about=("vm 1",))


def test_by_number_and_time(records: list[Record]) -> None:
    calls = [record for record in records if isinstance(record, Call)]
    assert len(chosen(records, first=3, last=5)) == 3
    assert chosen(records, until=calls[1].at / 1e9) == [call.call for call in calls[:2]]
    assert chosen(records, since=calls[-1].at / 1e9)[0] == calls[-1].call
    assert chosen(records, tids=(99,)) == []


def test_the_frame_stays(records: list[Record]) -> None:
    assert isinstance(next(Selection(calls=("none",)).of(records)), Header)


def test_text(records: list[Record]) -> None:
    shown = list(lines(records))
    assert shown[0].startswith("# Linux 6.1 on default, python KVM")
    assert any(
        "#10 python[1] KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 2 (fd 5)) = 0  <" in line
        for line in shown
    )
    assert f"{'':18} -> vm 1: noncoherent DMA off" in shown
