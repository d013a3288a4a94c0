# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio run`: an unmodified program on a described machine."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

import click

from kvm_vfio.cli._words import machines, programs
from kvm_vfio.errors import InputError, Unsupported
from kvm_vfio.profiles import DEFAULT, PROFILES

if TYPE_CHECKING:
    from kvm_vfio.machine.model import Machine


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option(
    "--machine",
    "-m",
    "machine_name",
    default="default",
    metavar="NAME|FILE",
    show_default=True,
    shell_complete=machines,
    help="The described machine: a built-in one, or a TOML file.",
)
@click.option(
    "--linux",
    default=DEFAULT.name,
    type=click.Choice(list(PROFILES)),
    show_default=True,
    help="The kernel whose answers are given.",
)
@click.option(
    "--snoop",
    type=click.Choice(["on", "off"]),
    help="Whether every IOMMU has snoop control, whatever the description says.",
)
@click.option(
    "--kvm",
    type=click.Choice(["host", "model"]),
    help="This computer's /dev/kvm, or one without guests. Default: host where /dev/kvm opens.",
)
@click.option(
    "--coherency",
    type=click.Choice(["always", "model"]),
    default="always",
    show_default=True,
    help="model: No-Snoop DMA goes past the CPU caches, where no IOMMU forces it to snoop.",
)
@click.option("--trace", metavar="FILE", help="Write a line of JSON for every intercepted call.")
@click.option(
    "--fail",
    "fail",
    metavar="CALL[#N]=ERRNO",
    multiple=True,
    help="Let a call fail, wait or change the machine: see docs/faults.md. May be repeated.",
)
@click.option("--fail-any", is_flag=True, help="Let --fail give errnos that no Linux gives there.")
@click.option("--fail-seed", type=int, default=0, help="Where the chance of --fail CALL%P begins.")
@click.option("--summary", metavar="FILE", help="Write the summary there, not to standard error.")
@click.option("--quiet", "-q", is_flag=True, help="No summary on standard error.")
@click.argument("program", shell_complete=programs)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    machine_name: str,
    linux: str,
    snoop: str | None,
    kvm: str | None,
    coherency: str,
    trace: str | None,
    fail: tuple[str, ...],
    fail_any: bool,
    fail_seed: int,
    summary: str | None,
    quiet: bool,
    program: str,
    arguments: tuple[str, ...],
) -> None:
    """Run PROGRAM as if this computer had the devices of a described machine.

    The program meets /dev/vfio, the machine's part of /sys and a KVM-VFIO device that answers as
    Linux does, errno by errno. It needs no change, no privilege and no hardware. Its exit status
    is ours (128 + n for a signal).
    """
    from kvm_vfio.faults import parse
    from kvm_vfio.machine.load import load_machine
    from kvm_vfio.supervisor.run import Options
    from kvm_vfio.supervisor.run import run as run_program

    machine = load_machine(machine_name)
    if snoop is not None:
        machine = _with_snoop_control(machine, snoop_control=snoop == "on")
    faults = [parse(spec, machine, anything=fail_any) for spec in fail]
    report = 2 if summary is None else _create(summary)
    options = Options(
        command=(program, *arguments),
        machine=machine,
        profile=PROFILES[linux],
        host_kvm=kvm != "model" and _opens("/dev/kvm", must=kvm == "host"),
        report=None if quiet and summary is None else report,
        trace=None if trace is None else _create(trace),
        faults=faults,
        fault_seed=fail_seed,
        caches=coherency == "model",
    )
    sys.exit(run_program(options))


def _with_snoop_control(machine: Machine, *, snoop_control: bool) -> Machine:
    iommus = (dataclasses.replace(i, snoop_control=snoop_control) for i in machine.iommus)
    return dataclasses.replace(machine, iommus=tuple(iommus))


def _create(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file that can be written") from None


def _opens(path: str, *, must: bool) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        if must:
            reason = f"{path} does not open: {error.strerror}"
            raise Unsupported(f"{reason}; use --kvm model, or a user who may") from error
        return False
    return True
