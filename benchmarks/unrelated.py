# SPDX-License-Identifier: GPL-2.0-only
"""(d) Programs that have nothing to do with VFIO: under the supervisor, and without.

Measured is processor time, the supervisor's included, which works while the program waits for it:
by the clock, a computer that does other things as well says more about those. A worker runs each
program. One worker is under the supervisor, another is not, so the supervisor's own start, once for
any number of programs, is not in these times (part e has it). A third worker is under the C
supervisor, which notifies two ioctls and nothing else: what seccomp itself costs a program of many
system calls.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.compile import COMPILE, SOURCES, program
from benchmarks.measure import Finding, Meter, compare, take_turns
from benchmarks.programs import Program, supervised

LIMIT = 1.05
WORKER = (sys.executable, "-I", str(Path(__file__).with_name("worker.py")))
IMPORTS = "import asyncio, decimal, email.message, http.client, json, logging, unittest, xml.dom"

CASES = {
    "find by name": "find /usr/share -xdev -name '*.h'",
    "find by size": "find /usr/share -xdev -size +1",
    "a Python that imports": f"{sys.executable} -I -c '{IMPORTS}'",
    "gcc compiles": f"{COMPILE[0]} -O2 -c -o /dev/null {SOURCES / 'caller.c'}",
}


def meter(worker: Program, command: str, supervisor: int | None = None) -> Meter:
    """`supervisor`: the process whose time counts too."""

    def once() -> float:
        before = on_cpu(supervisor)
        seconds = float(worker.ask(command)[0])
        return seconds + on_cpu(supervisor) - before

    return once


def on_cpu(pid: int | None) -> float:
    """Seconds that the main thread of `pid` has run."""
    if pid is None:
        return 0.0
    text = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii")
    return int(text.split()[0]) / 1e9


def findings(rounds: int) -> Iterator[Finding]:
    c_supervised = [program("supervisor"), *WORKER]
    with (
        Program(supervised(*WORKER)) as ours,
        Program(c_supervised) as filtered,
        Program(WORKER) as alone,
    ):
        ours.ask("true")  # so that it has a child
        supervisor = ours.child()
        for case, command in CASES.items():
            meters = {
                "ours": meter(ours, command, supervisor),
                "a two-ioctl filter": meter(filtered, command),
                "without": meter(alone, command),
            }
            samples = take_turns(rounds, meters)
            yield compare("d", case, samples, "ours", "without", LIMIT)
            yield compare("d", case, samples, "ours", "a two-ioctl filter")
