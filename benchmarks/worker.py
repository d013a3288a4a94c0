# SPDX-License-Identifier: GPL-2.0-only
"""Run each command line of standard input and print the processor time it took, in seconds."""

import resource
import shlex
import subprocess
import sys


def used() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


for line in sys.stdin:
    command = shlex.split(line)
    before = used()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    print(used() - before, flush=True)
