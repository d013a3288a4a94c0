# SPDX-License-Identifier: GPL-2.0-only
"""Small VFIO programs, and every word that they said on real kernels.

Rule of this file: names and places; who runs the programs is elsewhere.

A recording is `tests/data/programs/PROGRAM-DEVICE/KERNELS.out`, where KERNELS are all that said the
same, with commas between them. Its last line is the exit status.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "e2e" / "programs" / "vfio"
RECORDED = ROOT / "tests" / "data" / "programs"
NAMES = tuple(sorted(source.stem for source in SOURCES.glob("*.c")))
DEVICES = ("0000:00:10.0", "0000:00:11.0", "0000:00:13.0", "0000:00:14.0")
KERNELS = ("5.10", "6.1", "6.12", "6.18", "7.3")


def build(name: str, into: Path) -> Path:
    """The program, which needs no library."""
    program = into / name
    source = SOURCES / f"{name}.c"
    command = ["gcc", "-Wall", "-Wextra", "-Wno-unused-result", "-O1", "-static", "-pthread"]
    subprocess.run([*command, "-o", str(program), str(source)], check=True)
    return program


def transcript(output: bytes, status: int) -> str:
    """What a recording is made of."""
    return f"{output.decode()}status {status}\n"


def recorded(name: str, device: str, kernel: str) -> str:
    """What the program said of the device on that kernel. KeyError."""
    for file in _directory(name, device).glob("*.out"):
        if kernel in file.stem.split(","):
            return file.read_text(encoding="utf-8")
    raise KeyError(f"{name} {device} {kernel}")


def record(name: str, device: str, said: Mapping[str, str]) -> None:
    """Keep what the program said of the device, by kernel."""
    directory = _directory(name, device)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for text in dict.fromkeys(said.values()):
        kernels = _who_said(text, said)
        (directory / f"{','.join(kernels)}.out").write_text(text, encoding="utf-8")


def _who_said(text: str, said: Mapping[str, str]) -> Iterable[str]:
    return [kernel for kernel, each in said.items() if each == text]


def _directory(name: str, device: str) -> Path:
    return RECORDED / f"{name}-{device.removeprefix('0000:')}"
