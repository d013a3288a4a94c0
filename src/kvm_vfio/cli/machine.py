# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio machine`: look at the machines that programs are shown, and check one's own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from kvm_vfio.cli._words import machines
from kvm_vfio.errors import InputError
from kvm_vfio.kernel.iommu.group import IommuGroup
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.machine.check import size_text
from kvm_vfio.machine.classes import class_name
from kvm_vfio.machine.load import builtin_machines, load_machine
from kvm_vfio.machine.model import Bar, BarKind, Iommu, Machine, PciDevice
from kvm_vfio.profiles import DEFAULT

_KINDS = {"intel": "Intel VT-d", "amd": "AMD-Vi"}
_BARS = {BarKind.IO: "I/O", BarKind.MEMORY32: "memory", BarKind.MEMORY64: "64-bit memory"}


@dataclass(frozen=True, slots=True)
class Node:
    """A line of a tree and what stands under it."""

    text: str
    below: tuple[Node, ...] = ()

    def lines(self, depth: int = 0) -> Iterator[str]:
        """The tree as text, two blanks a level."""
        yield "  " * depth + self.text
        for node in self.below:
            yield from node.lines(depth + 1)


@click.group()
def machine() -> None:
    """Show and check descriptions of machines."""


@machine.command("list")
def list_() -> None:
    """Name the built-in machines."""
    for name in builtin_machines():
        click.echo(f"{name}: {load_machine(name).description}")


@machine.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Say what is wrong with the machine in FILE, where, and how to mend it.

    Exit status 0 for a good machine, else 2.
    """
    try:
        good = load_machine(file)
    except InputError as error:
        click.echo(error, err=True)
        sys.exit(2)
    groups, devices = len(list(good.groups())), len(list(good.devices()))
    click.echo(
        f"{file}: a good machine: {_count(len(good.iommus), 'IOMMU')}, "
        f"{_count(groups, 'group')}, {_count(devices, 'device')}"
    )


@machine.command()
@click.argument("name", metavar="[NAME|FILE]", default="default", shell_complete=machines)
def show(name: str) -> None:
    """Show a built-in machine, or the one in a file, as a tree."""
    tree = machine_tree(load_machine(name))
    if sys.stdout.isatty():
        Console(highlight=False).print(rich_tree(tree))
    else:
        click.echo("\n".join(tree.lines()))


def machine_tree(described: Machine) -> Node:
    """The machine, its IOMMUs, their groups and devices, and what follows from them."""
    kernel = Kernel(described, DEFAULT)
    title = f"{described.name}: {described.description}".removesuffix(": ")
    return Node(
        f"{title} ({described.architecture})",
        tuple(_iommu_node(kernel, iommu) for iommu in described.iommus),
    )


def _iommu_node(kernel: Kernel, iommu: Iommu) -> Node:
    facts = (
        _KINDS[iommu.kind],
        _with(iommu.enforces_coherency, "snoop control"),
        _with(iommu.interrupt_remapping, "interrupt remapping"),
        f"{iommu.address_width}-bit iovas",
    )
    groups = (kernel.iommu_groups[group.number] for group in iommu.groups)
    return Node(
        f"IOMMU {iommu.name}: {', '.join(facts)}",
        (Node(_wbinvd(iommu)), *map(_group_node, groups)),
    )


def _with(has: bool, what: str) -> str:
    return what if has else f"no {what}"


def _wbinvd(iommu: Iommu) -> str:
    if iommu.enforces_coherency:
        return "WBINVD: a no-op in a VM that gets a group (its DMA stays coherent)"
    return "WBINVD: executed for real in a VM that gets a group (noncoherent DMA)"


def _group_node(iommu_group: IommuGroup) -> Node:
    devices = (function.static for function in iommu_group.functions)
    text = f"group {iommu_group.number}: {_viability(iommu_group)}"
    return Node(text, tuple(_device_node(device) for device in devices))


def _viability(iommu_group: IommuGroup) -> str:
    if not iommu_group.viable():
        return f"not viable: unbind {iommu_group.intruders()}"
    if iommu_group.number not in iommu_group.kernel.vfio_groups:
        return f"viable, without /dev/vfio/{iommu_group.number}: bind a device to vfio-pci"
    return "viable"


def _device_node(device: PciDevice) -> Node:
    kind = class_name(device.class_code)
    driver = device.driver or "no driver"
    text = (
        f"{device.address} {device.vendor:04x}:{device.device:04x} "
        f"{kind} [{device.class_code:06x}], {driver}"
    )
    abilities = ", ".join(_abilities(device))
    details = [*map(_bar_text, device.bars), *([abilities] if abilities else [])]
    return Node(text, tuple(map(Node, details)))


def _bar_text(bar: Bar) -> str:
    prefetchable = " prefetchable" if bar.prefetchable else ""
    return f"BAR {bar.index} {_BARS[bar.kind]} {size_text(bar.size)}{prefetchable}"


def _abilities(device: PciDevice) -> Iterator[str]:
    if device.interrupt_pin:
        yield f"INT{' ABCD'[device.interrupt_pin]}"
    if device.msi:
        yield f"MSI {device.msi.vectors}"
    if device.msix:
        yield f"MSI-X {device.msix.vectors} in BAR {device.msix.table_bar}"
    if device.power_management:
        yield "power management"
    if device.pci_express:
        yield "PCIe"
    if device.multifunction:
        yield "multifunction"
    if device.reset:
        yield "reset"
    if device.behaviour:
        yield f"behaves as {device.behaviour.name}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def rich_tree(node: Node) -> Tree:
    """The tree as rich draws it on a terminal. Brackets in it are no markup."""
    tree = Tree(Text(node.text))
    tree.children.extend(map(rich_tree, node.below))
    return tree
