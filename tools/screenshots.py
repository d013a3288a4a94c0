# SPDX-License-Identifier: GPL-2.0-only
"""The pictures in docs/pictures: the report of a run of QEMU, in light and dark.

    python -m tools.screenshots

It needs chromium, qemu-system-x86_64, and pngquant, which makes them small. Look at them before you
commit them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from kvm_vfio.report.history import history
from kvm_vfio.report.page import page
from kvm_vfio.trace.jsonl import read_trace
from tests.browser.chromium import Chromium
from tests.support import need_chromium

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
_QEMU = (
    "qemu-system-x86_64 -accel kvm -S -nodefaults -display none -monitor stdio "
    "-device vfio-pci,host=0000:00:12.0 -device vfio-pci,host=0000:00:13.0"
)


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        command = [sys.executable, "-m", "kvm_vfio", "run", "-q", "--trace", f"{name}/trace.jsonl"]
        subprocess.run(
            [*command, "--", *_QEMU.split()],
            input=b"device_del no\nquit\n",
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (directory / "a.html").write_text(page(history(read_trace(directory / "trace.jsonl"))))
        with Chromium(need_chromium(), directory / "profile", width=1280, height=800) as browser:
            for scheme in ("light", "dark"):
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
