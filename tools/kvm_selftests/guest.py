# SPDX-License-Identifier: GPL-2.0-only
"""Programs on a real kernel: one boot, an exit status each.

Rule of this file: the guest is QEMU's, with KVM inside (SVM under TCG), and has nothing but the
modules, the programs and `init.c`.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest.initrd import cpio
from kvm_vfio.guest.packages import kernel

_INIT = Path(__file__).parent / "init.c"
_SECONDS = 600
_VERDICT = re.compile(r"^verdict (\S+) (\d+)\r?$", re.MULTILINE)
_APPEND = "console=ttyS0 quiet panic=-1 oops=panic debugfs=off no_timer_check"


def verdicts(linux: str, programs: Mapping[str, Path]) -> dict[str, int]:
    """The exit status of each program on this kernel. InputError; Unsupported."""
    guest = kernel(linux)
    modules = {
        f"modules/{number:02} {name}": (guest.directory / name).read_bytes()
        for number, name in enumerate(guest.modules)
    }
    tests = {f"tests/{name}": path.read_bytes() for name, path in programs.items()}
    with tempfile.TemporaryDirectory() as scratch:
        init, archive = Path(scratch, "init"), Path(scratch, "initrd")
        subprocess.run(["gcc", "-static", "-O2", "-o", init, _INIT], check=True)
        content = {"init": init.read_bytes(), **modules, **tests}
        archive.write_bytes(cpio(content, ["modules", "tests"]))
        console = _console(guest.image, archive)
    if "verdicts are all here" not in console:
        raise Unsupported(f"Linux {linux} did not get to the end: {console[-500:]}")
    return {name: int(status) for name, status in _VERDICT.findall(console)}


def _console(image: Path, archive: Path) -> str:
    command = [
        *("qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-cpu", "max", "-smp", "1"),
        *("-m", "1024", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-serial", "stdio", "-kernel", str(image), "-initrd", str(archive), "-append", _APPEND),
    ]
    done = subprocess.run(command, capture_output=True, timeout=_SECONDS, check=False)
    return done.stdout.decode(errors="replace")
