# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio inspect`: the machine that is really here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvm_vfio.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from kvm_vfio.survey.facts import Computer, Function, Group

_KINDS = {"intel": "Intel VT-d", "amd": "AMD-Vi", "other": "another kind"}
_WIDTH = 120  # where nobody looks on a terminal
_WHOLE = ("group", "devices", "driver", "in no group")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@click.option(
    "--svg",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the groups there, too.",
)
@click.option(
    "--as-machine",
    is_flag=True,
    help="As a machine file for `kvm-vfio run --machine`, without serial numbers.",
)
@click.option(
    "--root",
    metavar="DIR",
    default="/",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where /sys, /proc and /dev are: a recording, or another root.",
)
def inspect(as_json: bool, svg: Path | None, as_machine: bool, root: Path) -> None:
    """Look at this computer's IOMMUs and groups. Nothing is changed.

    For each group: its devices and their drivers, who has it open, whether it can be given to a VM
    and what is missing, and whether the VM's WBINVD would be executed or a no-op, and why. Who is
    not root is not shown other people's processes, nor (--as-machine) what interrupts devices have.
    """
    from kvm_vfio.survey.system import survey
    from kvm_vfio.survey.tree import Tree

    if as_json and as_machine:
        raise click.UsageError("--json and --as-machine exclude each other: choose one")
    computer = survey(Tree(root))
    if svg is not None:
        _draw(computer, svg)
    if as_machine:
        _as_machine(computer)
    elif as_json:
        import msgspec

        from kvm_vfio.survey.view import as_data

        data = msgspec.json.encode(as_data(computer))
        click.echo(msgspec.json.format(data, indent=2))
    else:
        _show(computer)


def _draw(computer: Computer, file: Path) -> None:
    from kvm_vfio.survey.picture import svg

    try:
        file.write_text(svg(computer), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; name a file that can be written") from None


def _as_machine(computer: Computer) -> None:
    from kvm_vfio.machine.write import machine_text
    from kvm_vfio.survey.record import described, unreadable

    click.echo(machine_text(described(computer)), nl=False)
    if hidden := unreadable(computer):
        click.echo(
            f"kvm-vfio: {hidden} devices do not show their capabilities, MSI and MSI-X among them; "
            "record as root to have them",
            err=True,
        )


# -- the tables -----------------------------------------------------------------------------------


def _show(computer: Computer) -> None:
    from rich.console import Console
    from rich.text import Text

    from kvm_vfio.survey.judge import shortcomings

    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console = Console(width=_WIDTH, highlight=False, emoji=False, markup=False)
    processor = f", {computer.processor}" if computer.processor else ""
    console.print(f"Linux {computer.release}, {computer.architecture}{processor}")
    for sentence in shortcomings(computer):
        console.print(Text(sentence, style="bold"))
    if computer.units:
        console.print(_units(computer))
    if computer.groups:
        console.print(_groups(computer))
    for reason, groups in _reasons(computer).items():
        console.print(Text(f"{reason} ({_group_list(groups)})"))
    if computer.ungrouped:
        console.print(_ungrouped(computer))
    for line in _processes(computer):
        console.print(line)


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in _WHOLE)
    return table


def _units(computer: Computer) -> Table:
    table = _table("IOMMU", "kind", "snoop control", "iovas")
    for unit in computer.units:
        width = unit.address_width
        snoop = {True: "yes", False: "no", None: "unknown"}[unit.snoop_control]
        register = f" (ECAP {unit.ecap:x})" if unit.ecap is not None else ""
        cells = (unit.name, _KINDS[unit.kind], snoop + register, f"{width} bits" if width else "")
        table.add_row(*cells)
    return table


def _groups(computer: Computer) -> Table:
    from kvm_vfio.survey.judge import judge

    table = _table("group", "devices", "driver", "viable", "missing", "WBINVD in a VM")
    for group in computer.groups:
        judgement = judge(computer, group)
        table.add_row(
            str(group.number),
            "\n".join([*map(_device, group.functions), *group.others]),
            "\n".join(function.driver or "none" for function in group.functions),
            "yes" if judgement.viable else "no",
            "; ".join(judgement.missing) or "nothing",
            judgement.wbinvd.answer.value,
        )
    return table


def _device(function: Function) -> str:
    from kvm_vfio.machine.classes import class_name

    kind = "bridge" if function.bridge else class_name(function.class_code)
    return f"{function.address} {function.vendor:04x}:{function.device:04x} {kind}"


def _reasons(computer: Computer) -> dict[str, list[Group]]:
    """The groups by what WBINVD does for them and why: many have the same."""
    from kvm_vfio.survey.judge import judge

    found: dict[str, list[Group]] = {}
    for group in computer.groups:
        wbinvd = judge(computer, group).wbinvd
        found.setdefault(f"WBINVD {wbinvd.answer.value}: {wbinvd.reason}", []).append(group)
    return found


def _group_list(groups: list[Group]) -> str:
    """Their numbers, those that follow each other as one range."""
    ranges: list[list[int]] = []
    for group in groups:
        if ranges and ranges[-1][1] + 1 == group.number:
            ranges[-1][1] = group.number
        else:
            ranges.append([group.number, group.number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in ranges]
    return f"group{'s' if len(groups) > 1 else ''} {', '.join(texts)}"


def _ungrouped(computer: Computer) -> Table:
    table = _table("in no group", "driver")
    for function in computer.ungrouped:
        table.add_row(_device(function), function.driver or "none")
    return table


def _processes(computer: Computer) -> Iterator[str]:
    found = computer.holders
    for process in found.processes:
        yield f"{process.name} ({process.pid}) has open: {', '.join(process.files)}"
    if computer.groups and not found.processes:
        yield "No process that can be looked into has a file of VFIO open."
    if found.hidden:
        yield f"Processes that could not be looked into: {found.hidden}. Root sees more."
    if found.stopped:
        yield f"Not all processes were looked at: it was given up {found.stopped}."
