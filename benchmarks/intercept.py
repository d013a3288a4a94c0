# SPDX-License-Identifier: GPL-2.0-only
"""(a) One intercepted ioctl: ours, a C supervisor's, ptrace's, and the real device's.

The caller is one and the same static program under all of them. The C supervisors make the system
calls that we make and have a toy for a model, so the ratio is what Python and a real model cost.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack

from benchmarks.compile import program
from benchmarks.measure import Finding, Idleness, Meter, compare, take_turns
from benchmarks.programs import Program, supervised
from kvm_vfio.errors import KvmVfioError

C, PTRACE, REAL = "C supervisor", "ptrace, C", "the real ioctl"
BURST = PTRACE + ", in bursts"

# ptrace has two speeds. When both sides have just slept they often share a CPU, and it is fast for
# a few thousand calls; then the scheduler parts them, as long as another CPU is idle, and every
# call wakes that one. The limit is about the second speed, which the median of many batches of 100
# calls shows.
SHORT, LASTING = 10, 200
FREE = 0.5  # so many CPUs must be idle meanwhile

# What the caller does, the errno of its last call, that on the real device (where its group is
# /dev/null), and the limits against the C supervisor and against ptrace.
CASES = (
    ("HAS_ATTR", "has", 0, 0, None, None),
    ("SET_ATTR, ADD again", "add", errno.EEXIST, errno.EINVAL, 1.5, 0.25),
    ("SET_ATTR, ADD and DEL", "cycle", 0, errno.ENOENT, 1.5, 0.25),
)


def meter(caller: Program, operation: str, expected: int, batches: int = SHORT) -> Meter:
    def once() -> float:
        nanoseconds, answer = caller.ask(f"{operation} {batches}")
        if int(answer) != expected:
            raise KvmVfioError(
                f"`{caller.command}` answers {operation} with errno {answer}, not {expected}"
            )
        return float(nanoseconds) / 1e9

    return once


def findings(rounds: int, group: str, *, kvm: bool) -> Iterator[Finding]:
    """`group` is the path of a VFIO group of the machine; `kvm`: /dev/kvm opens."""
    caller = program("caller")
    with ExitStack() as stack:
        ours = stack.enter_context(Program(supervised(caller, "vfio", group)))
        fast = stack.enter_context(Program([program("supervisor"), caller, "files"]))
        slow = stack.enter_context(Program([program("ptrace"), caller, "files"]))
        real = stack.enter_context(Program([caller, "kvm"])) if kvm else None
        for case, operation, expected, expected_real, limit_c, limit_ptrace in CASES:
            meters = {
                "ours": meter(ours, operation, expected),
                C: meter(fast, operation, expected),
                BURST: meter(slow, operation, expected),
            }
            if real:
                meters[REAL] = meter(real, operation, expected_real)
            samples = take_turns(rounds, meters)
            yield compare("a", case, samples, "ours", C, limit_c)
            if real:
                yield compare("a", case, samples, "ours", REAL)
            yield compare("a", case, samples, "ours", BURST)
            lasting = {
                "ours": meter(ours, operation, expected, LASTING),
                PTRACE: meter(slow, operation, expected, LASTING),
            }
            idleness = Idleness()
            samples = take_turns(max(rounds // 10, 2), lasting)
            idle = idleness.cpus()
            limit = limit_ptrace if idle > FREE else None
            yield compare("a", case, samples, "ours", PTRACE, limit)
            if limit != limit_ptrace:
                yield (
                    f"(a) {case}: not judged against ptrace, which stays at its first speed"
                    f" where no CPU is idle: other programs left {idle:.1f}"
                )
