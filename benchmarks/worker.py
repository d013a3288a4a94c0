# SPDX-License-Identifier: GPL-2.0-only
"""Run each command line of standard input and print the seconds it took."""

import shlex
import subprocess
import sys
import time

for line in sys.stdin:
    command = shlex.split(line)
    start = time.perf_counter()
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    print(time.perf_counter() - start, flush=True)
