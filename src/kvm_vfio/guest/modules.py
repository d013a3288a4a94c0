# SPDX-License-Identifier: GPL-2.0-only
"""Which modules a guest loads, and in which order.

Rule of this file: a module says itself what it depends on (`depends=` in its .modinfo), so neither
depmod nor a list for each kernel is needed.
"""

from __future__ import annotations

import lzma
import re
import struct
from collections.abc import Iterable, Mapping

from kvm_vfio.errors import Unsupported

WANTED = ("kvm-amd", "vfio_iommu_type1", "vfio-pci")
"""What the guest is for; the rest follows from their dependencies."""

DRIVERS = ("nvme", "uio_pci_generic")
"""What a guest of somebody else's may want to drive devices with."""

_DIRECTORIES = re.compile(
    r"/kernel/(virt|arch/x86/kvm|block|crypto|lib"
    r"|drivers/(vfio|iommu|crypto/ccp|char/hw_random|nvme|uio))/.*\.ko(\.xz)?$"
)
_ELF_HEADER = struct.Struct("<16x HHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")


def may_be_needed(path: str) -> bool:
    """Whether a file of a kernel package is a module in question."""
    return _DIRECTORIES.search(path) is not None


def plain(name: str, image: bytes) -> tuple[str, bytes]:
    """A module's file name and image without compression."""
    if name.endswith(".xz"):
        return name.removesuffix(".xz"), lzma.decompress(image)
    return name, image


def load_order(images: Mapping[str, bytes], wanted: Iterable[str] = WANTED) -> list[str]:
    """The file names of the wanted modules and of all they depend on, each after its own."""
    files = {_key(name): name for name in images}
    order: list[str] = []

    def add(module: str, needed_by: str) -> None:
        name = files.get(_key(module))
        if name is None:
            raise Unsupported(f"the kernel package has no module {module}, which {needed_by} needs")
        if name not in order:
            for dependency in dependencies(images[name]):
                add(dependency, name)
            order.append(name)

    for module in wanted:
        add(module, "a guest")
    return order


def _key(name: str) -> str:
    return name.removesuffix(".ko").replace("-", "_")


def dependencies(image: bytes) -> list[str]:
    """The modules that this one says it needs."""
    for entry in _section(image, b".modinfo").split(b"\0"):
        key, _, value = entry.partition(b"=")
        if key == b"depends":
            return [name for name in value.decode().split(",") if name]
    return []


def _section(image: bytes, wanted: bytes) -> bytes:
    """The section of an ELF64 file; empty when it has none of that name."""
    header = _ELF_HEADER.unpack_from(image)
    table, entry_size, count, names_index = header[5], header[10], header[11], header[12]
    sections = [_SECTION.unpack_from(image, table + i * entry_size) for i in range(count)]
    names = sections[names_index][4]
    for name, _, _, _, offset, size, *_ in sections:
        start = names + name
        if image[start : image.index(b"\0", start)] == wanted:
            return image[offset : offset + size]
    return b""
