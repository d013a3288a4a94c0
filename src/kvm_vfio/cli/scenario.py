# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio scenario`: sequences of calls on the model, on real kernels, on this computer."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvm_vfio.cli._progress import counting, waiting
from kvm_vfio.errors import InputError
from kvm_vfio.guest import packages
from kvm_vfio.profiles import DEFAULT
from kvm_vfio.scenario.behaviour import behaviours
from kvm_vfio.scenario.compare import difference, results_only
from kvm_vfio.scenario.kernels import ModelKernel, opened, performed, run
from kvm_vfio.scenario.language import VERBS, parse

if TYPE_CHECKING:
    from kvm_vfio.scenario.coverage import Coverage
    from kvm_vfio.scenario.fuzz import Found, Pair
    from kvm_vfio.scenario.kernels import ScenarioKernel
    from kvm_vfio.scenario.language import Operation

_CONTEXT = 4  # lines shown before a difference

_snoop = click.option(
    "--snoop",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Whether the IOMMU has snoop control.",
)
_files = click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)


@click.group()
def scenario() -> None:
    """Run scripts of system calls and compare kernels.

    A kernel is named model:6.1 (this project's model), guest:6.1 (a real one under QEMU) or host.
    """


@scenario.command("run")
@_files
@click.option(
    "--kernel",
    default=f"model:{DEFAULT.name}",
    show_default=True,
    metavar="model:V|guest:V|host",
    help="What answers.",
)
@_snoop
@click.option(
    "--machine",
    "-m",
    default="referee",
    show_default=True,
    metavar="NAME|FILE",
    help="The machine that a model runs on.",
)
@click.option(
    "--record",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep the answers where `conform --data DIR` finds them.",
)
def run_(
    files: tuple[Path, ...], kernel: str, snoop: str, machine: str, record: Path | None
) -> None:
    """Perform the scripts, and print a line for each operation."""
    scripts = [(file, _read(file)) for file in files]
    place = record / f"{kernel.partition(':')[2]}-{snoop}" if record else None
    if place is not None and kernel == "host":
        raise InputError("--record keeps what a model or a guest answers, not host.")
    if place is not None:
        _make("--record", place)
    with ExitStack() as stack:
        opened = _open(stack, kernel, snoop, machine)
        for file, operations in scripts:
            if len(files) > 1:
                click.echo(f"# {file}")
            answers = []
            for line in run(opened, operations):
                click.echo(line)
                answers.append(line)
            if place is not None:
                head = f"# {opened.release}, snoop control {snoop}"
                (place / f"{file.stem}.out").write_text("\n".join([head, *answers, ""]))


@scenario.command()
@click.argument("a")
@click.argument("b")
@_files
@_snoop
def diff(a: str, b: str, files: tuple[Path, ...], snoop: str) -> None:
    """Run the scripts on kernels A and B, and show the first difference of each.

    Where a model failed a call, why; of two models also which behaviour of the kernel it is.
    Exit status 1 when there is a difference.
    """
    scripts = [(file, _read(file)) for file in files]
    differing = 0
    with ExitStack() as stack:
        one, other = (_open(stack, spec, snoop) for spec in (a, b))
        trim = results_only if "host" in (a, b) else list[str]
        for file, operations in scripts:
            left, right = (performed(kernel, operations) for kernel in (one, other))
            found = difference(trim(left.lines), trim(right.lines))
            if found is None:
                continue
            differing += 1
            click.echo(f"{file}: they differ")
            for line in trim(left.lines)[max(found.place - _CONTEXT, 0) : found.place]:
                click.echo(f"  {'':12} {line}")
            for spec, line, answers in ((a, found.one, left), (b, found.other, right)):
                click.echo(f"  {spec:12} {line}")
                if reason := answers.reason(line):
                    click.echo(f"  {'':12} {reason}")
            if isinstance(one, ModelKernel) and isinstance(other, ModelKernel):
                for behaviour in behaviours(one, other, operations, found.place):
                    click.echo(f"  {'behaviour':12} {behaviour}")
    if not differing:
        click.echo(f"{a} and {b} agree on every line")
    sys.exit(1 if differing else 0)


