# SPDX-License-Identifier: GPL-2.0-only
"""Record a tree: of this machine, or of a real Linux under QEMU.

    python -m tools.sysfs > machine.tree
    python -m tools.sysfs --linux 6.12 --iommu intel-iommu,snoop-control=off > intel.tree

The guest is the one that `kvm-vfio guest prepare` has fetched, with more PCI devices than the
recordings' machine has: a network card behind a port, so that a group has a bridge.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections.abc import Sequence

from kvm_vfio.guest import machine
from kvm_vfio.guest.process import READLINK, GuestSyscalls, boot
from tools.sysfs.trees import record

_GETDENTS64 = 217
_DIRENT = struct.Struct("<QqHB")
_BYTES = 1 << 15
_O_DIRECTORY = 0o200000
_MORE = (
    "pcie-root-port,id=below,addr=15.0,chassis=1",
    "e1000e,bus=below,romfile=",
    "nvme,addr=16.0,serial=0",
)


class Here:
    """This machine."""

    def names(self, path: str) -> list[str]:
        return os.listdir(path)

    def link(self, path: str) -> str:
        return os.readlink(path)

    def content(self, path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()


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


def _with_iommu(iommu: str) -> None:
    """Have guests started with this IOMMU ("none": without), and with more devices."""
    plain = machine.command

    def command(files: machine.Files, *, snoop: bool) -> Sequence[str]:
        words = list(plain(files, snoop=snoop))
        at = next(i for i, word in enumerate(words) if word.startswith("intel-iommu"))
        words[at - 1 : at + 1] = [] if iommu == "none" else ["-device", iommu]
        return [*words, *(word for device in _MORE for word in ("-device", device))]

    machine.command = command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--linux")
    parser.add_argument("--iommu", default="intel-iommu,intremap=on,snoop-control=off")
    options = parser.parse_args()
    if options.linux is None:
        print(*record(Here()), sep="\n")
        return
    _with_iommu(options.iommu)
    with boot(options.linux) as process:
        print(f"# Linux {process.guest.kernel.release} under QEMU, {options.iommu}")
        print(*record(There(process)), sep="\n")


if __name__ == "__main__":
    main()
