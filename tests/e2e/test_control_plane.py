# SPDX-License-Identifier: GPL-2.0-only
"""The model's KVM under a program: eventfds between KVM and VFIO."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.e2e.conftest import PROGRAMS
from tests.e2e.supervised import steps, supervised


def test_interrupts_by_eventfd(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    program = str(PROGRAMS / "events.py")
    done = supervised("--kvm", "model", "--trace", str(trace), sys.executable, program)
    assert done.returncode == 0
    assert steps(done.stdout) == {
        "irqchip": "0",
        "irqfd": "0",
        "the same again": "Device or resource busy",
        "the same by another number": "Device or resource busy",
        "before": "0x0",
        "signalled": "0x20",
        "taken": "nothing",
        "away": "0",
        "for itself": "2",
        "MSI": "0",
        "without KVM": "1",
        "irqfd of the device": "0",
        "with KVM": "nothing",
        "in the IOAPIC": "0x0",
        "statistics": "True kvm-1",
    }
    assert "VM 1: 1 interrupt by irqfd: GSI 5" in done.stderr
    assert "VM 1: 1 interrupt by irqfd: GSI 20" in done.stderr
    assert "a bug in kvm-vfio" not in done.stderr
    records = [json.loads(line) for line in trace.read_text().splitlines()]
    raised = [each for each in records if each.get("did") == "interrupt"]
    assert [(each["vm"], each["because"]) for each in raised] == [(1, "GSI 5"), (1, "GSI 20")]
    cause = next(each for each in records if each["is"] == "call" and each["n"] == raised[1]["n"])
    assert cause["call"] == "VFIO_DEVICE_SET_IRQS"
