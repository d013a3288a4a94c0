# SPDX-License-Identifier: GPL-2.0-only
"""A device's data in a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvm_vfio.errors import InputError, StorageError
from kvm_vfio.machine import storage
from kvm_vfio.machine.storage import FileStorage, open_storage


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(b"\xff" * 65536)
    return path


def test_it_is_read_and_written_where_it_is(file: Path) -> None:
    opened = open_storage(str(file))
    assert (opened.size, opened.read(65535, 1)) == (65536, b"\xff")
    opened.write(10, b"abc")
    opened.flush()
    assert file.read_bytes()[9:14] == b"\xffabc\xff"


@pytest.mark.parametrize("holes", [True, False])
def test_what_is_discarded_is_zero(
    file: Path, monkeypatch: pytest.MonkeyPatch, holes: bool
) -> None:
    if not holes:
        monkeypatch.setattr(storage, "_fallocate", lambda *_: -1)
        monkeypatch.setattr(storage, "_ZEROES", bytes(100))
    opened = open_storage(str(file))
    opened.discard(5000, 0)
    opened.discard(5000, 12345)
    assert file.read_bytes() == b"\xff" * 5000 + bytes(12345) + b"\xff" * (65536 - 17345)


def test_a_file_that_becomes_shorter(file: Path) -> None:
    opened = open_storage(str(file))
    os.truncate(file, 100)
    with pytest.raises(StorageError, match="has become shorter"):
        opened.read(90, 20)


def test_a_file_that_cannot_be_written(file: Path) -> None:
    opened = FileStorage(os.open(file, os.O_RDONLY))
    with pytest.raises(StorageError):
        opened.write(0, b"x")
    with pytest.raises(StorageError):
        opened.discard(0, 1)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "is a directory"), (tmp_path / "x", "no such file")):
        with pytest.raises(InputError, match=rf"{reason}.*; name a file that can be written"):
            open_storage(str(path))
    with pytest.raises(InputError, match="this is no regular file; make one"):
        open_storage(os.devnull)


def test_a_file_of_somebody_else(file: Path) -> None:
    first = open_storage(str(file))
    with pytest.raises(InputError, match="another device keeps its data there"):
        open_storage(str(file))
    del first
    assert open_storage(str(file)).size == 65536
