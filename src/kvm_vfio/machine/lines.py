# SPDX-License-Identifier: GPL-2.0-only
"""In which line of a TOML text each place begins: tomllib does not say.

Rule of this file: it understands files as people lay them out and nothing else. A place that it
does not find is missing, and whoever asks is told the line of the table around it.
"""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([a-z_.]+)\s*\]")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")
_QUOTES = re.compile(r'"{3}|\'{3}')


class Lines:
    """The places of one text, such as `iommu[0].group[2].number`, and their lines from 1."""

    def __init__(self, text: str) -> None:
        self._lines: dict[str, int] = {}
        self._lengths: dict[str, int] = {}  # of the arrays, so far
        self._table = self._array = ""
        quoting = False
        for number, line in enumerate(text.split("\n"), 1):
            if not quoting:
                self._learn(number, line)
            quoting ^= len(_QUOTES.findall(line)) % 2 == 1

    def of(self, place: str) -> int | None:
        """The line where `place` begins, else that of what it is in, None when nothing is known."""
        while place and place not in self._lines:
            place = place[: max(place.rfind("."), place.rfind("["), 0)]
        return self._lines.get(place)

    def _learn(self, number: int, line: str) -> None:
        if header := _HEADER.match(line):
            self._table = self._resolve(header[2].split("."), array=header[1] == "[[")
            self._lines.setdefault(self._table, number)
        elif key := _KEY.match(line):
            self._array = join(self._table, key[1])
            self._lines.setdefault(self._array, number)
        elif self._array and line.lstrip().startswith("{"):
            self._lines[self._append(self._array)] = number

    def _resolve(self, names: list[str], *, array: bool) -> str:
        """The place that a header names: an array on the way stands for its last element."""
        place = ""
        for name in names[:-1]:
            place = join(place, name)
            if place in self._lengths:
                place = f"{place}[{self._lengths[place] - 1}]"
        place = join(place, names[-1])
        return self._append(place) if array else place

    def _append(self, array: str) -> str:
        index = self._lengths.get(array, 0)
        self._lengths[array] = index + 1
        return f"{array}[{index}]"


def join(where: str, key: str) -> str:
    """The place of `key` in the table at `where`."""
    return f"{where}.{key}" if where else key
