# SPDX-License-Identifier: GPL-2.0-only
"""The documentation's site: `./dev docs` makes it, without a network.

What can be read from the program (its commands, requests and profiles) is, so that it cannot be
stale.
"""

from __future__ import annotations

import re
from dataclasses import fields
from enum import Enum
from errno import errorcode
from importlib.metadata import version as version_of
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.stats import StatsFile
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.kvm.vcpu import VcpuFile
from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.kernel.vfs import VFS_IOCTLS
from kvm_vfio.profiles import PROFILES, Profile, profile, table

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "kvm-vfio"
author = "the kvm-vfio authors"
project_copyright = author
release = version = version_of("kvm-vfio")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_click"]
myst_enable_extensions = ["colon_fence", "substitution"]
myst_heading_anchors = 3
exclude_patterns: list[str] = []
html_theme = "furo"
html_title = f"kvm-vfio {release}"
html_copy_source = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"

_FILES: dict[str, type[File]] = {
    "Any file": File,
    "/dev/kvm": KvmSystemFile,
    "A VM": VmFile,
    "A vCPU": VcpuFile,
    "Statistics of a VM or vCPU": StatsFile,
    "A KVM-VFIO device": KvmDeviceFile,
    "A VFIO container": ContainerFile,
    "A VFIO group": GroupFile,
    "A VFIO device": VfioDeviceFile,
}


_SHOWN = (bool, int, str, frozenset, Enum)
_LARGE = 1 << 16  # a mask


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _errnos(numbers: tuple[int, ...]) -> str:
    """Their names. A result that is a count can look like any errno."""
    if len(numbers) > len(errorcode):
        return "any number"
    return ", ".join(errorcode.get(number, str(number)) for number in numbers)


def _requests() -> str:
    parts = []
    for title, kind in _FILES.items():
        rows = [
            [
                f"`{row.request.name}`",
                row.support.name.lower(),
                _errnos(row.errnos),
                row.note,
            ]
            for table in kind.tables()
            if kind is File or table is not VFS_IOCTLS
            for row in table
        ]
        parts.append(f"## {title}\n\n{_table(['request', 'modelled', 'refuses with', ''], rows)}")
    return "\n\n".join(parts)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:#x}" if value >= _LARGE else str(value)
    if isinstance(value, frozenset):
        return ", ".join(str(each) for each in sorted(value))
    if isinstance(value, Enum):
        return value.name.replace("_", " ").lower()
    return str(value)


def _errno_or(name: str, value: object) -> str:
    if name.endswith("_errno") and isinstance(value, int):
        return errorcode.get(value, "none")
    return _value(value)


def _profiles() -> str:
    profiles = list(PROFILES.values())
    rows = [
        [f"`{field.name}`", *(_errno_or(field.name, getattr(p, field.name)) for p in profiles)]
        for field in fields(Profile)
        if all(isinstance(getattr(p, field.name), _SHOWN) for p in profiles)
        if field.name != "name"
    ]
    return _table(["behaviour", *(p.name for p in profiles)], rows)


_FIELD = re.compile(r"    (\w+)[:=](?:[^#]*?)(?:  # (.*))?$")


def _comments(path: Path, start: str) -> dict[str, str]:
    """What is said of each field in the block of a source file that begins with `start`."""
    said: dict[str, str] = {}
    above: list[str] = []
    lines = path.read_text().split(f"\n{start}", 1)[1].splitlines()
    for line in lines[1:]:
        if line and not line.startswith(" "):
            break
        if line.startswith("    # -- "):
            continue
        if line.startswith("    # "):
            above.append(line.removeprefix("    # "))
            continue
        if field := _FIELD.match(line):
            said[field[1]] = field[2] or " ".join(above)
        above = []
    return said


def _changes() -> str:
    """For each kernel what it does differently from the one before, and how that is known."""
    meanings = _comments(Path(profile.__file__), "class Profile:")
    parts = []
    for before, after in pairwise(PROFILES.values()):
        name = "LINUX_" + after.name.replace(".", "_")
        sources = _comments(Path(table.__file__), f"{name} = replace(")
        known = f"measured on {after.measured}" if after.measured else "derived"
        rows = [
            [
                f"`{field.name}`: {meanings[field.name]}",
                _errno_or(field.name, getattr(before, field.name)),
                _errno_or(field.name, getattr(after, field.name)),
                "; ".join(filter(None, (known, sources.get(field.name)))),
            ]
            for field in fields(Profile)
            if all(isinstance(getattr(p, field.name), _SHOWN) for p in (before, after))
            if field.name not in ("name", "measured")
            if getattr(before, field.name) != getattr(after, field.name)
        ]
        heads = ["behaviour", before.name, after.name, "how that is known"]
        parts.append(f"## From {before.name} to {after.name}\n\n{_table(heads, rows)}")
    return "\n\n".join(parts)


myst_substitutions = {
    "requests": _requests(),
    "profiles": _profiles(),
    "changes": _changes(),
}

# A link to what is no part of the site says where that is in the repository.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+?)(?:#[^)]*)?\)")


def _outside(match: re.Match[str]) -> str:
    text, path = match.groups()
    return match[0] if path.endswith(".md") and "/" not in path else f"{text} (`{path}`)"


def _read(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = _OUTSIDE.sub(_outside, source[0])


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("source-read", _read)
