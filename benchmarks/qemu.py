# SPDX-License-Identifier: GPL-2.0-only
"""(e) QEMU, from its start to its answer to QMP's query-status.

With a device under us, against without any device and without us. The first has the start of Python
and of the supervisor in it, which `true` shows by itself.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence

from benchmarks.measure import Finding, compare, take_turns
from benchmarks.programs import supervised
from kvm_vfio.errors import KvmVfioError, Unsupported

QEMU = "qemu-system-x86_64"
BARE = (QEMU, "-accel", "kvm", "-S", "-nodefaults", "-display", "none", "-qmp", "stdio")


def start(command: Sequence[str]) -> float:
    """Seconds until a QEMU with QMP on its standard input and output says that it is there."""
    begin = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as qemu:
        assert qemu.stdin
        assert qemu.stdout
        greeting = qemu.stdout.readline()
        if "QMP" not in greeting:
            raise KvmVfioError(f"`{' '.join(command)}` ended with status {qemu.wait()}")
        for request in ("qmp_capabilities", "query-status"):
            qemu.stdin.write(json.dumps({"execute": request}) + "\n")
            answer = json.loads(qemu.stdout.readline())
            if "return" not in answer:
                raise KvmVfioError(f"QEMU answers {request} with {answer}")
        seconds = time.perf_counter() - begin
        qemu.communicate(json.dumps({"execute": "quit"}) + "\n")
    return seconds


def end(command: Sequence[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - begin


def findings(rounds: int, device: str, *, kvm: bool) -> Iterator[Finding]:
    """`device` is the address of a PCI device of the machine; `kvm`: /dev/kvm opens."""
    alone = {"ours": lambda: end(supervised("true")), "without": lambda: end(["true"])}
    yield compare("e", "true, start to end", take_turns(rounds, alone), "ours", "without")
    if not kvm:
        raise Unsupported("QEMU makes a KVM-VFIO device only with KVM, and /dev/kvm does not open")
    if not shutil.which(QEMU):
        raise Unsupported(f"there is no {QEMU}: apt-get install qemu-system-x86")
    with_device = supervised(*BARE, "-device", f"vfio-pci,host={device}")
    qemus = {"ours": lambda: start(with_device), "without": lambda: start(BARE)}
    yield compare("e", "QEMU, start to monitor", take_turns(rounds, qemus), "ours", "without")
