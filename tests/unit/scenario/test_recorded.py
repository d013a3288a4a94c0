# SPDX-License-Identifier: GPL-2.0-only
"""The model answers what real kernels answered, line by line, effects included."""

import pytest

from kvm_vfio.profiles import PROFILES
from kvm_vfio.scenario.conform import Recording, recordings
from kvm_vfio.scenario.kernels import model_kernel, run

RECORDINGS = recordings()


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_the_model_agrees_with_the_recording(recording: Recording) -> None:
    kernel = model_kernel(recording.linux, snoop=recording.snoop)
    assert [line.rstrip() for line in run(kernel, recording.operations())] == recording.lines()


def test_every_kernel_is_recorded_with_and_without_snoop_control() -> None:
    measured = {name for name, profile in PROFILES.items() if profile.measured}
    seen = {(recording.linux, recording.snoop) for recording in RECORDINGS}
    assert seen == {(name, snoop) for name in measured for snoop in (True, False)}
