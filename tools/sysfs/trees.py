# SPDX-License-Identifier: GPL-2.0-only
"""A recorded tree as text, one line for each thing in it.

dir PATH
file PATH "CONTENT"      as JSON
hex PATH DIGITS          a file that is no text
link PATH TARGET
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

_UNIT = r"intel-iommu/(cap|ecap|version)|amd-iommu/(cap|features)"
_FUNCTION = (
    "vendor|device|class|subsystem_vendor|subsystem_device|revision|resource|config|reset|"
    "vfio-dev|driver|iommu|iommu_group"
)
_DEVICE = r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
# What is recorded; directories on the way are gone through.
_WANTED = re.compile(
    rf"proc/sys/kernel/(osrelease|arch)|proc/(cpuinfo|interrupts)|dev/(kvm|iommu|vfio/[^/]+)|"
    rf"sys/class/iommu/[^/]+(/({_UNIT}))?|sys/firmware/acpi/tables/(DMAR|IVRS)|"
    rf"sys/kernel/iommu_groups/[0-9]+/(type|name|devices/[^/]+)|"
    rf"sys/bus/pci/devices/{_DEVICE}(/({_FUNCTION}))?|"
    rf"sys/module/(kvm|kvm_intel|kvm_amd|vfio|vfio_pci|vfio_iommu_type1|iommufd)|"
    rf"sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts"
)
_THROUGH = re.compile(
    r"proc|proc/sys|proc/sys/kernel|dev|dev/vfio|sys|sys/(class|firmware|kernel|bus|module)|"
    r"sys/class/iommu(/[^/]+(/(intel|amd)-iommu)?)?|sys/firmware/acpi(/tables)?|"
    rf"sys/kernel/iommu_groups(/[0-9]+(/devices)?)?|sys/bus/pci(/devices(/{_DEVICE})?)?|"
    r"sys/module/vfio_iommu_type1(/parameters)?"
)
_CONFIG_BYTES = 256  # what is behind has serial numbers
_CPUINFO = ("vendor_id", "flags")  # of the flags whether there is a hypervisor
_INTERRUPT_LINES = 4


class Reader(Protocol):
    """A machine whose files can be read. OSError where one cannot."""

    def names(self, path: str) -> list[str]: ...
    def link(self, path: str) -> str: ...
    def content(self, path: str) -> bytes: ...


def record(reader: Reader, path: str = "") -> Iterator[str]:
    """The lines of the machine behind `reader`."""
    for name in sorted(reader.names(f"/{path}")):
        below = f"{path}/{name}".lstrip("/")
        if _WANTED.fullmatch(below):
            yield _line(reader, below)
        if _THROUGH.fullmatch(below):
            yield from record(reader, below)


def _line(reader: Reader, path: str) -> str:
    try:
        return f"link {path} {reader.link('/' + path)}"
    except OSError:
        pass
    if path.startswith(("dev/", "sys/firmware")) or path.endswith("/reset"):
        return f"file {path} {json.dumps('')}"  # that it is there is what counts
    try:
        data = reader.content(f"/{path}")
    except OSError:
        return f"dir {path}"
    if path.endswith("/config"):
        return f"hex {path} {data[:_CONFIG_BYTES].hex()}"
    return f"file {path} {json.dumps(_shortened(path, data.decode()))}"


def _shortened(path: str, text: str) -> str:
    if path == "proc/cpuinfo":
        vendor, flags = (re.search(rf"^{key}\s*: .*$", text, re.MULTILINE) for key in _CPUINFO)
        virtual = "flags\t\t: hypervisor\n" if flags and "hypervisor" in flags[0].split() else ""
        return f"{vendor[0]}\n{virtual}" if vendor else ""
    if path == "proc/interrupts":
        return "".join(text.splitlines(keepends=True)[:_INTERRUPT_LINES])
    return text


def unpack(text: str, root: Path) -> Path:
    """Make the tree below `root`, which is returned."""
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind in ("", "#"):
            continue
        name, _, content = rest.partition(" ")
        path = root / name
        _make_way(root, path)
        if kind == "link":
            path.symlink_to(content)
            # What it points to may have files of its own, recorded through the link.
            (path.parent / content).mkdir(parents=True, exist_ok=True)
        elif kind == "dir":
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(bytes.fromhex(content) if kind == "hex" else _text(content))
    return root


def _make_way(root: Path, path: Path) -> None:
    os.makedirs(path.parent, exist_ok=True)
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{path} leads out of {root}")


def _text(content: str) -> bytes:
    text = json.loads(content)
    return str(text).encode()
