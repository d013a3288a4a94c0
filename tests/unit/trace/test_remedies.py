# SPDX-License-Identifier: GPL-2.0-only
"""Every way to be refused comes with what would have satisfied the rule."""

from __future__ import annotations

import re

import pytest

from kvm_vfio.scenario.conform import recordings
from kvm_vfio.scenario.kernels import model_kernel
from kvm_vfio.scenario.language import parse
from kvm_vfio.scenario.runner import Runner
from kvm_vfio.trace.remedies import _ROWS, _TABLE, remedy

SCRIPTS = sorted({recording.script for recording in recordings(None)})
OURS = re.compile(r"(KVM_|VFIO_|open /dev/(kvm|vfio/)\w)")  # not what any file says


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_every_refusal_in_the_recordings_has_a_remedy(script: object) -> None:
    text = script.read_text()  # type: ignore[attr-defined]  # a path, wherever the package is
    seen = 0
    for linux in ("5.10", "6.1", "6.12", "7.3"):
        with model_kernel(linux, snoop=False).hands() as hands:
            runner = Runner(hands)
            for line in runner.run(parse(text)):
                found = re.match(r"(\d+) .* => -(\w+)", line)
                reason = runner.reasons.get(int(found[1])) if found else None
                if not found or not reason or not OURS.match(reason):
                    continue
                call, _, why = reason.partition(": ")
                assert remedy(call.split()[0], found[2], why), reason
                seen += 1
    assert seen or script.stem not in ("02-group-add-errors", "07-container-states")  # type: ignore[attr-defined]


def test_every_line_of_the_table_is_a_row() -> None:
    assert len(_ROWS) == len(re.findall(r"^\S", _TABLE, re.MULTILINE))


@pytest.mark.parametrize("row", _ROWS)
def test_a_remedy_is_an_instruction(row: object) -> None:
    text = row.remedy  # type: ignore[attr-defined]  # it is a row
    assert re.match(r"[A-Z][a-zA-Z-]+ ", text)
    assert text.endswith(".")


def test_what_nobody_knows_has_none() -> None:
    assert remedy("openat", "EACCES", "nobody knows") == ""
