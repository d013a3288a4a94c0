# SPDX-License-Identifier: GPL-2.0-only
"""The model against the recordings: what real kernels answered, line by line.

Rule of this file: a recording is a fact; where the model differs, the model is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from kvm_vfio.errors import InputError
from kvm_vfio.scenario.kernels import ScenarioKernel, performed
from kvm_vfio.scenario.language import Operation, parse


@dataclass(frozen=True, slots=True)
class Recording:
    """What one kernel answered to one script. `linux` is as in model:LINUX."""

    script: Path
    linux: str
    snoop: bool
    result: Path

    def __str__(self) -> str:
        return f"{self.result.parent.name}/{self.result.stem}"

    def operations(self) -> list[Operation]:
        """The script."""
        return parse(self.script.read_text(), self.script.name)

    def lines(self) -> list[str]:
        """The recorded lines, without comments."""
        text = self.result.read_text().splitlines()
        return [line.rstrip() for line in text if not line.startswith("#")]


class Disagreement(NamedTuple):
    """A line on which the model and the recording differ, and why the model says what it says."""

    model: str
    linux: str
    reason: str


class Verdict(NamedTuple):
    """How many of how many lines agree, and the others."""

    agreeing: int
    lines: int
    disagreements: list[Disagreement]


def recordings(directory: Path | None = None) -> list[Recording]:
    """The recordings in a directory; without one, those of this package. InputError.

    A directory has scripts, `NAME.ops`, and what kernels answered, `KERNEL-on/NAME.out` and
    `KERNEL-off/NAME.out`, where the word is whether the IOMMU has snoop control.
    """
    if directory is None:
        directory = Path(str(files("kvm_vfio.scenario") / "recorded"))
    found = list(_recordings(directory))
    if not found:
        raise InputError(f"{directory}: there is no recording in it, such as 6.1-off/NAME.out.")
    return sorted(found, key=lambda r: (r.script.name, _numbers(r.linux), r.snoop))


def _recordings(directory: Path) -> Iterator[Recording]:
    for result in directory.glob("**/*.out"):
        linux, _, snoop = result.parent.name.rpartition("-")
        scripts = (parent / f"{result.stem}.ops" for parent in result.parents)
        script = next((path for path in scripts if path.exists()), None)
        if linux and snoop in ("on", "off") and script is not None:
            yield Recording(script, linux, snoop == "on", result)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def judge(kernel: ScenarioKernel, recording: Recording) -> Verdict:
    """Run the script and compare line by line."""
    answers = performed(kernel, recording.operations())
    answered = [line.rstrip() for line in answers.lines]
    pairs = list(zip_longest(answered, recording.lines(), fillvalue="(no such line)"))
    differing = [pair for pair in pairs if pair[0] != pair[1]]
    return Verdict(
        len(pairs) - len(differing),
        len(pairs),
        [Disagreement(model, linux, answers.reason(model)) for model, linux in differing],
    )
