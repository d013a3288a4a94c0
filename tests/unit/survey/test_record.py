# SPDX-License-Identifier: GPL-2.0-only
"""From a computer to a machine file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.errors import Unsupported
from kvm_vfio.machine.check import faults
from kvm_vfio.machine.load import load_machine, parse_machine
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine
from kvm_vfio.machine.write import machine_text
from kvm_vfio.survey.facts import Computer, Function, Group, Unit
from kvm_vfio.survey.record import described, device, unreadable
from tests.unit.survey.recorded import NAMES, TWO_UNITS, computer

WITH_IOMMU = [name for name in NAMES if not name.startswith("none")]


@pytest.mark.parametrize("name", WITH_IOMMU)
def test_what_is_written_is_read(name: str, tmp_path: Path) -> None:
    machine = described(computer(name, tmp_path))
    assert parse_machine(machine_text(machine), "here.toml") == machine


def test_the_referees_machine_is_recorded_as_it_was_described_by_hand(tmp_path: Path) -> None:
    machine = described(computer("intel-6.12", tmp_path))
    recorded = {device.address: device for _, device in machine.devices()}
    by_hand = [
        replace(
            device,
            behaviour=None,
            addresses=(),
            interrupt_line=0,
            irq=0,
            config=(),
            registers=(),
        )
        for _, device in load_machine("referee").devices()
    ]
    assert [recorded[device.address] for device in by_hand] == by_hand


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("intel-6.12", ("dmar0", "intel", False, True, 39)),
        ("intel-7.3-snoop", ("dmar0", "intel", True, True, 39)),
        ("intel-6.1-no-remapping", ("dmar0", "intel", False, False, 39)),
        ("amd-6.12", ("ivhd0", "amd", True, True, 64)),
    ],
)
def test_iommus(name: str, expected: tuple[object, ...], tmp_path: Path) -> None:
    (iommu,) = described(computer(name, tmp_path)).iommus
    assert (
        iommu.name,
        iommu.kind,
        iommu.snoop_control,
        iommu.interrupt_remapping,
        iommu.address_width,
    ) == expected


def test_each_unit_has_its_groups(tmp_path: Path) -> None:
    machine = described(computer("intel-6.12", tmp_path, *TWO_UNITS))
    assert [(iommu.name, iommu.address_width) for iommu in machine.iommus] == [
        ("dmar0", 39),
        ("dmar1", 39),  # MGAW; its page tables have 48
    ]
    assert [group.number for group in machine.iommus[1].groups] == [4]


def test_no_iommu_no_machine(tmp_path: Path) -> None:
    with pytest.raises(Unsupported, match="has no IOMMU and so no group to record"):
        described(computer("none-6.1", tmp_path))


def test_other_iommus_and_architectures() -> None:
    functions = (Function("0000:00:01.0", 1, 2, 3, group=0, iommu="smmu3.0"),)
    there = Computer(
        "6.12", "aarch64", units=(Unit("smmu3.0", "other"),), groups=(Group(0, functions),)
    )
    with pytest.raises(Unsupported, match=r"this computer has smmu3\.0"):
        described(there)
    with pytest.raises(Unsupported, match="this computer is riscv64"):
        described(Computer("6.12", "riscv64"))


def test_without_privilege_the_capabilities_are_not_there(tmp_path: Path) -> None:
    there = computer("intel-6.12", tmp_path)
    assert unreadable(there) == 0
    cut = Function("0000:00:01.0", 1, 2, 3, config=there.groups[1].functions[0].config[:64])
    assert unreadable(Computer("6.12", "x86_64", groups=(Group(0, (cut,)),))) == 1
    assert (device(cut).interrupt_pin, device(cut).msi) == (1, None)


def test_the_ports_of_an_ide_controller_are_no_bars() -> None:
    ports = ((0x1F0, 0x1F7, 0x110), (0x3F6, 0x3F6, 0x110), (0xC000, 0xC00F, 0x40101))
    made = device(Function("0000:00:1f.1", 1, 2, 0x010180, resources=ports))
    assert [(bar.index, bar.size) for bar in made.bars] == [(0, 8), (2, 16)]


def test_a_drivers_name_becomes_one_that_can_be_written() -> None:
    assert device(Function("0000:00:01.0", 1, 2, 3, driver="Intel ICH")).driver == "Intel-ICH"


_RESOURCES = st.tuples(*[st.integers(0, (1 << 64) - 1)] * 3)


@given(config=st.binary(max_size=256), resources=st.lists(_RESOURCES, max_size=6).map(tuple))
def test_any_bytes_become_hardware(
    config: bytes, resources: tuple[tuple[int, int, int], ...]
) -> None:
    function = Function("0000:00:01.0", 1, 2, 3, config=config, resources=resources)
    alone = Machine("x", (Iommu("dmar0", (IommuGroup(0, (device(function),)),)),))
    assert list(faults(alone)) == []
