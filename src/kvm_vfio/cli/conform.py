# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio conform`: whether the model answers what real kernels answered."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvm_vfio.errors import InputError

if TYPE_CHECKING:
    from kvm_vfio.scenario.conform import Recording, Verdict


@click.command()
@click.option(
    "--linux", "versions", metavar="V", multiple=True, help="Only this kernel. May be repeated."
)
@click.option(
    "--data",
    metavar="DIR",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Other recordings: NAME.ops, and KERNEL-on/NAME.out or KERNEL-off/NAME.out.",
)
def conform(versions: tuple[str, ...], data: Path | None) -> None:
    """Compare the model with recordings of real kernels, line by line.

    Exit status 1 when a line differs.
    """
    from kvm_vfio.scenario.conform import judge, recordings
    from kvm_vfio.scenario.kernels import model_kernel

    chosen = recordings(data)
    known = list(dict.fromkeys(recording.linux for recording in chosen))
    for version in versions:
        if version not in known:
            raise InputError(f"no recording is of Linux {version!r}; there are {', '.join(known)}.")
    verdicts = {
        recording: judge(model_kernel(recording.linux, snoop=recording.snoop), recording)
        for recording in chosen
        if recording.linux in (versions or known)
    }
    click.echo("\n".join(_table(verdicts)))
    differing = [item for item in verdicts.items() if item[1].disagreements]
    for recording, verdict in differing:
        click.echo("\n".join(_differences(recording, verdict)))
    sys.exit(1 if differing else 0)


def _table(verdicts: dict[Recording, Verdict]) -> Iterable[str]:
    """Scenario by kernel and snoop control: agreeing lines of all lines."""
    columns = list(dict.fromkeys(_column(recording) for recording in verdicts))
    names = list(dict.fromkeys(recording.script.stem for recording in verdicts))
    cells = {(r.script.stem, _column(r)): (v.agreeing, v.lines) for r, v in verdicts.items()}
    width = max(len(name) for name in (*names, "all"))
    yield _row("", [f"{linux}-{snoop}" for linux, snoop in columns], width)
    for name in names:
        yield _row(name, [_cell([cells.get((name, column))]) for column in columns], width)
    sums = [_cell([cells.get((name, column)) for name in names]) for column in columns]
    yield _row("all", sums, width)
    yield f"{_cell(list(cells.values()))} lines agree"


def _column(recording: Recording) -> tuple[str, str]:
    return recording.linux, "on" if recording.snoop else "off"


def _cell(counts: Iterable[tuple[int, int] | None]) -> str:
    there = [count for count in counts if count]
    return f"{sum(a for a, _ in there)}/{sum(n for _, n in there)}" if there else "-"


def _row(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:{width}}" + "".join(f" {cell:>9}" for cell in cells)


def _differences(recording: Recording, verdict: Verdict) -> Iterable[str]:
    for model, linux, reason in verdict.disagreements:
        yield f"{recording}: they differ"
        yield f"  linux {linux}"
        yield f"  model {model}"
        if reason:
            yield f"        {reason}"
