# SPDX-License-Identifier: GPL-2.0-only
"""The requests that Linux answers before a file is asked."""

from __future__ import annotations

from errno import EBADF, EFAULT, EINVAL, ENOMEM, ENOTTY, EXDEV

import pytest

from kvm_vfio.uapi.fs import (
    FICLONE,
    FICLONERANGE,
    FIDEDUPERANGE,
    FIGETBSZ,
    FILE_CLONE_RANGE,
    FILE_DEDUPE_RANGE,
    FIOASYNC,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    file_dedupe_range,
)
from kvm_vfio.uapi.layout import INT32, Request, int32
from tests.unit.kernel.program import Vmm, start_vmm


@pytest.fixture(scope="module")
def vmm() -> Vmm:
    return start_vmm()


@pytest.mark.parametrize("name", ["vm", "device", "container", "group"])
@pytest.mark.parametrize(
    ("request_", "value", "expected"),
    [
        (FIONBIO, 0, 0),
        (FIONBIO, 1, 0),
        (FIONBIO, None, -EFAULT),
        (FIOASYNC, 0, 0),
        (FIOASYNC, 1, -ENOTTY),
        (FIOASYNC, None, -EFAULT),
        (FIOCLEX, None, 0),
        (FIONCLEX, None, 0),
    ],
)
def test_every_file_answers_them(
    vmm: Vmm, name: str, request_: Request, value: int | None, expected: int
) -> None:
    program = vmm.program
    address = program.hole() if value is None else program.put(INT32.pack(int32(value)))
    assert program.ioctl(getattr(vmm, name), request_, address) == expected


@pytest.mark.parametrize("name", ["vm", "device", "container", "group"])
def test_every_file_says_how_large_a_block_is(vmm: Vmm, name: str) -> None:
    program, fd = vmm.program, getattr(vmm, name)
    size = program.struct(INT32)
    assert program.ioctl(fd, FIGETBSZ, size) == 0
    assert size.value == (4096,)
    read_only = program.put_at_page_end(bytes(4), writable=False)
    assert program.ioctl(fd, FIGETBSZ, read_only) == -EFAULT


def test_they_are_answered_where_the_file_itself_would_refuse(vmm: Vmm) -> None:
    child = vmm.program.fork()
    assert child.ioctl(vmm.device, FIOCLEX) == 0


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("vm", "device", -EINVAL),
        ("device", "device", -EINVAL),
        ("container", "group", -EINVAL),
        ("container", "vm", -EXDEV),
        ("vm", "group", -EXDEV),
    ],
)
def test_nothing_is_cloned_into_a_device(vmm: Vmm, target: str, source: str, expected: int) -> None:
    program, fd = vmm.program, getattr(vmm, source)
    assert program.ioctl(getattr(vmm, target), FICLONE, fd) == expected
    wanted = program.struct(FILE_CLONE_RANGE, src_fd=fd)
    assert program.ioctl(getattr(vmm, target), FICLONERANGE, wanted) == expected
    assert program.ioctl(getattr(vmm, target), FICLONE, 99) == -EBADF


@pytest.mark.parametrize(("count", "expected"), [(0, -EINVAL), (127, -EINVAL), (128, -ENOMEM)])
def test_targets_of_deduplication_are_counted_before_they_are_read(
    vmm: Vmm, count: int, expected: int
) -> None:
    head = FILE_DEDUPE_RANGE.pack(file_dedupe_range(0, 0, count, 0, 0))
    address = vmm.program.put(head + bytes(127 * 32))
    assert vmm.program.ioctl(vmm.vm, FIDEDUPERANGE, address) == expected
