# SPDX-License-Identifier: GPL-2.0-only
"""Some of the records of a trace.

Rule of this file: a call or close is chosen by what it says, and brings its decisions along; the
header, the end, and who is who are always there, so that what is left is a trace too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

from kvm_vfio.trace.schema import CONTINUED, Call, Close, Decision, Record

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What to choose; what is None or empty chooses everything. Times are seconds.

    `calls` are names, in which * and ? stand for anything; `about` are objects ("group 26");
    `first` and `last` are numbers of calls; `ours` leaves out what the computer's own kernel
    answered.
    """

    calls: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    failed: bool = False
    ours: bool = False
    tids: tuple[int, ...] = ()
    since: float | None = None
    until: float | None = None
    first: int | None = None
    last: int | None = None

    def of(self, records: Iterable[Record]) -> Iterator[Record]:
        """Those of `records` that are chosen."""
        waiting: Call | Close | None = None  # chosen if one of its decisions is about the right one
        chosen = False
        for record in records:
            if isinstance(record, Call | Close):
                waiting = None
                fits = self._fits(record)
                chosen = fits and self._mentions(record)
                if chosen:
                    yield record
                elif fits:
                    waiting = record
            elif isinstance(record, Decision):
                if waiting is not None and self._mentions(record):
                    yield waiting
                    waiting, chosen = None, True
                if chosen:
                    yield record
            else:
                yield record

    def _fits(self, record: Call | Close) -> bool:
        at = record.at / _SECOND
        return (
            (self.first is None or record.n >= self.first)
            and (self.last is None or record.n <= self.last)
            and (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
            and (self._call_fits(record) if isinstance(record, Call) else self._close_fits())
        )

    def _call_fits(self, call: Call) -> bool:
        return (
            (not self.calls or any(fnmatchcase(call.call, pattern) for pattern in self.calls))
            and (not self.failed or (isinstance(call.answer, str) and call.answer != CONTINUED))
            and (not self.ours or call.answer != CONTINUED)
            and (not self.tids or call.tid in self.tids)
        )

    def _close_fits(self) -> bool:
        return not (self.calls or self.failed or self.tids)

    def _mentions(self, record: Call | Close | Decision) -> bool:
        return not self.about or not _objects(record).isdisjoint(self.about)


def _objects(record: Call | Close | Decision) -> set[str]:
    if isinstance(record, Call):
        return {record.on, *(each.what for each in (*record.looked_up, *record.made))}
    if isinstance(record, Close):
        return {record.what}
    found = {record.device, record.member, record.container}
    if record.vm:
        found.add(f"vm {record.vm}")
    if record.group is not None:
        found.add(f"group {record.group}")
    return found
