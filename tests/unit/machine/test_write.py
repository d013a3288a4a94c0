# SPDX-License-Identifier: GPL-2.0-only
"""Machine files that are written."""

from __future__ import annotations

import pytest
from hypothesis import given

from kvm_vfio.machine.load import builtin_machines, load_machine, parse_machine
from kvm_vfio.machine.model import Machine
from kvm_vfio.machine.write import machine_text
from tests.unit.machine.toml_text import machines


@given(machines())
def test_what_is_written_is_read(machine: Machine) -> None:
    assert parse_machine(machine_text(machine), "m.toml") == machine


@pytest.mark.parametrize("name", builtin_machines())
def test_so_are_the_builtin_ones(name: str) -> None:
    machine = load_machine(name)
    assert parse_machine(machine_text(machine), "m.toml") == machine
