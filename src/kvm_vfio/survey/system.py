# SPDX-License-Identifier: GPL-2.0-only
"""From /sys, /proc and /dev to a `Computer`.

Rule of this file: it reads and never judges. Every path that a survey looks at is here, in
`holders`, and nowhere else.
"""

from __future__ import annotations

import re
from contextlib import suppress

from kvm_vfio.machine.check import ADDRESS
from kvm_vfio.survey.facts import Computer, Function, Group, Unit
from kvm_vfio.survey.holders import holders
from kvm_vfio.survey.tree import Tree

_MODULES = ("kvm", "kvm_intel", "kvm_amd", "vfio", "vfio_pci", "vfio_iommu_type1", "iommufd")
_TABLES = ("DMAR", "IVRS")
_NODES = ("dev/kvm", "dev/vfio/vfio", "dev/iommu")
_BARS = 6
_REMAPPED = re.compile(r"\bIR-(IO-APIC|PCI-MSI)")


def survey(tree: Tree) -> Computer:
    """The computer whose root directory `tree` is."""
    units = tuple(_unit(tree, name) for name in tree.names("sys/class/iommu"))
    addresses = filter(ADDRESS.fullmatch, tree.names("sys/bus/pci/devices"))
    functions = [_function(tree, address) for address in addresses]
    cpuinfo = tree.text("proc/cpuinfo") or ""
    return Computer(
        release=tree.word("proc/sys/kernel/osrelease") or "",
        architecture=_architecture(tree, cpuinfo),
        processor=_line(cpuinfo, "vendor_id"),
        hypervisor="hypervisor" in _line(cpuinfo, "flags").split(),
        units=units,
        groups=tuple(_groups(tree, functions)),
        ungrouped=tuple(function for function in functions if function.group is None),
        holders=holders(tree),
        tables=frozenset(t for t in _TABLES if tree.has(f"sys/firmware/acpi/tables/{t}")),
        modules=frozenset(m for m in _MODULES if tree.has(f"sys/module/{m}")),
        nodes=frozenset(f"/{node}" for node in _NODES if tree.has(node)),
        interrupt_remapping=_interrupt_remapping(tree, units),
        unsafe_interrupts=_yes(tree, "vfio_iommu_type1/parameters/allow_unsafe_interrupts"),
    )


def _architecture(tree: Tree, cpuinfo: str) -> str:
    """/proc/sys/kernel/arch is there from Linux 6.1 on."""
    known = tree.word("proc/sys/kernel/arch")
    return known or ("x86_64" if _line(cpuinfo, "vendor_id") else "unknown")


def _line(cpuinfo: str, key: str) -> str:
    match = re.search(rf"^{key}\s*: (.*)$", cpuinfo, re.MULTILINE)
    return match[1].strip() if match else ""


def _yes(tree: Tree, parameter: str) -> bool:
    return tree.word(f"sys/module/{parameter}") == "Y"


def _unit(tree: Tree, name: str) -> Unit:
    """By its registers; by its name where the kernel is too old to show them."""
    where = f"sys/class/iommu/{name}"
    if tree.has(f"{where}/intel-iommu") or name.startswith("dmar"):
        cap, ecap = (tree.number(f"{where}/intel-iommu/{register}") for register in ("cap", "ecap"))
        return Unit(name, "intel", cap, ecap)
    amd = tree.has(f"{where}/amd-iommu") or name.startswith("ivhd")
    return Unit(name, "amd" if amd else "other")


def _function(tree: Tree, address: str) -> Function:
    where = f"sys/bus/pci/devices/{address}"

    def number(name: str) -> int:
        return tree.number(f"{where}/{name}") or 0

    driver = tree.target(f"{where}/driver")
    group = tree.target(f"{where}/iommu_group")
    return Function(
        address=address,
        vendor=number("vendor"),
        device=number("device"),
        class_code=number("class"),
        subsystem_vendor=number("subsystem_vendor"),
        subsystem_device=number("subsystem_device"),
        revision=number("revision"),
        driver=driver,
        vfio=tree.has(f"{where}/vfio-dev") or (driver is not None and "vfio" in driver),
        group=int(group) if group and group.isdecimal() else None,
        iommu=tree.target(f"{where}/iommu"),
        reset=tree.has(f"{where}/reset"),
        resources=_resources(tree.text(f"{where}/resource") or ""),
        config=tree.bytes(f"{where}/config") or b"",
    )


def _resources(text: str) -> tuple[tuple[int, int, int], ...]:
    with suppress(ValueError):
        lines = [line.split() for line in text.splitlines()[:_BARS]]
        return tuple((int(a, 16), int(b, 16), int(c, 16)) for a, b, c in lines)
    return ()


def _groups(tree: Tree, functions: list[Function]) -> list[Group]:
    of_group: dict[int, list[Function]] = {}
    for function in functions:
        if function.group is not None:
            of_group.setdefault(function.group, []).append(function)
    names = [name for name in tree.names("sys/kernel/iommu_groups") if name.isdecimal()]
    return [_group(tree, int(name), of_group.get(int(name), [])) for name in names]


def _group(tree: Tree, number: int, functions: list[Function]) -> Group:
    where = f"sys/kernel/iommu_groups/{number}"
    pci = {function.address for function in functions}
    no_iommu = tree.word(f"{where}/name") == "vfio-noiommu"
    return Group(
        number=number,
        functions=tuple(functions),
        others=tuple(name for name in tree.names(f"{where}/devices") if name not in pci),
        kind=tree.word(f"{where}/type"),
        node=tree.has(f"dev/vfio/noiommu-{number}" if no_iommu else f"dev/vfio/{number}"),
        no_iommu=no_iommu,
    )


def _interrupt_remapping(tree: Tree, units: tuple[Unit, ...]) -> bool | None:
    """Whether it is on: then the names of the interrupts' chips begin with IR."""
    interrupts = tree.text("proc/interrupts")
    if not units or interrupts is None:
        return None
    return _REMAPPED.search(interrupts) is not None
