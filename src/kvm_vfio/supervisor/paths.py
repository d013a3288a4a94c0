# SPDX-License-Identifier: GPL-2.0-only
"""Which file a program means by a path.

Rule of this file: a device is known by the inode that stands for it in the program's /dev, so a
symbolic link, a bind mount, another root or a path relative to a directory all lead to it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from kvm_vfio.supervisor.libc import RESOLVE_IN_ROOT, openat2

AT_FDCWD = -100

Inode = tuple[int, int]
Nodes = Mapping[Inode, str]
"""(st_dev, st_ino) of what stands for a device -> the path that the device has in Linux."""

_ONE_OF_ITS_FDS = re.compile(rb"(?:/proc/(?:self|thread-self|[0-9]+)|/dev)/fd/([0-9]+)")


def device(nodes: Nodes, tid: int, directory: int, path: bytes, flags: int) -> str | None:
    """The device that thread `tid` means by `path` (relative to its fd `directory`), or None."""
    try:
        inode = _inode(tid, _absolute(tid, directory, path), flags)
    except OSError:  # whatever is wrong, the kernel says it best
        return None
    return nodes.get(inode)


def reopened_fd(path: bytes) -> int | None:
    """The number in /proc/self/fd/NUMBER: such a path opens the file behind it anew."""
    found = _ONE_OF_ITS_FDS.fullmatch(path)
    return int(found[1]) if found else None


def _absolute(tid: int, directory: int, path: bytes) -> bytes:
    if path.startswith(b"/"):
        return path
    base = "cwd" if directory == AT_FDCWD else f"fd/{directory}"
    return os.path.join(os.readlink(f"/proc/{tid}/{base}").encode(), path)


def _inode(tid: int, path: bytes, flags: int) -> Inode:
    root = os.open(f"/proc/{tid}/root", os.O_PATH)
    try:
        found = openat2(root, path, os.O_PATH | flags & os.O_NOFOLLOW, RESOLVE_IN_ROOT)
    finally:
        os.close(root)
    try:
        status = os.fstat(found)
    finally:
        os.close(found)
    return status.st_dev, status.st_ino
