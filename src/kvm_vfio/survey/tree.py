# SPDX-License-Identifier: GPL-2.0-only
"""A directory that stands for /, read as one reads /sys and /proc: carefully.

Rule of this file: nothing waits, nothing grows, nothing fails. What cannot be read is None or
empty; a file is read to a bound, and only if it is a regular one; a name that is not printable is
made so before anybody sees it.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from itertools import islice
from pathlib import Path

_MOST_BYTES = 1 << 20  # /proc/interrupts of a thousand processors
_MOST_NAMES = 1 << 16
_LONGEST_NAME = 64
_HOW = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class Tree:
    """The files below `root`, which is / or the recording of one."""

    def __init__(self, root: Path) -> None:
        self._root = os.fspath(root)

    def path(self, name: str) -> str:
        """Where `name` ("sys/class/iommu") is."""
        return os.path.join(self._root, name)

    def bytes(self, name: str) -> bytes | None:
        """The first MiB of a regular file."""
        with suppress(OSError):
            fd = os.open(self.path(name), _HOW)
            try:
                if stat.S_ISREG(os.fstat(fd).st_mode):
                    return _all_of(fd)
            finally:
                os.close(fd)
        return None

    def text(self, name: str) -> str | None:
        """The same as text, without the last line's end."""
        data = self.bytes(name)
        return None if data is None else data.decode(errors="replace").rstrip("\n")

    def word(self, name: str) -> str | None:
        """The one printable line that a file of /sys is."""
        text = self.text(name)
        return None if text is None else printable(text.strip())

    def number(self, name: str, base: int = 16) -> int | None:
        """A file that is a number; hexadecimal with or without 0x."""
        with suppress(ValueError):
            return int(self.word(name) or "", base)
        return None

    def names(self, name: str) -> list[str]:
        """What is in a directory, sorted as people count."""
        found: list[str] = []
        with suppress(OSError), os.scandir(self.path(name)) as entries:
            found = [entry.name for entry in islice(entries, _MOST_NAMES)]
        return sorted(found, key=lambda n: (len(n), n) if n.isdecimal() else (0, n))

    def target(self, name: str) -> str | None:
        """The last part of where a symbolic link points."""
        with suppress(OSError):
            return printable(os.path.basename(os.readlink(self.path(name))))
        return None

    def has(self, name: str) -> bool:
        """Whether there is anything of this name."""
        return os.path.lexists(self.path(name))


def _all_of(fd: int) -> bytes:
    """sysfs gives a page at a time, /proc less."""
    data = b""
    while len(data) < _MOST_BYTES and (more := os.read(fd, _MOST_BYTES - len(data))):
        data += more
    return data


def printable(name: str) -> str:
    """`name` fit for a terminal: short, with ? for what does not print."""
    return "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])
