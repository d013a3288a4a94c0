# SPDX-License-Identifier: GPL-2.0-only
"""What is inside a bzImage."""

from __future__ import annotations

import lzma
import struct

import pytest

from kvm_vfio.guest.image import vmlinux

KERNEL = b"\x7fELF" + bytes(5000)


def bzimage(payload: bytes, *, sectors: int = 3, offset: int = 700) -> bytes:
    """A boot sector, setup code, and protected-mode code with the payload somewhere in it."""
    header = bytearray((1 + (sectors or 4)) * 512)
    header[0x1F1] = sectors
    header[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", header, 0x248, offset, len(payload))
    return bytes(header) + bytes(offset) + payload + b"what follows"


@pytest.mark.parametrize("sectors", [0, 3, 27])
def test_a_kernel_packed_with_xz_is_unpacked(sectors: int) -> None:
    size = struct.pack("<I", len(KERNEL))  # the kernel's build appends it
    assert vmlinux(bzimage(lzma.compress(KERNEL) + size, sectors=sectors)) == KERNEL


def test_other_compressions_are_left_to_the_kernel() -> None:
    assert vmlinux(bzimage(b"\x28\xb5\x2f\xfd" + bytes(100))) is None


def test_what_is_no_bzimage_is_left_alone() -> None:
    assert vmlinux(KERNEL) is None
    assert vmlinux(b"") is None
