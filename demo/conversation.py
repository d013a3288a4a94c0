# SPDX-License-Identifier: GPL-2.0-only
"""A trace of `kvm-vfio run`, as a person wants to read it while it grows.

Rule of this file: it prints what the trace says, in its order; what is said many times in a row is
counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from kvm_vfio.trace.jsonl import DELAY, record_of
from kvm_vfio.trace.schema import CONTINUED, Call, Close, Decision, Record
from kvm_vfio.trace.text import (
    answer_text,
    attribute,
    close_text,
    decision_text,
    request_text,
)

_TO_BE_SEEN = (
    "KVM_CREATE_DEVICE",
    "GROUP_ADD",
    "VFIO_IOMMU_MAP_DMA",
    "VFIO_GROUP_GET_DEVICE_FD",
    "GROUP_DEL",
    "noncoherent DMA: on",
    "noncoherent DMA: off",
)
_TOLD = ("taken", "dropped", "noncoherent")
_OF_KVM = ("KVM_CREATE_VM", "KVM_CREATE_VCPU", "KVM_CREATE_DEVICE", "KVM_SET_DEVICE_ATTR")


class Conversation:
    """The trace in the file `trace`, shown piece by piece."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self._at = 0
        self._seen: set[str] = set()

    def show(self) -> None:
        """Print what has come since the last time."""
        time.sleep(2 * DELAY)  # what has happened until now is written by then
        for (what, answer), records in groupby(self._lines()):
            times = len(list(records))
            count = f" ({times} times)" if times > 1 else ""
            print(f"    {what + count:<72} = {answer}" if answer else f"      {what}")
        print(end="", flush=True)

    def _new(self) -> Iterator[Record]:
        with self.trace.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._at += len(line)
                yield record_of(line)

    def _lines(self) -> Iterator[tuple[str, str]]:
        """(what, answer); without an answer for a decision."""
        closed: dict[int, str] = {}
        for record in self._new():
            if isinstance(record, Call) and record.answer != CONTINUED:
                if isinstance(record.answer, int):
                    self._seen.add(attribute(record) or record.call)
                yield _line(record)
            elif isinstance(record, Close):
                closed[record.n] = close_text(record)
            elif isinstance(record, Decision) and record.did in _TOLD:
                if record.did == "noncoherent":
                    self._seen.add(f"noncoherent DMA: {'on' if record.on else 'off'}")
                cause = f" ({closed[record.n]})" if record.n in closed else ""
                yield f"-> {decision_text(record)}{cause}", ""

    def lacking(self) -> list[str]:
        """What a demonstration must show and this one has not shown."""
        return [what for what in _TO_BE_SEEN if what not in self._seen]


def _line(call: Call) -> tuple[str, str]:
    if call.call.startswith(("pread", "pwrite")):
        return "its configuration space and registers are read and written", "done"
    if call.call.startswith("KVM_") and call.call not in _OF_KVM:
        return "KVM is asked for memory, processors, interrupts", "done"
    return request_text(call), answer_text(call)
