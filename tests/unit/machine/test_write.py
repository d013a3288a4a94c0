# SPDX-License-Identifier: GPL-2.0-only
"""Machine files that are written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.machine.load import builtin_machines, load_machine, parse_machine
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine
from kvm_vfio.machine.write import machine_text
from tests.unit.machine.toml_text import machines


@given(machines())
def test_what_is_written_is_read(machine: Machine) -> None:
    assert parse_machine(machine_text(machine), "m.toml") == machine


@pytest.mark.parametrize("name", builtin_machines())
def test_so_are_the_builtin_ones(name: str) -> None:
    machine = load_machine(name)
    assert parse_machine(machine_text(machine), "m.toml") == machine


def test_so_is_a_model_with_everything() -> None:
    device = Edu.at("0000:00:10.0", trap=False, dma_mask=7)
    device = replace(device, multifunction=True, driver=None)
    machine = Machine("m", (Iommu("dmar0", (IommuGroup(1, (device,)),)),))
    assert parse_machine(machine_text(machine), "m.toml") == machine
