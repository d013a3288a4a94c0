# SPDX-License-Identifier: GPL-2.0-only
"""The kernel inside a bzImage, so that no guest has to unpack it.

Rule of this file: it knows the boot protocol's header (Documentation/arch/x86/boot.rst) and xz.
Emulated, unpacking xz takes longer than all the rest of booting; other compressions are fast enough
to be left alone.
"""

from __future__ import annotations

import lzma
import struct

_MAGIC_AT, _MAGIC = 0x202, b"HdrS"
_SETUP_SECTORS_AT = 0x1F1
_PAYLOAD_AT = 0x248  # offset from the protected-mode code, and length
_SECTOR = 512
_XZ = b"\xfd7zXZ\0"


def vmlinux(bzimage: bytes) -> bytes | None:
    """The ELF file in `bzimage`; None where it is not packed with xz."""
    if bzimage[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        return None
    start = (1 + (bzimage[_SETUP_SECTORS_AT] or 4)) * _SECTOR
    offset, length = struct.unpack_from("<II", bzimage, _PAYLOAD_AT)
    payload = bzimage[start + offset : start + offset + length]
    if not payload.startswith(_XZ):
        return None
    return lzma.LZMADecompressor().decompress(payload)  # the size that follows it is left
