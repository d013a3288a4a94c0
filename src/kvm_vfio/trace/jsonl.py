# SPDX-License-Identifier: GPL-2.0-only
"""A trace as a file: a line of JSON a record, written as things happen, read as far as it goes.

Rule of this file: nothing is kept. A record is in the file a moment after it happened, whatever
becomes of us then. A trace that cannot be written any more ends, and says so once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event, Lock, Thread
from typing import get_args

import msgspec

from kvm_vfio.errors import InputError
from kvm_vfio.trace.schema import VERSION, Header, Record

DELAY = 0.05  # seconds: what happened longer ago is in the file
_MOST_WAITING = 200  # records, some 100 KiB

_decode = msgspec.json.Decoder(Record).decode
_KINDS = frozenset(kind.__struct_config__.tag for kind in get_args(Record))


class _Kind(msgspec.Struct):
    """What every line has."""

    kind: str = msgspec.field(name="is", default="")


class TraceWriter:
    """Records on an open fd. `failure` is why the trace ended early, None while it goes on.

    A write costs a third of the call it tells of, so records go out together: when there are many,
    or after `DELAY`.
    """

    def __init__(self, fd: int) -> None:
        self.failure: str | None = None
        self._fd = fd
        self._encode = msgspec.json.Encoder().encode_lines
        self._waiting: list[Record] = []
        self._writing = Lock()
        self._some = Event()
        self._over = False
        self._thread = Thread(target=self._write_soon, daemon=True)
        self._thread.start()

    def __call__(self, records: list[Record]) -> None:
        """A line for each record."""
        waiting = self._waiting
        if not waiting:
            self._some.set()
        waiting += records
        if len(waiting) >= _MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """All that has happened until now is in the file when this returns."""
        with self._writing:
            records = self._waiting[:]
            del self._waiting[: len(records)]
            if not records or self.failure is not None:
                return
            data = memoryview(self._encode(records))
            try:
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError as error:
                self.failure = error.strerror or str(error)

    def close(self) -> None:
        """Write what is left; the fd stays open."""
        self._over = True
        self._some.set()
        self._thread.join()
        self.flush()

    def _write_soon(self) -> None:
        while not self._over:
            self._some.wait()
            self._some.clear()
            if not self._over:
                time.sleep(DELAY)
            self.flush()


def read_trace(path: Path | str) -> Iterator[Record]:
    """The records in a file, the header first. A last line that was cut off is left out.

    InputError: no such file, not a trace, a trace of a later version, or a line that is none.
    """
    try:
        with Path(path).open("rb") as file:
            yield from read_lines(file, str(path))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; name a file that --trace wrote") from None


def read_lines(lines: Iterable[bytes], name: str) -> Iterator[Record]:
    """The records in `lines`; `name` is where they come from, for people. InputError."""
    number = 0
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break
        record = _record(line, f"{name}:{number}")
        if number == 1:
            _require_header(record, name)
        if record is not None:
            yield record
    if not number:
        raise InputError(f"{name}: it is empty; name a file that --trace wrote")


def _record(line: bytes, place: str) -> Record | None:
    """The record in a line; None for a kind that a later kvm-vfio knows."""
    try:
        record: Record = _decode(line)
    except msgspec.ValidationError as error:
        if _is_of_a_later_kind(line):
            return None
        raise InputError(f"{place}: {error}; the trace was changed by hand") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{place}: {error}; name a file that --trace wrote") from error
    return record


def _is_of_a_later_kind(line: bytes) -> bool:
    try:
        return msgspec.json.decode(line, type=_Kind).kind not in _KINDS
    except msgspec.ValidationError:
        return False


def _require_header(record: Record | None, name: str) -> None:
    if not isinstance(record, Header):
        raise InputError(f"{name}:1: no trace begins like this; name a file that --trace wrote")
    if record.version > VERSION:
        raise InputError(
            f"{name}:1: the trace is of version {record.version} and this kvm-vfio reads"
            f" {VERSION}; read it with {record.by}"
        )
