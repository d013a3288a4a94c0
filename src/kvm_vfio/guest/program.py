# SPDX-License-Identifier: GPL-2.0-only
"""Whole programs in a guest: put there, run, and what they said brought back.

Rule of this file: a program is bytes (a static executable, since a guest has no libraries), and
what comes back is what a shell would see.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from kvm_vfio.guest.batch import Batch
from kvm_vfio.guest.process import GuestSyscalls
from kvm_vfio.uapi.fcntl import O_CLOEXEC, O_RDWR

_AT_ONCE = 1 << 19
_O_CREAT, _O_TRUNC, _O_APPEND = 0o100, 0o1000, 0o2000


class Ended(NamedTuple):
    """How a program ended, as os.waitstatus_to_exitcode has it, and all that it wrote."""

    status: int
    output: bytes


def run_program(
    process: GuestSyscalls, image: bytes, arguments: Sequence[str], *, seconds: int = 60
) -> Ended:
    """Run a static executable in the guest: `arguments[0]` is its name, in /tmp.

    OSError ETIMEDOUT: it took longer than `seconds`, and was killed with all that it started.
    """
    path = f"/tmp/{arguments[0]}"  # noqa: S108 - the guest's, where this process is alone
    _put_file(process, path, image)
    out = process.open("/tmp/.out", O_RDWR | O_CLOEXEC | _O_CREAT | _O_TRUNC | _O_APPEND)  # noqa: S108
    try:
        argv = _strings(process, [path, *arguments[1:]])
        batch = Batch()
        answer = batch.run(argv, out, seconds, what=" ".join(arguments))
        process.guest.perform(batch, more_patience=seconds)
        status = os.waitstatus_to_exitcode(answer.result)
        return Ended(status, _whole(process, out))
    finally:
        process.close(out)


def _put_file(process: GuestSyscalls, path: str, content: bytes) -> None:
    fd = process.open(path, O_RDWR | O_CLOEXEC | _O_CREAT | _O_TRUNC)
    for at in range(0, len(content), _AT_ONCE):
        process.write(fd, content[at : at + _AT_ONCE])
    process.chmod(fd, 0o755)
    process.close(fd)


def _strings(process: GuestSyscalls, words: Sequence[str]) -> int:
    """The address of a NULL-terminated vector of strings."""
    encoded = [word.encode() + b"\0" for word in words]
    at = process.allocate(8 * (len(words) + 1) + sum(map(len, encoded)))
    place, pointers = at + 8 * (len(words) + 1), []
    for text in encoded:
        pointers.append(place)
        place += len(text)
    vector = struct.pack(f"<{len(words) + 1}Q", *pointers, 0)
    process.poke(at, vector + b"".join(encoded), now=True)
    return at


def _whole(process: GuestSyscalls, fd: int) -> bytes:
    parts: list[bytes] = []
    while part := process.pread(fd, _AT_ONCE, sum(map(len, parts))):
        parts.append(part)
    return b"".join(parts)
