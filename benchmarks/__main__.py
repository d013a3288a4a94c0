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
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import intercept, qemu, unrelated
from benchmarks.machines import assignable
from benchmarks.measure import Finding, Row
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


def qemu_starts(rounds: int) -> Iterator[Finding]:
    _, device = assignable()
    return qemu.findings(rounds, device, kvm=kvm_opens())


# Each part, and how many rounds settle its medians.
PARTS: dict[str, tuple[int, Callable[[int], Iterator[Finding]]]] = {
    "a": (100, intercepted),
    "d": (25, unrelated.findings),
    "e": (15, qemu_starts),
}


def environment() -> dict[str, str]:
    cpus = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "cpu": f"{os.cpu_count()} x {models[0] if models else platform.machine()}",
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.2f}",
    }


def measured(part: str, rounds: int | None) -> Iterator[Finding]:
    usual, findings = PARTS[part]
    try:
        yield from findings(rounds or usual)
    except Unsupported as missing:
        yield f"({part}) {missing}"


def time(seconds: float) -> str:
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.2f} {unit}"
    return f"{seconds * 1e6:.2f} us"


def table(rows: list[Row]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    shown.add_column("case")
    for heading in ("ours", "the other"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("which is")
    for heading in ("ratio", "quartiles", "limit"):
        shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("")
    for row in rows:
        verdict = "" if row.limit is None else "[bold red]over" if row.over else "[green]ok"
        shown.add_row(
            f"({row.part}) {row.case}",
            time(row.ours),
            time(row.other),
            row.against,
            f"{row.ratio:.2f}",
            f"{row.low:.2f}-{row.high:.2f}",
            "" if row.limit is None else f"{row.limit:.2f}",
            verdict,
        )
    return shown


def as_json(rows: list[Row], notes: list[str]) -> str:
    content = {
        "environment": environment(),
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
    console = Console(width=None if sys.stdout.isatty() else 140)
    rows: list[Row] = []
    notes: list[str] = []
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
    console.print(*(f"{what}: {value}" for what, value in environment().items()), sep=", ")
    if file:
        Path(file).write_text(as_json(rows, notes), encoding="utf-8")
    sys.exit(any(row.over for row in rows))


if __name__ == "__main__":
    try:
        main(prog_name="./dev bench")
    except KvmVfioError as error:
        print(f"./dev bench: {error}", file=sys.stderr)
        sys.exit(2)
