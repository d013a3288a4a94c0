# SPDX-License-Identifier: GPL-2.0-only
"""Open files and the numbers that point at them."""

from __future__ import annotations

from errno import EAGAIN, EBADF, EINVAL, ENODEV, ENOTTY, ESPIPE

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile, FdTable, File, OtherFile, PathOnlyFile
from tests.unit.kernel.program import Program, boot, start_vmm

U64_MAX = (1 << 64) - 1


class Witness(File):
    """A file that remembers its release."""

    released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def program() -> Program:
    return boot()


# -- how long a file lives -------------------------------------------------------------------------


def test_only_the_last_put_releases_a_file() -> None:
    file = Witness()
    file.get()
    file.put()
    assert file.released == 0
    file.put()
    assert file.released == 1


def test_dup_fork_and_passing_share_one_file(program: Program) -> None:
    file = Witness()
    fd = program.files.install(file)
    child = program.fork()
    stranger = boot()
    holders = [(program, fd), (program, program.dup(fd)), (child, fd)]
    holders.append((stranger, program.send(fd, stranger)))
    assert file.references == len(holders)
    for holder, number in holders:
        assert file.released == 0
        holder.close(number)
    assert file.released == 1


def test_a_new_fd_is_the_lowest_that_is_free(program: Program) -> None:
    assert [program.other() for _ in range(4)] == [0, 1, 2, 3]
    program.close(2, 1)
    assert [program.other() for _ in range(3)] == [1, 2, 4]


def test_a_number_taken_away_is_free_and_keeps_the_reference() -> None:
    table = FdTable()
    file = Witness()
    fd = table.install(file)
    assert table.remove(fd) is file
    assert table.remove(fd) is None
    assert (table.get(fd), file.references, file.released) == (None, 1, 0)


def test_the_numbers_in_use_come_in_order(program: Program) -> None:
    for _ in range(4):
        program.other()
    program.close(0, 2)
    program.other()
    assert program.files.numbers() == [0, 1, 3]


def test_an_o_path_fd_is_a_number_for_close_and_dup_only(program: Program) -> None:
    file = PathOnlyFile("/dev/null")
    fd = program.files.install(file)
    assert program.files.get(fd) is None
    assert program.files.peek(fd) is file
    assert program.ioctl(fd, 0) == -EBADF
    assert program.files.copy().peek(fd) is file


# -- what a file does that has no operations of its own --------------------------------------------


def test_a_bare_file_refuses_every_operation(program: Program) -> None:
    fd = program.other("a pipe")
    file = program.task.fget(fd)
    assert program.ioctl(fd, 0xAE00) == -ENOTTY
    assert program.read(fd, 16) == -EINVAL
    assert program.write(fd, b"x") == -EINVAL
    assert program.number(file.lseek, 0) == -ESPIPE
    assert program.call(lambda: file.mmap(program.task, 4096, 0, writable=True)) == -ENODEV
    assert file.name == "a pipe"


def test_a_refusal_names_the_request_in_hexadecimal(program: Program) -> None:
    with pytest.raises(KernelError, match="0x0000ae00"):
        OtherFile("a pipe").ioctl(program.task, 0xAE00, 0)


def test_a_request_is_taken_by_its_32_low_bits(program: Program) -> None:
    vm = program.vm()
    device = program.create_device(vm)
    assert program.ioctl(device, 0xFFFF_FFFF_0000_5451) == 0
    assert program.ioctl(device, 0x5451 - (1 << 32)) == 0


@pytest.mark.parametrize(
    ("name", "expected", "position"),
    [
        ("kvm", -EINVAL, 0),
        ("vm", -ESPIPE, 0),
        ("device", -ESPIPE, -ESPIPE),
        ("container", -EINVAL, -ESPIPE),
        ("group", -EINVAL, -ESPIPE),
        ("eventfd", -ESPIPE, -ESPIPE),
    ],
)
def test_which_files_have_a_position(name: str, expected: int, position: int) -> None:
    vmm = start_vmm()
    program = vmm.program
    made = {"kvm": lambda: program.open("/dev/kvm"), "eventfd": program.eventfd}
    fd = made[name]() if name in made else getattr(vmm, name)
    assert program.read(fd, 8, 0) == expected
    assert program.write(fd, bytes(8), 0) == expected
    assert program.number(program.task.fget(fd).lseek, 5) == position


# -- eventfd ---------------------------------------------------------------------------------------


def counter(value: int) -> bytes:
    return value.to_bytes(8, "little")


def test_an_eventfd_counts_writes_and_signals_until_it_is_read(program: Program) -> None:
    fd = program.eventfd()
    assert program.write(fd, counter(41)) == 8
    program.file(fd, EventFile).signal()
    assert program.read(fd, 8) == counter(42)
    assert program.read(fd, 8) == -EAGAIN


@pytest.mark.parametrize(
    ("size", "expected"), [(0, -EINVAL), (7, -EINVAL), (8, counter(1)), (9, counter(1))]
)
def test_an_eventfd_is_read_in_8_bytes(program: Program, size: int, expected: object) -> None:
    fd = program.eventfd()
    program.write(fd, counter(1))
    assert program.read(fd, size) == expected


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", -EINVAL),
        (b"1234567", -EINVAL),
        (counter(U64_MAX), -EINVAL),
        (counter(U64_MAX - 1), 8),
        (counter(0), 8),
    ],
)
def test_an_eventfd_takes_8_bytes_that_are_not_all_ones(
    program: Program, data: bytes, expected: int
) -> None:
    assert program.write(program.eventfd(), data) == expected


def test_an_eventfd_that_is_full_takes_no_more(program: Program) -> None:
    fd = program.eventfd()
    program.write(fd, counter(U64_MAX - 1))
    assert program.write(fd, counter(1)) == -EAGAIN
    assert program.write(fd, counter(0)) == 8
    assert program.read(fd, 8) == counter(U64_MAX - 1)


def test_a_signal_beyond_the_end_of_the_counter_is_lost(program: Program) -> None:
    fd = program.eventfd()
    program.write(fd, counter(U64_MAX - 1))
    event = program.file(fd, EventFile)
    event.signal()
    event.signal()
    assert program.read(fd, 8) == counter(U64_MAX)
