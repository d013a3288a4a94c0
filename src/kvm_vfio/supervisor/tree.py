# SPDX-License-Identifier: GPL-2.0-only
"""A directory tree as a value: what the program's /dev and /sys are made from.

Rule of this file: values only.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True, slots=True)
class NodeOfDevice:
    """What looks like a device node and never opens by itself."""

    mode: int


@dataclass(frozen=True, slots=True)
class Blank:
    """An empty file that opens."""

    mode: int


class Directory(dict[str, "Node"]):
    """Names and what is there. `whole`: nothing of a directory that it covers shows through."""

    __slots__ = ("whole",)

    def __init__(self, entries: dict[str, Node] | None = None, *, whole: bool = False) -> None:
        super().__init__(entries or {})
        self.whole = whole

    def put(self, path: str, node: Node) -> None:
        """Add `node` at `path`, with the directories on the way."""
        *way, name = path.split("/")
        here = self
        for step in way:
            below = here.setdefault(step, Directory())
            if not isinstance(below, Directory):
                raise TypeError(f"{step} in {path} is no directory")
            here = below
        here[name] = node


Node = Directory | Link | NodeOfDevice | Blank | bytes  # bytes: a file's content
