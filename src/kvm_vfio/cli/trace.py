# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio trace`: read what `kvm-vfio run --trace` wrote."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kvm_vfio.errors import InputError

if TYPE_CHECKING:
    from kvm_vfio.scenario.kernels import ScenarioKernel
    from kvm_vfio.scenario.replay import Replay
    from kvm_vfio.trace.schema import Record

Command = TypeVar("Command", bound=Callable[..., Any])

_SELECTION = (
    click.option(
        "--call", "calls", metavar="NAME", multiple=True, help="Only these: VFIO_*, openat, ..."
    ),
    click.option(
        "--about",
        metavar="OBJECT",
        multiple=True,
        help='Only what has to do with "group 26", "vm 1", "kvm-vfio 1", "container 1", ...',
    ),
    click.option("--failed", is_flag=True, help="Only calls that failed."),
    click.option("--ours", is_flag=True, help="Not what this computer's own kernel answered."),
    click.option("--tid", "tids", type=int, multiple=True, help="Only calls of this thread."),
    click.option("--since", type=float, metavar="S", help="From this second of the trace on."),
    click.option("--until", type=float, metavar="S", help="Up to this second of the trace."),
    click.option("--first", type=int, metavar="N", help="From call N on."),
    click.option("--last", type=int, metavar="N", help="Up to call N."),
)


def _selection(command: Command) -> Command:
    for option in reversed(_SELECTION):
        command = option(command)
    return command


def _chosen(file: str, options: dict[str, Any]) -> Iterator[Record]:
    from kvm_vfio.trace.jsonl import read_trace
    from kvm_vfio.trace.select import Selection

    return Selection(**options).of(read_trace(file))


@click.group()
def trace() -> None:
    """Read, filter and convert traces of `kvm-vfio run --trace`."""


@trace.command()
@click.argument("file")
@_selection
def show(file: str, **options: Any) -> None:  # noqa: ANN401 - those of `Selection`
    """Show a trace as text: each call as strace would, and under it what the kernel decided.

    #N is the number of a call; the time is in seconds.
    """
    from kvm_vfio.trace.text import lines

    _write(f"{line}\n".encode() for line in lines(_chosen(file, options)))


@trace.command("filter")
@click.argument("file")
@_selection
def filter_(file: str, **options: Any) -> None:  # noqa: ANN401 - those of `Selection`
    """Write a part of a trace to standard output, as a trace.

    Decisions go with their calls.
    """
    from kvm_vfio.trace.jsonl import line

    _write(map(line, _chosen(file, options)))


@trace.command()
@click.argument("file")
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to write it. Default: the trace's name with .pftrace.",
)
def perfetto(file: str, output: Path | None) -> None:
    """Convert a trace for ui.perfetto.dev: open that page and drop the result on it.

    Each thread has its calls, each VM its members as slices and its noncoherent DMA as a counter.
    Needs `pip install kvm-vfio[perfetto]`.
    """
    from kvm_vfio.trace.jsonl import read_trace
    from kvm_vfio.trace.perfetto import write_perfetto

    made = output or Path(file).with_suffix(".pftrace")
    records = read_trace(file)
    try:
        with made.open("wb") as opened:
            write_perfetto(records, opened)
    except OSError as error:
        raise InputError(f"{made}: {error.strerror}; name a file that can be written") from None
    click.echo(f"{made}: drop it on ui.perfetto.dev")


@trace.command("replay")
@click.argument("file")
@click.option(
    "--on",
    "kernels",
    metavar="model:V|guest:V",
    multiple=True,
    help="Run it there and compare the answers. May be repeated. Without it, print the scenario.",
)
def replay_(file: str, kernels: tuple[str, ...]) -> None:
    """Make a scenario of a recorded program, and run it on other kernels.

    On a model it runs on the machine it was recorded on; on a real kernel under QEMU (guest:6.1) on
    the machine that this has, `referee`. Exit status 1 when an answer differs.
    """
    from kvm_vfio.cli._progress import waiting
    from kvm_vfio.scenario.language import parse
    from kvm_vfio.scenario.replay import compare, replay
    from kvm_vfio.scenario.runner import Runner
    from kvm_vfio.trace.jsonl import read_trace

    made = replay(read_trace(file))
    if not kernels:
        _write([made.script().encode()])
        return
    differing = 0
    operations = parse(made.script(), file)
    for spec in kernels:
        with waiting() as show, _kernel(spec, made, show) as kernel, kernel.hands() as hands:
            others = list(compare(made.operations(), Runner(hands).run(operations)))
        differing += len(others)
        same = len(operations) - len(others)
        click.echo(f"{spec}: {same} of {len(operations)} operations are answered as recorded")
        for other in others:
            click.echo(f"  #{other.step.n} {other.step.text}")
            click.echo(f"     recorded {other.step.answer}, {spec} {other.answer}")
    sys.exit(1 if differing else 0)


def _kernel(
    spec: str, made: Replay, show: Callable[[str], None]
) -> AbstractContextManager[ScenarioKernel]:
    """The kernel that a program is replayed on. InputError: the devices are not there."""
    from kvm_vfio.machine.load import load_machine
    from kvm_vfio.scenario.kernels import ModelKernel, model_kernel, opened

    kind, _, linux = spec.partition(":")
    if kind == "model" and linux:
        profile = model_kernel(linux, snoop=made.snoop()).profile
        return nullcontext(ModelKernel(spec, made.machine, profile))
    if kind == "guest":
        made.require_devices(load_machine("referee"))
    return opened(spec, snoop=made.snoop(), progress=show)


def _write(lines: Iterable[bytes]) -> None:
    """Write until everything is written, or nobody reads any more."""
    out = sys.stdout.buffer
    try:
        for line in lines:
            out.write(line)
        out.flush()
    except BrokenPipeError:
        sys.stderr.close()  # or Python complains about standard output at its end
