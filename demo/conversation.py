# SPDX-License-Identifier: GPL-2.0-only
"""A trace of `kvm-vfio run`, as a person wants to read it while it grows.

Rule of this file: it prints what the trace says, in its order; what is said many times in a row is
counted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]

_ATTRIBUTES = {1: "GROUP_ADD", 2: "GROUP_DEL"}
_TO_BE_SEEN = (
    "KVM_CREATE_DEVICE",
    "GROUP_ADD",
    "VFIO_IOMMU_MAP_DMA",
    "VFIO_GROUP_GET_DEVICE_FD",
    "GROUP_DEL",
    "noncoherent DMA: on",
    "noncoherent DMA: off",
)


class Conversation:
    """The trace in the file `trace`, shown piece by piece."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self._at = 0
        self._seen: set[str] = set()

    def show(self) -> None:
        """Print what has come since the last time."""
        for (what, answer), records in groupby(self._new(), _line):
            times = len(list(records))
            count = f" ({times} times)" if times > 1 else ""
            print(f"    {what + count:<72} = {answer}" if answer else f"      {what}")
        print(end="", flush=True)

    def _new(self) -> Iterator[Record]:
        """The new records, each effect after its call as a record of its own."""
        with self.trace.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                record = json.loads(line)
                if record["call"] != "last close" and record["answer"] != "continue":
                    self._note(record)
                    yield record
                for effect in record.get("effects", ()):
                    self._note_effect(effect)
                    yield {"effect": effect, "call": record["call"], "file": record.get("file")}

    def _note(self, record: Record) -> None:
        if isinstance(record["answer"], int):
            self._seen.add(_name(record))

    def _note_effect(self, effect: str) -> None:
        if effect.startswith("noncoherent DMA"):
            self._seen.add(f"noncoherent DMA: {effect.rpartition(' ')[2]}")

    def lacking(self) -> list[str]:
        """What a demonstration must show and this one has not shown."""
        return [what for what in _TO_BE_SEEN if what not in self._seen]


def _line(record: Record) -> tuple[str, str]:
    """(what, answer); without an answer for an effect."""
    if "effect" in record:
        cause = f" ({record['file']} is closed)" if record["call"] == "last close" else ""
        return f"-> {record['effect']}{cause}", ""
    words = (_name(record), _details(record))
    answer = record["answer"]
    if isinstance(answer, str):
        answer = f"-{answer}: {record.get('why', '')}"
    elif record["call"] in ("open", "openat", "VFIO_GROUP_GET_DEVICE_FD", "KVM_CREATE_VM"):
        answer = f"fd {answer}"
    elif record["call"].startswith(("pread", "pwrite")):
        return "its configuration space and registers are read and written", "done"
    return " ".join(word for word in words if word), str(answer)


def _name(record: Record) -> str:
    attr = record["arguments"].get("kvm_device_attr")
    if record["call"] == "KVM_SET_DEVICE_ATTR" and attr:
        return _ATTRIBUTES.get(attr["attr"], "KVM_SET_DEVICE_ATTR")
    return str(record["call"])


def _details(record: Record) -> str:
    arguments = record["arguments"]
    if "path" in arguments:
        return str(arguments["path"])
    if create := arguments.get("kvm_create_device"):
        return "type VFIO" if create["type"] == 4 else f"type {create['type']}"
    if mapping := arguments.get("vfio_iommu_type1_dma_map"):
        return f"iova {mapping['iova']:#x}, {mapping['size'] >> 10} KiB"
    if mapping := arguments.get("vfio_iommu_type1_dma_unmap"):
        return f"iova {mapping['iova']:#x}, {mapping['size'] >> 10} KiB"
    if record["call"] in ("VFIO_CHECK_EXTENSION", "VFIO_SET_IOMMU"):
        return str(arguments["argument"])
    return ""
