# SPDX-License-Identifier: GPL-2.0-only
"""A trace as a file: what is in it when, and what a reader makes of a bad one."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from kvm_vfio.errors import InputError
from kvm_vfio.machine.load import builtin_machines, load_machine
from kvm_vfio.trace.jsonl import DELAY, TraceWriter, read_trace
from kvm_vfio.trace.schema import VERSION, Call, Decision, Header, Record, Task

HEADER = Header(VERSION, "kvm-vfio 0", 0, "6.12", "model", load_machine("default"))
CALL = Call(1, 10, 5, 7, "openat", "ENOENT", args={"path": "/dev/kvm"}, why="it is not there")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.jsonl"


@pytest.fixture
def writer(file: Path) -> Iterator[TraceWriter]:
    fd = os.open(file, os.O_WRONLY | os.O_CREAT)
    writer = TraceWriter(fd)
    yield writer
    writer.close()
    os.close(fd)


def written(file: Path, *records: Record) -> Path:
    encode = msgspec.json.encode
    file.write_bytes(b"".join(encode(record) + b"\n" for record in records))
    return file


def test_what_is_written_is_read(writer: TraceWriter, file: Path) -> None:
    writer([HEADER, CALL])
    writer.flush()
    assert list(read_trace(file)) == [HEADER, CALL]


@pytest.mark.parametrize("name", builtin_machines())
def test_every_machine_is_read_as_it_was(writer: TraceWriter, file: Path, name: str) -> None:
    header = msgspec.structs.replace(HEADER, machine=load_machine(name))
    writer([header])
    writer.flush()
    assert list(read_trace(file)) == [header]


def test_what_cannot_be_written_ends_the_trace_and_not_the_program(writer: TraceWriter) -> None:
    writer([msgspec.structs.replace(CALL, args=object())])
    writer.flush()
    assert writer.failure
    assert "has no place in a trace" in writer.failure


def test_a_record_is_in_the_file_soon_with_nobody_asking(writer: TraceWriter, file: Path) -> None:
    writer([HEADER])
    for _ in range(100):
        if file.stat().st_size:
            break
        time.sleep(DELAY)
    assert list(read_trace(file)) == [HEADER]


def test_nothing_is_kept(writer: TraceWriter, file: Path) -> None:
    for _ in range(10_000):
        writer([CALL])
        assert len(writer._waiting) <= 1000
    writer.flush()
    assert file.read_bytes().count(b"\n") == 10_000


def test_a_trace_that_cannot_be_written_ends_and_says_why() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    writer = TraceWriter(fd)
    writer([CALL])
    writer.flush()
    assert writer.failure == "No space left on device"
    writer([CALL])
    writer.close()
    os.close(fd)


def test_a_line_that_was_cut_off_is_left_out(file: Path) -> None:
    whole = written(file, HEADER, CALL, CALL).read_bytes()
    file.write_bytes(whole[:-20])
    assert list(read_trace(file)) == [HEADER, CALL]


def test_what_a_later_kvm_vfio_added_is_skipped(file: Path) -> None:
    written(file, HEADER)
    later = b'{"is":"photo","of":"vm 1"}\n{"is":"decision","n":1,"did":"thought","mood":"good"}\n'
    file.write_bytes(file.read_bytes() + later)
    assert list(read_trace(file)) == [HEADER, Decision(1, "thought")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "{}: it is empty; name a file that --trace wrote"),
        (b"hello\n", "{}:1: JSON is malformed: invalid character (byte 0); name a file"),
        (b'{"is":"task","at":1,"tid":1,"pid":1,"comm":"a"}\n', "{}:1: no trace begins like this"),
        (b'{"is":"call","n":"one"}\n', "{}:1: Expected `int`, got `str` - at `$.n`; the trace was"),
        (b"[1]\n", "{}:1: Expected `object`, got `array`"),
        (b'"\xff"\n', "{}:1: "),
    ],
)
def test_a_bad_trace_is_one_sentence(file: Path, content: bytes, sentence: str) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError) as refusal:
        list(read_trace(file))
    assert str(refusal.value).startswith(sentence.format(file))


def test_a_trace_of_a_later_version_names_who_reads_it(file: Path) -> None:
    written(file, msgspec.structs.replace(HEADER, version=2, by="kvm-vfio 9.1"))
    with pytest.raises(InputError, match=r"of version 2 and this .* reads 1; read it with kvm-vf"):
        list(read_trace(file))


def test_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory; name a file"):
        list(read_trace(tmp_path / "none"))


def test_the_document_has_every_record_and_field() -> None:
    document = (Path(__file__).parents[3] / "docs/trace.md").read_text()
    for kind in get_args(Record):
        assert f"### `{kind.__struct_config__.tag}`" in document
        for field in msgspec.structs.fields(kind):
            assert f"`{field.encode_name}`" in document, f"{kind.__name__}.{field.name}"
    assert f"version {VERSION}" in document


def test_a_task_is_small() -> None:
    assert len(msgspec.json.encode(Task(1, 2, 3, "vmm"))) < 60
