# SPDX-License-Identifier: GPL-2.0-only
"""Which processes have files of VFIO open, from the links in /proc/*/fd.

Rule of this file: a link is read and never followed, so that no device, no dead mount and no other
process can hold us up; a process may end at any moment; and there is a bound on how much is looked
at, which is said when it is reached.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress

from kvm_vfio.survey.facts import Holder, Holders
from kvm_vfio.survey.tree import Tree, printable

_MOST_LINKS = 2_000_000
_MOST_SECONDS = 10.0
_MOST_FILES = 64  # of one process
_NODES = ("/dev/vfio/", "/dev/iommu")
_ANONYMOUS = {
    "anon_inode:kvm-vfio": "KVM-VFIO device",
    "anon_inode:[vfio-device]": "VFIO device",
}


def holders(tree: Tree, *, seconds: float = _MOST_SECONDS, links: int = _MOST_LINKS) -> Holders:
    """Every process that can be looked into, within the bounds."""
    found: list[Holder] = []
    hidden = 0
    deadline, left = time.monotonic() + seconds, links
    for pid in _processes(tree):
        files: set[str] = set()
        try:
            for link in _links(tree.path(f"proc/{pid}/fd")):
                left -= 1
                if (name := _of_vfio(link)) and len(files) < _MOST_FILES:
                    files.add(name)
                if left <= 0:
                    break
        except PermissionError:
            hidden += 1
        except OSError:
            continue  # it has ended
        if files:
            comm = tree.word(f"proc/{pid}/comm") or "?"
            found.append(Holder(int(pid), comm, tuple(sorted(files))))
        if left <= 0:
            return Holders(tuple(found), hidden, f"after {links} open files")
        if time.monotonic() > deadline:
            return Holders(tuple(found), hidden, f"after {seconds:g} seconds")
    return Holders(tuple(found), hidden)


def _processes(tree: Tree) -> Iterator[str]:
    with suppress(OSError), os.scandir(tree.path("proc")) as entries:
        yield from (entry.name for entry in entries if entry.name.isdecimal())


def _links(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield os.readlink(entry.path)


def _of_vfio(link: str) -> str | None:
    if link.startswith(_NODES):
        return printable(link)
    return _ANONYMOUS.get(link)
