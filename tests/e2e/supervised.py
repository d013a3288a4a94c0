# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio run`, from the outside, and what it must leave as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

COMMAND = (sys.executable, "-m", "kvm_vfio", "run")
TIMEOUT = 120
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def supervised(
    *arguments: str, prefix: Sequence[str] = (), stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = subprocess.run(
        [*prefix, *COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        input=stdin,
        check=False,
    )
    print(done.stdout, done.stderr)  # pytest shows it when a test fails
    return done


def steps(output: str) -> dict[str, str]:
    """What a program of ours printed: "name: answer" a line. A name may come again."""
    lines = [line.rpartition(": ") for line in output.splitlines()]
    assert all(colon for _, colon, _ in lines), output
    return {name: answer for name, _, answer in lines}


def processes(marker: str) -> list[int]:
    """The processes that have `marker` in their environment."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environment = Path("/proc", pid, "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in environment:
            found.append(int(pid))
    return found


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether `condition` becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
