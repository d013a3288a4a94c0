# SPDX-License-Identifier: GPL-2.0-only
"""What the facts mean: whether a group can be given to a VM, and what WBINVD would do then.

Rule of this file: pure. It knows a kernel by its release alone; a distribution that took a later
behaviour into an older release is not noticed, which is why every judgement names its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from kvm_vfio.profiles.profile import Coherency, DomainScope
from kvm_vfio.survey.facts import Computer, Function, Group, Unit

_X86 = "x86_64"


class Answer(Enum):
    """What a guest's WBINVD does."""

    NO_OP = "no-op"
    EXECUTED = "executed"
    UNKNOWN = "unknown"
    ABSENT = "no such instruction"


@dataclass(frozen=True, slots=True)
class Wbinvd:
    """What the WBINVD of a VM does once it has the group, and why."""

    answer: Answer
    reason: str


@dataclass(frozen=True, slots=True)
class Era:
    """The kernels from `since` on, up to the next era: what KVM-VFIO asks, and of which units."""

    since: tuple[int, int]
    coherency: Coherency
    scope: DomainScope


# As `profiles.table` has it: 5.10, 6.1, 6.12, 6.18 and 7.3 are measured, and what is foretold for
# them comes (tests/differential/test_survey.py); between them the commits count.
ERAS = (
    Era((6, 2), Coherency.DEVICES, DomainScope.OWN_UNITS),
    Era((5, 19), Coherency.GROUP_CONTAINER, DomainScope.OWN_UNITS),
    Era((3, 15), Coherency.CONTAINER, DomainScope.EVERY_UNIT),
    Era((3, 13), Coherency.NEVER, DomainScope.EVERY_UNIT),
)
_DRIVERS_CLAIM_DMA = 5, 19  # until then a bridge made no group unviable, whatever drove it
_NO_DMA_OF_THEIR_OWN = frozenset({None, "pci-stub", "pcieport"})


@dataclass(frozen=True, slots=True)
class Judgement:
    """One group: `missing` is what must be done before a VM can have it, a clause each."""

    viable: bool
    missing: tuple[str, ...]
    wbinvd: Wbinvd


def era(release: str) -> Era | None:
    """The era of a release such as "6.12.118+deb13-amd64"; None before KVM-VFIO was there."""
    version = _version(release)
    return next((era for era in ERAS if version >= era.since), None)


def _version(release: str) -> tuple[int, int]:
    match = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def judge(computer: Computer, group: Group) -> Judgement:
    """What `group` is worth to a VM on this computer."""
    intruders = list(_intruders(computer, group))
    return Judgement(
        viable=not intruders,
        missing=tuple(_missing(group, intruders)),
        wbinvd=wbinvd(computer, group),
    )


# -- viable ---------------------------------------------------------------------------------------


def _intruders(computer: Computer, group: Group) -> Iterator[Function]:
    """The functions whose drivers do DMA of their own."""
    bridges_count = _version(computer.release) >= _DRIVERS_CLAIM_DMA
    for function in group.functions:
        harmless = function.vfio or function.driver in _NO_DMA_OF_THEIR_OWN
        if not harmless and (bridges_count or not function.bridge):
            yield function


def _missing(group: Group, intruders: list[Function]) -> Iterator[str]:
    endpoints = [function for function in group.functions if function.endpoint]
    if not endpoints:
        yield "a PCI device" if group.others else "a device: bridges are not assigned"
        return
    if intruders:
        yield "unbind " + ", ".join(f"{f.address} ({f.driver})" for f in intruders)
    if not any(function.vfio for function in endpoints):
        yield "bind a device to vfio-pci"
    elif not group.node:
        yield "the node in /dev/vfio"


# -- WBINVD ---------------------------------------------------------------------------------------


