# SPDX-License-Identifier: GPL-2.0-only
"""What a test program of the kernel's says, on a real kernel and under `kvm-vfio run`.

Rule of this file: a verdict is a line of TAP; what else is printed has addresses and times in it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from kvm_vfio.guest.process import GuestSyscalls
from kvm_vfio.guest.program import run_program

DEVICES = ("0000:00:10.0", "0000:00:11.0", "0000:00:13.0", "0000:00:14.0")
_SECONDS = 120
_LINE = re.compile(r"(ok|not ok) \d+ (\S+)( # SKIP)?")


def verdicts(output: str) -> Mapping[str, str]:
    """By test case: pass, fail or skip."""
    found = (match for line in output.splitlines() if (match := _LINE.match(line)))
    words = {"ok": "pass", "not ok": "fail"}
    return {match[2]: "skip" if match[3] else words[match[1]] for match in found}


def on_guest(process: GuestSyscalls, program: Path, device: str) -> Mapping[str, str]:
    """On the real kernel."""
    words = [program.name, device]
    ended = run_program(process, program.read_bytes(), words, seconds=_SECONDS)
    return verdicts(ended.output.decode(errors="replace"))


def under_run(linux: str, program: Path, device: str) -> Mapping[str, str]:
    """On the described machine of the recordings."""
    options = ["--machine", "referee", "--linux", linux, "--kvm", "model", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-m", "kvm_vfio", "run", *options, str(program), device],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=False,
    )
    return verdicts(done.stdout.decode(errors="replace"))
