# SPDX-License-Identifier: GPL-2.0-only
"""The requests that Linux answers before a file is asked."""

from __future__ import annotations

from errno import EFAULT, ENOTTY

import pytest

from kvm_vfio.kernel.vfs import FIGETBSZ, FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX
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