def wbinvd(computer: Computer, group: Group) -> Wbinvd:
    """What a WBINVD does in a VM that has the group and nothing else."""
    if computer.architecture != _X86:
        return Wbinvd(Answer.ABSENT, f"{computer.architecture} has no WBINVD")
    linux = f"Linux {'.'.join(map(str, _version(computer.release)))}"
    asked = era(computer.release)
    if asked is None:
        return Wbinvd(Answer.UNKNOWN, f"{linux} has no KVM-VFIO device")
    if asked.coherency is Coherency.NEVER:
        return Wbinvd(Answer.EXECUTED, f"{linux} takes every group for noncoherent")
    if group.no_iommu:
        return Wbinvd(Answer.UNKNOWN, "no IOMMU is behind it, and nothing is known of that")
    every = asked.scope is DomainScope.EVERY_UNIT
    units = computer.units if every else _units_of(computer, group)
    return _of_units(units, f"; {linux} asks every IOMMU of the machine" if every else "")


def _of_units(units: tuple[Unit, ...], note: str) -> Wbinvd:
    lacking = [unit for unit in units if unit.snoop_control is False]
    if lacking:
        return Wbinvd(Answer.EXECUTED, f"{_without(lacking)}{note}")
    unsaid = [unit.name for unit in units if unit.snoop_control is None]
    if unsaid or not units:
        names = ", ".join(unsaid) or "its IOMMU"
        return Wbinvd(Answer.UNKNOWN, f"nothing says whether {names} has snoop control")
    return Wbinvd(Answer.NO_OP, f"{'; '.join(map(enforcing, units))}{note}")


def _without(units: list[Unit]) -> str:
    return "; ".join(f"{u.name} has no snoop control (ECAP {u.ecap:x}: bit 7 is 0)" for u in units)


def enforcing(unit: Unit) -> str:
    """Why DMA through `unit` is coherent, or is not, or nobody knows."""
    if unit.kind == "amd":
        return f"{unit.name} is AMD-Vi, which enforces coherency"
    if unit.snoop_control is None:
        return f"nothing says whether {unit.name} has snoop control"
    if not unit.snoop_control:
        return _without([unit])
    return f"{unit.name} has snoop control (ECAP {unit.ecap:x}: bit 7 is 1)"


def _units_of(computer: Computer, group: Group) -> tuple[Unit, ...]:
    """The units behind the group; a kernel that does not say which has one, or nobody knows."""
    names = {function.iommu for function in group.functions} - {None}
    if not names and len(computer.units) == 1:
        return computer.units
    return tuple(unit for unit in computer.units if unit.name in names)


# -- the computer ---------------------------------------------------------------------------------


def shortcomings(computer: Computer) -> Iterator[str]:
    """What the whole computer lacks before any group can be given to a VM, a sentence each."""
    if not computer.units:
        yield _no_iommu(computer)
    elif not computer.groups:
        yield "There is an IOMMU and no group: no device is behind it."
    if computer.interrupt_remapping is False and not computer.unsafe_interrupts:
        yield (
            "Interrupt remapping is off, so SET_IOMMU is EPERM; enable it in the firmware's set-up,"
            " or load vfio_iommu_type1 with allow_unsafe_interrupts=1."
        )
    if "/dev/vfio/vfio" not in computer.nodes and computer.groups:
        yield "There is no /dev/vfio/vfio: as root, modprobe vfio-pci."
    if "/dev/kvm" not in computer.nodes:
        yield f"There is no /dev/kvm: {_kvm_remedy(computer)}."


def _no_iommu(computer: Computer) -> str:
    if "DMAR" in computer.tables:
        remedy = "The firmware describes VT-d: boot Linux with intel_iommu=on."
    elif "IVRS" in computer.tables:
        remedy = "The firmware describes AMD-Vi: boot Linux without amd_iommu=off and iommu=off."
    elif computer.hypervisor:
        remedy = "This is a virtual machine: give it a virtual IOMMU (QEMU: -device intel-iommu)."
    else:
        remedy = "Enable VT-d or AMD-Vi in the firmware's set-up."
    return f"No IOMMU, so no device can be given to a VM. {remedy}"


def _kvm_remedy(computer: Computer) -> str:
    modules = {"GenuineIntel": "kvm_intel", "AuthenticAMD": "kvm_amd"}
    module = modules.get(computer.processor, "kvm")
    nested = " and let this virtual machine nest" if computer.hypervisor else ""
    return f"as root, modprobe {module}, enable virtualisation in the firmware's set-up{nested}"
