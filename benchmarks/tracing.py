# SPDX-License-Identifier: GPL-2.0-only
"""(f) What a trace costs: the same intercepted ioctl with --trace and without, and its memory.

The caller and its operations are those of (a). The supervisor's memory is what it has of its own
(VmRSS), before and after a million traced calls.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.compile import program
from benchmarks.intercept import CASES, meter
from benchmarks.measure import Finding, compare, take_turns
from benchmarks.programs import Program, supervised
from kvm_vfio.errors import KvmVfioError

ON, OFF = "with a trace", "without a trace"
LIMIT = 1.3
MANY = 1_000_000  # calls
MOST = 50 << 20  # bytes
BATCHES = 1000  # of 100 calls: what one line asks for


def memory(pid: int) -> int:
    """Bytes of memory that process `pid` has now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise KvmVfioError(f"process {pid} is gone")
    return int(found[1]) << 10


def growth(traced: Program) -> str:
    """How much the supervisor has grown after a million calls."""
    traced.ask("cycle 1")
    before = memory(traced.child())
    for _ in range(MANY // (BATCHES * 100)):
        traced.ask(f"cycle {BATCHES}")
    grown = memory(traced.child()) - before
    verdict = "ok" if grown < MOST else "over"
    return (
        f"(f) {MANY:,} traced calls: the supervisor grows by {grown / 2**20:.1f} MB,"
        f" limit {MOST >> 20} MB: {verdict}"
    )


def findings(rounds: int, group: str) -> Iterator[Finding]:
    """`group` is the path of a VFIO group of the machine."""
    caller = program("caller")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        trace = f"--trace={directory}/trace"
        traced = stack.enter_context(Program(supervised(caller, "vfio", group, options=(trace,))))
        plain = stack.enter_context(Program(supervised(caller, "vfio", group)))
        for case, operation, expected, *_ in CASES:
            meters = {
                ON: meter(traced, operation, expected),
                OFF: meter(plain, operation, expected),
            }
            samples = take_turns(rounds, meters)
            yield compare("f", case, samples, ON, OFF, LIMIT)
        yield growth(traced)
