# SPDX-License-Identifier: GPL-2.0-only
"""The pictures in docs/pictures: the report of a VMM with mistakes in light, of QEMU in dark.

    python -m tools.screenshots

It needs chromium, qemu-system-x86_64, and pngquant, which makes them small. Look at them before you
commit them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kvm_vfio.report.course import course
from kvm_vfio.report.page import page
from kvm_vfio.trace.jsonl import read_trace
from tests.browser.chromium import Chromium
from tests.support import need_chromium

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
_VMM = """
from kvm_vfio import Container, Group, HostSyscalls, Kvm

linux = HostSyscalls()
device = Kvm(linux).create_vm().create_kvm_vfio()
container, groups = Container(linux), [Group(linux, number) for number in (1, 2, 3)]
device.add(groups[0])
for group in groups:
    group.set_container(container)
container.set_iommu()
device.add(groups[1])
try:
    device.add(groups[1])
except FileExistsError:
    pass
groups[2].device("0000:00:12.0")
device.close()
"""
_QEMU = (
    "qemu-system-x86_64 -accel kvm -S -nodefaults -display none -monitor stdio "
    "-device vfio-pci,host=0000:00:12.0"
)


def traced(directory: Path, *command: str) -> str:
    """The page of a run of `command`."""
    run = [sys.executable, "-m", "kvm_vfio", "run", "-q", "--trace", "trace.jsonl", *command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        run,
        input=b"quit\n",
        check=True,
        cwd=directory,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
    )
    return page(course(read_trace(directory / "trace.jsonl")))


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "vmm.py").write_text(_VMM)
        mistakes = ("--linux", "6.1", "--snoop", "on", "--kvm", "model", "--", "python", "vmm.py")
        runs = {"light": mistakes, "dark": ("--", *_QEMU.split())}
        with Chromium(need_chromium(), directory / "profile", width=1280, height=800) as browser:
            for scheme, run in runs.items():
                (directory / "a.html").write_text(traced(directory, *run))
                browser.prefer(scheme)
                browser.open(f"file://{name}/a.html")
                browser.run("new Promise((done) => setTimeout(done, 300))")
                picture = PICTURES / f"report-{scheme}.png"
                browser.screenshot(picture)
                subprocess.run(
                    ["pngquant", "--force", "--output", picture, "64", picture], check=True
                )


if __name__ == "__main__":
    main()
