# SPDX-License-Identifier: GPL-2.0-only
"""Guests that are recorded: a real Linux under QEMU, behind an IOMMU of one's choice."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kvm_vfio.guest import machine
from kvm_vfio.guest.process import READLINK, GuestSyscalls, boot

_GETDENTS64 = 217
_DIRENT = struct.Struct("<QqHB")
_BYTES = 1 << 15
_O_DIRECTORY = 0o200000
# A network card behind a port, so that a group has a bridge, and a drive that nobody drives.
_MORE = (
    "pcie-root-port,id=below,addr=15.0,chassis=1",
    "e1000e,bus=below,romfile=",
    "nvme,addr=16.0,serial=0",
)


@contextmanager
def booted(linux: str, iommu: str) -> Iterator[GuestSyscalls]:
    """A fresh process on a Linux with this IOMMU, as QEMU's -device has it ("none": without)."""
    plain = machine.command

    def command(files: machine.Files, *, snoop: bool) -> Sequence[str]:
        words = list(plain(files, snoop=snoop))
        at = next(i for i, word in enumerate(words) if word.startswith("intel-iommu"))
        words[at - 1 : at + 1] = [] if iommu == "none" else ["-device", iommu]
        return [*words, *(word for device in _MORE for word in ("-device", device))]

    machine.command = command
    try:
        with boot(linux) as process:
            yield process
    finally:
        machine.command = plain


class There:
    """A guest."""

    def __init__(self, process: GuestSyscalls) -> None:
        self._process = process

    def names(self, path: str) -> list[str]:
        fd = self._process.open(path, _O_DIRECTORY)
        buffer = self._process.buffer(_BYTES)
        found: list[str] = []
        while size := self._process._call(
            _GETDENTS64, fd, buffer.address, _BYTES, what="getdents64"
        ):
            found += _entries(self._process.peek(buffer.address, size))
        self._process.close(fd)
        return found

    def link(self, path: str) -> str:
        name, buffer = self._process.buffer(len(path) + 1), self._process.buffer(4096)
        name.write(path.encode() + b"\0")
        size = self._process._call(
            READLINK, name.address, buffer.address, 4096, what=f"readlink {path}"
        )
        return self._process.peek(buffer.address, size).decode()

    def content(self, path: str) -> bytes:
        fd = self._process.open(path, 0)
        data = b""
        try:
            while more := self._process.read(fd, 65536):
                data += more
        finally:
            self._process.close(fd)
        return data


def _entries(data: bytes) -> list[str]:
    names, at = [], 0
    while at < len(data):
        _, _, length, _ = _DIRENT.unpack_from(data, at)
        names.append(data[at + _DIRENT.size : at + length].split(b"\0")[0].decode())
        at += length
    return [name for name in names if name not in (".", "..")]
