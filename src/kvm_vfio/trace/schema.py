# SPDX-License-Identifier: GPL-2.0-only
"""The records of a trace, version 1: see docs/trace.md.

Rule of this file: it says what a record is and does nothing with one. Within a version, a field
with a default, a kind of record or a decision may come, and nothing goes: whoever reads skips what
it does not know. Times are nanoseconds since the trace began.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from kvm_vfio.machine.model import Machine

VERSION = 1

Answer = int | str
"""What a call returned: a number that is not negative, the name of an errno, or CONTINUED."""

CONTINUED = "continue"  # not ours: the computer's own kernel answered


class Object(Struct, frozen=True, gc=False):
    """A file that a call found or made: `file` tells files apart, 0 for one that is not ours.

    `what` names the object behind it: "kvm", "vm 1", "kvm-vfio 1", "container 1", "group 26",
    "device 0000:00:10.0"; for other files what people call them; "" for a number that was free.
    """

    fd: int
    file: int
    what: str


class Header(Struct, tag="trace", tag_field="is", omit_defaults=True, gc=False):
    """The first record: which program, on which machine, answered as which kernel answers.

    `began` is the wall clock then, in nanoseconds since 1970. `kvm` is "host", "model" or "python".
    """

    version: int
    by: str  # what wrote it, with its version
    began: int
    linux: str  # the profile
    kvm: str
    machine: Machine
    program: tuple[str, ...] = ()


class Task(Struct, tag="task", tag_field="is", omit_defaults=True, gc=False):
    """Who is `tid`, from here on: before its first call, and again after exec."""

    at: int
    tid: int
    pid: int
    comm: str


class Call(Struct, tag="call", tag_field="is", omit_defaults=True, gc=False):
    """One system call, when it has its answer.

    `n` counts calls and closes together. `at` is when it came, `took` how long the answer took.
    `call` is the request's name for an ioctl, else the system call's. `on` is the object behind
    `fd`, `file` its number. `args` are the argument's fields as the kernel read them, or `arg`,
    `path`, `words`. `out` are the fields of the structure as the kernel wrote it back.
    """

    n: int
    at: int
    took: int
    tid: int
    call: str
    answer: Answer
    fd: int | None = None
    file: int = 0
    on: str = ""
    args: Any = None
    out: Any = None
    looked_up: tuple[Object, ...] = ()  # fds that the argument named
    made: tuple[Object, ...] = ()
    why: str = ""  # why it failed, as a clause
    fault: str = ""  # the specification of the fault that was injected
    modelled: bool = True  # False: Linux has an answer, and kvm-vfio does not know it


class Close(Struct, tag="close", tag_field="is", omit_defaults=True, gc=False):
    """No program has `file` open any more. `by` is who had it when an exit or a kill closed it."""

    n: int
    at: int
    file: int
    what: str
    cause: Literal["close", "exit", "kill"]
    by: str = ""


class Reason(Struct, omit_defaults=True, gc=False):
    """One link of why DMA is noncoherent: the member, and where the answer comes from.

    `because` is the clause that says it.
    """

    member: str
    because: str
    container: str = ""
    domain: str = ""
    iommu: str = ""


class Domain(Struct, omit_defaults=True, gc=False):
    """Groups of one container that translate through one page table."""

    what: str
    groups: tuple[int, ...]
    iommus: tuple[str, ...]
    coherent: bool


Did = Literal[
    "vm made",
    "vm destroyed",
    "device made",
    "device released",
    "device destroyed",
    "taken",
    "dropped",
    "leaked",
    "coherency",
    "noncoherent",
    "stale",
    "fresh",
    "attached",
    "detached",
    "iommu set",
    "machine changed",
    "interrupt",
]


class Decision(Struct, tag="decision", tag_field="is", omit_defaults=True, gc=False):
    """What the kernel did because of call or close `n`, whose record comes before.

    Which fields it has: the table in docs/trace.md.
    """

    n: int
    did: str  # one of `Did`
    vm: int = 0
    device: str = ""
    member: str = ""
    file: int = 0
    group: int | None = None
    container: str = ""
    coherent: bool | None = None
    on: bool | None = None
    count: int | None = None
    reasons: tuple[Reason, ...] = ()
    domains: tuple[Domain, ...] = ()
    because: str = ""


class End(Struct, tag="end", tag_field="is", omit_defaults=True, gc=False):
    """The last record of a trace that is whole: `status` is the program's exit status."""

    at: int
    status: int | None = None


Record = Header | Task | Call | Close | Decision | End
