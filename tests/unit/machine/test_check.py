# SPDX-License-Identifier: GPL-2.0-only
"""What no hardware can be, for machines made in Python; `test_load` has every sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.machine.check import faults, msix_sizes, size_text
from kvm_vfio.machine.model import Bar, BarKind, Iommu, IommuGroup, Machine, Msix, PciDevice
from tests.unit.machine.toml_text import machines

EDU = PciDevice("0000:00:10.0", 0x1234, 0x11E8, 0xFF00, bars=(Bar(0, 1 << 20),))


def machine(*devices: PciDevice) -> Machine:
    return Machine("m", (Iommu("dmar0", (IommuGroup(0, devices),)),))


def places(described: Machine) -> list[str]:
    return [fault.place for fault in faults(described)]


@given(machines())
def test_a_possible_machine_has_no_fault(described: Machine) -> None:
    assert list(faults(described)) == []


def test_a_fault_has_a_place_and_a_reason() -> None:
    (fault,) = faults(machine(EDU, EDU))
    assert fault.place == "iommu[0].group[0].device[1].address"
    assert fault.reason == (
        "device 0000:00:10.0 is already iommu[0].group[0].device[0]; choose another address"
    )


def test_an_address_is_that_of_one_device_in_the_whole_machine() -> None:
    units = (
        Iommu("dmar0", (IommuGroup(0, (EDU,)),)),
        Iommu("dmar1", (IommuGroup(1, (EDU,)),)),
    )
    assert places(Machine("m", units)) == ["iommu[1].group[0].device[0].address"]


def test_an_iommu_has_a_name_of_its_own() -> None:
    other = replace(EDU, address="0000:00:11.0")
    units = (
        Iommu("dmar0", (IommuGroup(0, (EDU,)),)),
        Iommu("dmar0", (IommuGroup(1, (other,)),)),
    )
    assert places(Machine("m", units)) == ["iommu[1].name"]


def test_no_machine_without_an_iommu() -> None:
    assert places(Machine("m", ())) == ["iommu"]


@given(st.integers(-(1 << 64), 1 << 64))
def test_a_32_bit_bar_has_a_power_of_two_from_16_to_2g(size: int) -> None:
    possible = size in {1 << n for n in range(4, 32)}
    assert (places(machine(replace(EDU, bars=(Bar(0, size),)))) == []) is possible


@pytest.mark.parametrize(("kind", "most"), [(BarKind.IO, 256), (BarKind.MEMORY64, 1 << 40)])
def test_the_largest_bar(kind: BarKind, most: int) -> None:
    assert places(machine(replace(EDU, bars=(Bar(0, most, kind),)))) == []
    assert places(machine(replace(EDU, bars=(Bar(0, most * 2, kind),)))) != []


@pytest.mark.parametrize("vectors", [1, 63, 64, 65, 2048])
def test_msix_fits_exactly(vectors: int) -> None:
    table, pending = msix_sizes(vectors)
    assert table == 16 * vectors
    assert pending * 8 >= vectors > (pending - 8) * 8
    size = 1 << 16
    msix = Msix(vectors, 0, size - table - pending, 0, size - pending)
    bars = (Bar(0, size),)
    assert places(machine(replace(EDU, bars=bars, msix=msix))) == []
    beyond = replace(msix, pba_offset=size - pending + 8)
    assert places(machine(replace(EDU, bars=bars, msix=beyond))) == [
        "iommu[0].group[0].device[0].msix.pba_offset"
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0"), (1000, "1000"), (1024, "1K"), (1536, "1536"), (1 << 20, "1M"), (3 << 30, "3G")],
)
def test_sizes_are_written_as_in_files(size: int, text: str) -> None:
    assert size_text(size) == text
