# SPDX-License-Identifier: GPL-2.0-only
"""An ioctl interface is a table: one row per request.

Rule of this file: it knows kinds of rows and no request in particular. A handler checks and copies
for itself, since Linux's checks interleave with its reads and the order shows. What a row says
about its argument and its support is for the tests, which try every row, and for the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from kvm_vfio.errors import NotModelled
from kvm_vfio.uapi.layout import Request

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task

_ARGSZ_AND_FLAGS = 8  # bytes that every structure with an argsz begins with

Handler = Callable[[Any, Any, int], int]
"""(file, task, arg) -> a result that is not negative; raises KernelError for -errno."""


class Argument(Enum):
    """What the third argument of an ioctl is."""

    VALUE = "a number, or nothing; never an address"
    FIXED = "the address of a structure of fixed size"
    COUNTED = "the address of a count, and of as many elements after it"
    ARGSZ = "the address of a structure that begins with its own size: too small is EINVAL"
    STRING = "the address of a string"


class Support(Enum):
    """How far the model goes."""

    FULL = "as Linux, in every observable respect known"
    PARTIAL = "as Linux, but for what the note says"
    NONE = "not modelled: reported by name"


class Row(NamedTuple):
    """One request of one kind of file.

    `errnos` is what it can refuse with in any kernel, in the order in which the checks stand; where
    kernels differ in the order, in the newest one's. What the file itself refuses before it looks
    for a row (`File.ioctl_errnos`) is not among them.
    """

    request: Request
    handler: Handler
    argument: Argument
    support: Support = Support.FULL
    note: str = ""
    errnos: tuple[int, ...] = ()


def not_modelled(request: Request, argument: Argument, note: str = "") -> Row:
    """The row of a request that Linux has and the model has not."""

    def refuse(file: object, task: Task, arg: int) -> int:
        if argument is Argument.ARGSZ:
            task.copy_from_user(arg, _ARGSZ_AND_FLAGS)
        raise NotModelled(f"{request.name} is not modelled{': ' if note else ''}{note}")

    return Row(request, refuse, argument, Support.NONE, note)


class IoctlTable:
    """The requests one kind of file knows. `handlers` is for dispatch: plain number -> handler."""

    __slots__ = ("by_number", "handlers", "rows")

    def __init__(self, *rows: Row) -> None:
        self.rows = rows
        self.by_number = {int(row.request): row for row in rows}
        self.handlers: dict[int, Handler] = {int(row.request): row.handler for row in rows}
        if len(self.handlers) != len(rows):
            raise TypeError("a request stands in the table twice")

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)
