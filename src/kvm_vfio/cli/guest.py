# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio guest`: real kernels to compare with, under QEMU."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from kvm_vfio.guest.packages import GuestKernel


@click.group()
def guest() -> None:
    """Fetch and use real Linux kernels under QEMU."""


@guest.command()
@click.argument("versions", metavar="[VERSION...]", nargs=-1)
def prepare(versions: tuple[str, ...]) -> None:
    """Fetch Debian's kernels into the cache: all of them, or VERSION... (such as 6.1).

    Nothing is installed. What is there already is fetched anew.
    """
    from kvm_vfio.cli._progress import waiting
    from kvm_vfio.guest import initrd, packages

    wanted = versions or tuple(packages.SUITES)
    for version in wanted:
        packages.prepared(version)  # which refuses what is no version
    initrd.agent()
    for version in wanted:
        with waiting() as show:
            fetched = packages.prepare(version, show)
        click.echo(_line(fetched))


@guest.command("list")
def list_() -> None:
    """Name the kernels, and say which are in the cache."""
    from kvm_vfio.guest import packages

    for version in packages.SUITES:
        there = packages.prepared(version)
        click.echo(_line(there) if there else f"{version}: not fetched")


@guest.command()
@click.argument("version")
@click.option(
    "--snoop",
    type=click.Choice(["on", "off"]),
    default="off",
    show_default=True,
    help="Whether the IOMMU has snoop control.",
)
def shell(version: str, snoop: str) -> None:
    """Boot VERSION and perform what standard input says, an operation of a scenario a line."""
    from kvm_vfio.cli._progress import waiting
    from kvm_vfio.scenario import kernels
    from kvm_vfio.scenario.language import operations
    from kvm_vfio.scenario.runner import Runner

    with waiting() as show:
        kernel = kernels.GuestKernel(version, snoop=snoop == "on", progress=show)
    try:
        with kernel.hands(ahead=1) as hands:
            for line in Runner(hands).run(operations(sys.stdin, "<stdin>")):
                click.echo(line)
    finally:
        kernel.close()


def _line(kernel: GuestKernel) -> str:
    names = ", ".join(f"{package.name} {package.version}" for package in kernel.packages)
    return f"{kernel.version}: {kernel.release} ({names})"
