# SPDX-License-Identifier: GPL-2.0-only
"""What is remembered of a kernel's history, and how much of it."""

from __future__ import annotations

from errno import EBUSY

from kvm_vfio.trace.recorder import Recorder


def test_failures_of_one_kind_are_counted_together() -> None:
    recorder: Recorder[str] = Recorder()
    for _ in range(3):
        recorder.failed("open", EBUSY, "it is open")
    recorder.failed("open", EBUSY, "something else")
    assert recorder.failures[("open", EBUSY, "it is open")] == 3
    assert len(recorder.failures) == 2


def test_memory_is_bounded() -> None:
    recorder: Recorder[int] = Recorder()
    for n in range(10_000):
        recorder.failed(n, EBUSY, "why")
        recorder.unknown(str(n))
        recorder.unreachable(str(n))
    assert len(recorder.failures) + recorder.failures_left_out == 10_000
    assert len(recorder.failures) < 1000
    assert sum(recorder.not_modelled.values()) == 10_000
    assert len(recorder.not_modelled) < 1000
    assert len(recorder.not_reached) < 1000
