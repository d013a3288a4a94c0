# SPDX-License-Identifier: GPL-2.0-only
"""The model answers what real kernels answered, line by line, effects included."""

from pathlib import Path

import pytest

from kvm_vfio.machine.load import load_machine
from kvm_vfio.machine.model import with_snoop_control
from kvm_vfio.profiles import PROFILES
from kvm_vfio.scenario.model import run_file

SCENARIOS = Path(__file__).parents[2] / "data" / "scenarios"
RECORDINGS = sorted((SCENARIOS / "recorded").glob("*/*.out"))


@pytest.mark.parametrize(
    "recording", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_model_agrees_with_the_recording(recording: Path) -> None:
    kernel, snoop = recording.parent.name.split("-")
    machine = with_snoop_control(load_machine("referee"), on=snoop == "on")
    recorded = [
        line.rstrip() for line in recording.read_text().splitlines() if not line.startswith("#")
    ]
    script = SCENARIOS / f"{recording.stem}.ops"
    answered = [line.rstrip() for line in run_file(script, machine, PROFILES[kernel])]
    assert answered == recorded


def test_every_kernel_is_recorded_with_and_without_snoop_control() -> None:
    seen = {recording.parent.name for recording in RECORDINGS}
    assert seen == {f"{k}-{s}" for k in PROFILES if PROFILES[k].measured for s in ("on", "off")}
