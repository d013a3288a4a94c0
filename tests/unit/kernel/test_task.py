# SPDX-License-Identifier: GPL-2.0-only
"""A caller reaches its files and its memory, and nobody else's."""

from __future__ import annotations

from errno import EBADF, EFAULT

import pytest

from kvm_vfio.kernel.file import PathOnlyFile
from tests.unit.kernel.program import Program, boot


@pytest.fixture
def program() -> Program:
    return boot()


@pytest.mark.parametrize("fd", [-1, -100, 1, 0x7FFF_FFFF, 1 << 40])
def test_a_number_that_is_not_open_is_ebadf(program: Program, fd: int) -> None:
    program.other()
    assert program.number(lambda: program.task.fget(fd).references) == -EBADF


def test_an_o_path_fd_is_ebadf(program: Program) -> None:
    fd = program.files.install(PathOnlyFile("/dev/kvm"))
    assert program.number(lambda: program.task.fget(fd).references) == -EBADF


def test_fget_borrows_the_file_and_counts_nothing(program: Program) -> None:
    fd = program.other()
    assert program.task.fget(fd).references == 1


def test_a_child_sees_a_copy_of_its_parents_memory(program: Program) -> None:
    address = program.put(b"before")
    child = program.fork()
    program.mm.write(address, b"after!")
    assert child.task.copy_from_user(address, 6) == b"before"
    assert program.task.copy_from_user(address, 6) == b"after!"


def test_memory_is_reached_through_the_address_space(program: Program) -> None:
    address = program.put(b"text\0")
    assert program.task.copy_from_user_string(address, 100) == b"text"
    program.task.copy_to_user(address, b"T")
    assert program.task.copy_from_user(address, 4) == b"Text"
    assert program.call(program.task.copy_from_user, 0, 1) == -EFAULT
