# SPDX-License-Identifier: GPL-2.0-only
"""A trace: one line of JSON for each thing that happened, written as it happens.

Rule of this file: nothing is kept. A trace that cannot be written any more ends, and says so once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import msgspec


class Trace:
    """Lines on an open fd. `failure` is why the trace ended early, None while it goes on."""

    def __init__(self, fd: int) -> None:
        self.failure: str | None = None
        self._fd = fd
        self._start = time.monotonic()
        self._encode = msgspec.json.Encoder().encode

    def write(self, record: Mapping[str, object]) -> None:
        """One line: `time` in seconds since the trace began, then `record`."""
        if self.failure is not None:
            return
        stamp = round(time.monotonic() - self._start, 6)
        line = self._encode({"time": stamp, **record}) + b"\n"
        try:
            while line:
                line = line[os.write(self._fd, line) :]
        except OSError as error:
            self.failure = error.strerror or str(error)
