# SPDX-License-Identifier: GPL-2.0-only
"""A trace as a file: a line of JSON a record, written as things happen, read as far as it goes.

Rule of this file: nothing is kept. A record is in the file a moment after it happened, whatever
becomes of us then. A trace that cannot be written any more ends, and says so once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, cast, get_args

import msgspec

from kvm_vfio.errors import InputError
from kvm_vfio.machine.devices import device_model
from kvm_vfio.machine.model import Machine, PciDevice
from kvm_vfio.trace.schema import VERSION, Header, Record

DELAY = 0.05  # seconds: what happened longer ago is in the file
_MOST_WAITING = 1000  # records, some 500 KiB: few writes, and still little memory


def _without_code(value: object) -> object:
    """What makes a device model is code: its name stands beside it."""
    if callable(value):
        return ""
    raise NotImplementedError(f"{value!r} has no place in a trace")


_encoder = msgspec.json.Encoder(enc_hook=_without_code)


def _no_model(_bus: object, _options: object) -> None:
    """The code of a device model that is not known yet, or not here."""


_decode = msgspec.json.Decoder(Record, dec_hook=lambda _type, _value: _no_model).decode
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
            try:
                data = memoryview(_encoder.encode_lines(records))
                while data:
                    data = data[os.write(self._fd, data) :]
            except OSError as error:
                self.failure = error.strerror or str(error)
            except (TypeError, NotImplementedError) as error:  # a bug, and not the program's
                self.failure = str(error)

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


def line(record: Record) -> bytes:
    """The line of a record."""
    return _encoder.encode(record) + b"\n"


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
        return record_of(line)
    except msgspec.ValidationError as error:
        if _is_of_a_later_kind(line):
            return None
        raise InputError(f"{place}: {error}; the trace was changed by hand") from error
    except msgspec.DecodeError as error:
        raise InputError(f"{place}: {error}; name a file that --trace wrote") from error


def record_of(line: bytes) -> Record:
    """The record in a line. msgspec.DecodeError."""
    record: Record = _decode(line)
    if isinstance(record, Header):
        record.machine = _with_code(record.machine)
    return record


def _with_code(machine: Machine) -> Machine:
    """The machine with its device models, as far as they are installed here."""
    iommus = (
        replace(
            iommu,
            groups=tuple(
                replace(group, devices=tuple(map(_device_with_code, group.devices)))
                for group in iommu.groups
            ),
        )
        for iommu in machine.iommus
    )
    return replace(machine, iommus=tuple(iommus))


def _device_with_code(device: PciDevice) -> PciDevice:
    behaviour = device.behaviour
    if behaviour is None:
        return device
    try:
        model = device_model(behaviour.name)
        given = behaviour.options if isinstance(behaviour.options, dict) else {}
        options = model.options_type(**given)
    except (KeyError, TypeError, InputError):
        return replace(device, behaviour=None)
    maker = cast("Callable[[Any, Any], Any]", model)
    return replace(device, behaviour=replace(behaviour, model=maker, options=options))


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