@scenario.command()
@click.option("--kernel", required=True, metavar="guest:V", help="The kernel to compare with.")
@click.option("--model", metavar="model:V", help="The model. Default: of the same version.")
@_snoop
@click.option("--calls", default=10_000, show_default=True, help="How many operations.")
@click.option("--seed", default=0, show_default=True, help="Where the random scripts begin.")
@click.option("--workers", type=int, help="How many guests at once. Default: one a core.")
@click.option(
    "--output",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where a script that shows a difference is written.",
)
def fuzz(
    kernel: str,
    model: str | None,
    snoop: str,
    calls: int,
    seed: int,
    workers: int | None,
    output: Path,
) -> None:
    """Run random scripts on a real kernel and on its model, and shrink every difference.

    Exit status 1 when there is one.
    """
    from kvm_vfio.scenario.coverage import Coverage
    from kvm_vfio.scenario.fuzz import Pair, campaign

    _make("--output", output)
    kind, _, version = kernel.partition(":")
    if kind == "guest":
        packages.kernel(version)  # before any worker misses it
    pair = Pair(model or f"model:{version}", kernel, snoop == "on")
    steps = campaign(pair, seed=seed, calls=calls, workers=workers or os.cpu_count() or 1)
    coverage, kinds, begin = Coverage(), set(), None
    with counting(kernel, calls) as advance:
        for step in steps:
            begin = begin or time.monotonic()  # without the booting
            coverage.merge(step.coverage)
            advance(step.coverage.calls)
            if step.found and step.found.difference.kind not in kinds:
                kinds.add(step.found.difference.kind)
                _show(step.found, _write(step.found, output, pair))
    _report(coverage, time.monotonic() - (begin or 0))
    sys.exit(1 if kinds or coverage.died else 0)


def _show(found: Found, file: Path) -> None:
    click.echo(f"they differ: {file} (seed {found.seed})")
    click.echo("".join(f"    {line}\n" for line in found.script), nl=False)
    click.echo(f"  model {found.difference.one}\n  linux {found.difference.other}")


def _write(found: Found, directory: Path, pair: Pair) -> Path:
    """The script as a file that can be kept."""
    snoop = "on" if pair.snoop else "off"
    file = directory / f"{pair.linux.replace(':', '-')}-{snoop}-{found.seed}.ops"
    comments = (
        f"# {pair.model} and {pair.linux} differ, snoop control {snoop} (seed {found.seed})",
        f"# {pair.model}: {found.difference.one}",
        f"# {pair.linux}: {found.difference.other}",
    )
    file.write_text("\n".join([*comments, *found.script]) + "\n")
    return file


def _report(coverage: Coverage, seconds: float) -> None:
    from kvm_vfio.scenario.coverage import DEVICE, GROUP

    rate = coverage.calls / seconds if seconds else 0
    click.echo(f"{coverage.calls} calls, {rate:.0f} a second")
    by_verb: dict[str, list[str]] = {}
    for (verb, answer), number in coverage.answers.most_common():
        by_verb.setdefault(verb, []).append(f"{answer} {number}")
    for verb, answers in sorted(by_verb.items()):
        click.echo(f"  {verb}: {', '.join(answers)}")
    events = ", ".join(f"{name} {number}" for name, number in coverage.events.most_common())
    click.echo(f"  events: {events}")
    for what in (DEVICE, GROUP):
        steps = sorted(item for item in coverage.transitions.items() if item[0].what == what)
        click.echo(f"  {what}: {', '.join(f'{step} {number}' for step, number in steps)}")
    click.echo("never met:")
    never: dict[str, Iterable[object]] = {
        "operations": sorted(VERBS.keys() - by_verb.keys()),
        "requests": coverage.never_asked(),
        "errnos": coverage.never_answered(),
        **{
            what: [step for step in coverage.never_gone() if step.what == what]
            for what in (DEVICE, GROUP)
        },
    }
    for what, things in never.items():
        click.echo(f"  {what}: {', '.join(map(str, things)) or 'none'}")
    for reason, number in coverage.not_modelled.most_common():
        click.echo(f"  not modelled, {number} times: {reason}")
    for what in coverage.died:
        click.echo(f"  a guest died: {what}")


def _make(option: str, directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{option} {directory}: {error.strerror}.") from None


def _read(file: Path) -> list[Operation]:
    try:
        return parse(file.read_text(), str(file))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: this is no text.") from None


def _open(stack: ExitStack, spec: str, snoop: str, machine: str = "referee") -> ScenarioKernel:
    with waiting() as show:
        context = opened(spec, snoop=snoop == "on", machine=machine, progress=show)
        return stack.enter_context(context)
