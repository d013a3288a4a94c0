# SPDX-License-Identifier: GPL-2.0-only
"""An errno on its way to the caller.

Rule of this file: `KernelError` is not an `OSError`, so that an OSError in the model stays what it
is, a bug. The adapters turn it into -errno for a program and into `OSError` for Python.
"""

from __future__ import annotations


class KernelError(Exception):
    """The kernel's answer is -`errno`; `why` is a clause for people: the rule that refused."""

    def __init__(self, errno: int, why: str) -> None:
        super().__init__(errno, why)
        self.errno = errno
        self.why = why
