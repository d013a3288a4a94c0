# SPDX-License-Identifier: GPL-2.0-only
"""A computer and its judgements as plain data, which is what `kvm-vfio inspect --json` prints.

Rule of this file: pure, and the format's one definition. `version` grows when a key changes its
meaning or goes; a new key may come at any time.
"""

from __future__ import annotations

from typing import Any

from kvm_vfio.survey.facts import Computer, Function, Group, Unit
from kvm_vfio.survey.judge import era, judge, shortcomings

VERSION = 1


def as_data(computer: Computer) -> dict[str, Any]:
    """What there is, what is missing, and what WBINVD would do, group by group."""
    asked = era(computer.release)
    return {
        "version": VERSION,
        "linux": computer.release,
        "architecture": computer.architecture,
        "coherency_asked_of": asked.coherency.value if asked else None,
        "missing": list(shortcomings(computer)),
        "interrupt_remapping": computer.interrupt_remapping,
        "iommus": [_unit(unit) for unit in computer.units],
        "groups": [_group(computer, group) for group in computer.groups],
        "ungrouped": [_function(function) for function in computer.ungrouped],
        "processes": [
            {"pid": p.pid, "name": p.name, "files": list(p.files)}
            for p in computer.holders.processes
        ],
        "processes_hidden": computer.holders.hidden,
        "processes_stopped": computer.holders.stopped,
    }


def _unit(unit: Unit) -> dict[str, Any]:
    return {
        "name": unit.name,
        "kind": unit.kind,
        "snoop_control": unit.snoop_control,
        "address_width": unit.address_width,
        "cap": unit.cap,
        "ecap": unit.ecap,
    }


def _group(computer: Computer, group: Group) -> dict[str, Any]:
    judgement = judge(computer, group)
    node = node_of(group)
    return {
        "number": group.number,
        "type": group.kind,
        "node": node if group.node else None,
        "viable": judgement.viable,
        "missing": list(judgement.missing),
        "wbinvd": judgement.wbinvd.answer.value,
        "because": judgement.wbinvd.reason,
        "held_by": [p.pid for p in computer.holders.processes if node in p.files],
        "devices": [_function(function) for function in group.functions],
        "others": list(group.others),
    }


def _function(function: Function) -> dict[str, Any]:
    return {
        "address": function.address,
        "vendor": function.vendor,
        "device": function.device,
        "class": function.class_code,
        "bridge": function.bridge,
        "driver": function.driver,
        "vfio": function.vfio,
        "iommu": function.iommu,
        "reset": function.reset,
    }


def node_of(group: Group) -> str:
    """Where the group's node is, or would be."""
    return f"/dev/vfio/{'noiommu-' if group.no_iommu else ''}{group.number}"
