# SPDX-License-Identifier: GPL-2.0-only
"""An errno on its way to the caller.

Rule of this file: `KernelError` is not an `OSError`, so that an OSError in the model stays what it
is, a bug. The adapters turn it into -errno for a program and into `OSError` for Python.
"""

from __future__ import annotations

from typing import TYPE_CHECKING


class KernelError(Exception):
    """The kernel's answer is -`errno`; `why` is a clause for people: the rule that refused."""

    # Half of all calls a test makes are refused: no __init__ of ours, so that making one is cheap.
    if TYPE_CHECKING:

        def __init__(self, errno: int, why: str) -> None: ...

    @property
    def errno(self) -> int:
        """Which error."""
        errno: int = self.args[0]
        return errno

    @property
    def why(self) -> str:
        """Why, for people."""
        why: str = self.args[1]
        return why
