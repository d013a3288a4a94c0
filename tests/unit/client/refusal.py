# SPDX-License-Identifier: GPL-2.0-only
"""What a call that must fail says."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest


def refusal(call: Callable[[], object]) -> OSError:
    """The error of a call that must fail."""
    try:
        result = call()
    except OSError as error:
        return error
    pytest.fail(f"the call was to be refused, and gave {result!r}")


def errno_of(call: Callable[[], object]) -> str:
    """The name of its errno."""
    return errno.errorcode[refusal(call).errno or 0]


def note_of(call: Callable[[], object]) -> str:
    """Its only note."""
    (note,) = refusal(call).__notes__
    return str(note)
