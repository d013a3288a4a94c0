# SPDX-License-Identifier: GPL-2.0-only
"""Record what the programs say on real kernels: python -m tools.programs [NAME...].

Every kernel is a guest under QEMU (`kvm-vfio guest prepare`), every run a process of its own there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from kvm_vfio.guest.guest import Guest
from kvm_vfio.guest.packages import kernel
from tools.programs import DEVICES, KERNELS, NAMES, build, record
from tools.programs.guest import run_in


def main() -> None:
    """Boot every kernel once."""
    parser = argparse.ArgumentParser(prog="python -m tools.programs", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*")
    names = parser.parse_args().names or NAMES
    said: dict[tuple[str, str], dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as directory:
        programs = {name: build(name, Path(directory)) for name in names}
        for linux in KERNELS:
            with Guest(kernel(linux), snoop=False) as booting:
                guest = booting.ready()
                for name, program in programs.items():
                    for device in DEVICES:
                        answers = said.setdefault((name, device), {})
                        answers[linux] = run_in(guest, program, device)
    for (name, device), answers in said.items():
        record(name, device, answers)


if __name__ == "__main__":
    main()
