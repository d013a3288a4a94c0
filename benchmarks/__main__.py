# SPDX-License-Identifier: GPL-2.0-only
"""`python -m benchmarks`: one table, its limits, and the computer it is about.

Exit status 1 when a ratio is over its limit, 2 when a measurement went wrong.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.table import Table

from benchmarks import device, growth, inprocess, intercept, qemu, report, tracing, unrelated
from benchmarks.machines import assignable
from benchmarks.measure import Finding, Idleness, Row
from kvm_vfio.errors import KvmVfioError, Unsupported


def kvm_opens() -> bool:
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def intercepted(rounds: int) -> Iterator[Finding]:
    group, _ = assignable()
    return intercept.findings(rounds, f"/dev/vfio/{group}", kvm=kvm_opens())


def in_process(rounds: int) -> Iterator[Finding]:
    return inprocess.findings(rounds, kvm=kvm_opens())


def qemu_starts(rounds: int) -> Iterator[Finding]:
    _, device = assignable()
    return qemu.findings(rounds, device, kvm=kvm_opens())


def traced(rounds: int) -> Iterator[Finding]:
    group, _ = assignable()
    return tracing.findings(rounds, f"/dev/vfio/{group}")


class Part(NamedTuple):
    """A part of the table; `rounds` settle its medians."""

    title: str
    rounds: int
    findings: Callable[[int], Iterator[Finding]]


PARTS = {
    "a": Part("an intercepted ioctl", 100, intercepted),
    "b": Part("the model in process", 500, in_process),
    "c": Part("growth", 200, growth.findings),
    "d": Part("unrelated programs", 40, unrelated.findings),
    "e": Part("start of a program", 15, qemu_starts),
    "f": Part("a trace", 100, traced),
    "g": Part("the report of a trace", 15, report.findings),
    "h": Part("a device", 30, device.findings),
}


def environment(idleness: Idleness) -> dict[str, str]:
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "python": platform.python_version(),
        "idle": f"{idleness.cpus():.1f} CPUs on average",
    }


def measured(part: str, rounds: int | None) -> Iterator[Finding]:
    try:
        yield from PARTS[part].findings(rounds or PARTS[part].rounds)
    except Unsupported as missing:
        yield f"({part}) {missing}"


def time(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def table(rows: list[Row]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    shown.add_column("")
    for heading in ("ours", "the other"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("which is")
    for heading in ("ratio", "quartiles", "limit"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("")
    for part, of_part in groupby(rows, lambda row: row.part):
        shown.add_row(f"[bold]({part}) {PARTS[part].title}")
        for row in of_part:
            shown.add_row(*cells(row))
    return shown


def cells(row: Row) -> tuple[str, ...]:
    verdict = "" if row.limit is None else "[bold red]over" if row.over else "[green]ok"
    return (
        f"  {row.case}",
        time(row.ours),
        time(row.other),
        row.against,
        f"{row.ratio:.2f}",
        f"{row.low:.2f}-{row.high:.2f}",
        "" if row.limit is None else f"{row.limit:.2f}",
        verdict,
    )


def as_json(rows: list[Row], notes: list[str], where: dict[str, str]) -> str:
    content = {
        "environment": where,
        "rows": [row._asdict() | {"over": row.over} for row in rows],
        "notes": notes,
    }
    return json.dumps(content, indent=2) + "\n"


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--rounds", type=click.IntRange(min=2), help="Rounds of each comparison.")
@click.option("--json", "file", type=click.Path(dir_okay=False), help="Write the rows here too.")
def main(parts: tuple[str, ...], rounds: int | None, file: str | None) -> None:
    """Measure PARTS (default: all), as ratios of things that take turns."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    rows: list[Row] = []
    notes: list[str] = []
    idleness = Idleness()
    for part in parts or PARTS:
        for finding in measured(part, rounds):
            if isinstance(finding, Row):
                rows.append(finding)
                print(f"({part}) {finding.case}: {finding.ratio:.2f}", file=sys.stderr, flush=True)
            else:
                notes.append(finding)
    console.print(table(rows))
    for note in notes:
        console.print(note, highlight=False, markup=False)
    where = environment(idleness)
    console.print(*(f"{what}: {value}" for what, value in where.items()), sep=", ")
    if file:
        Path(file).write_text(as_json(rows, notes, where), encoding="utf-8")
    sys.exit(any(row.over for row in rows))


if __name__ == "__main__":
    try:
        main(prog_name="./dev bench")
    except KvmVfioError as error:
        print(f"./dev bench: {error}", file=sys.stderr)
        sys.exit(2)
