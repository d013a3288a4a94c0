# SPDX-License-Identifier: GPL-2.0-only
"""(a) One intercepted ioctl: ours, a C supervisor's, ptrace's, and the real device's.

The caller is one and the same static program under all of them. The C supervisors make the system
calls that we make and have a toy for a model, so the ratio is what Python and a real model cost.

ptrace has two speeds. It is quick while tracer and program share a CPU, and slow when every call
wakes another CPU. Which, the scheduler decides, and stays with it; a third row has them parted. We
and the C supervisor ask for synchronous wake-ups, and so share a CPU.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.compile import program
from benchmarks.measure import Finding, Meter, compare, take_turns
from benchmarks.programs import Program, supervised
from kvm_vfio.errors import KvmVfioError

C, PTRACE, PARTED, REAL = (
    "C supervisor",
    "ptrace, C",
    "ptrace, C, on 2 CPUs",
    "the real ioctl",
)
BATCHES = 10  # of 100 calls, in one turn

# What the caller does, the errno of its last call, that on the real device (where its group is
# /dev/null), and the limits against the C supervisor and against ptrace.
CASES = (
    ("HAS_ATTR", "has", 0, 0, None, None),
    ("SET_ATTR, ADD again", "add", errno.EEXIST, errno.EINVAL, 1.5, 0.25),
    ("SET_ATTR, ADD and DEL", "cycle", 0, errno.ENOENT, 1.5, 0.25),
)


def meter(caller: Program, operation: str, expected: int) -> Meter:
    def once() -> float:
        nanoseconds, answer = caller.ask(f"{operation} {BATCHES}")
        if int(answer) != expected:
            raise KvmVfioError(
                f"`{caller.command}` answers {operation} with errno {answer}, not {expected}"
            )
        return float(nanoseconds) / 1e9

    return once


def findings(rounds: int, group: str, *, kvm: bool) -> Iterator[Finding]:
    """`group` is the path of a VFIO group of the machine; `kvm`: /dev/kvm opens."""
    caller = program("caller")
    commands = {
        "ours": supervised(caller, "vfio", group),
        C: [program("supervisor"), caller, "files"],
        PTRACE: [program("ptrace"), caller, "files"],
        PARTED: [program("ptrace"), caller, "files"],
        REAL: [caller, "kvm"],
    }
    if not kvm:
        del commands[REAL]
    with ExitStack() as stack:
        callers = {
            name: stack.enter_context(Program(command)) for name, command in commands.items()
        }
        callers[PARTED].ask("has 1")
        if not callers[PARTED].part():
            del callers[PARTED]
        for case, operation, expected, expected_real, limit_c, limit_ptrace in CASES:
            answers = {REAL: expected_real}
            meters = {
                name: meter(each, operation, answers.get(name, expected))
                for name, each in callers.items()
            }
            samples = take_turns(rounds, meters)
            limits = {C: limit_c, PTRACE: limit_ptrace}
            for other in list(callers)[1:]:
                yield compare("a", case, samples, "ours", other, limits.get(other))
