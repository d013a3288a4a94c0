# SPDX-License-Identifier: GPL-2.0-only
"""Programs to run, and `kvm-vfio run` to run them with."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import need_gcc, need_go, need_kvm

PROGRAMS = Path(__file__).parent / "programs"
Builder = Callable[[str], str]


@pytest.fixture(scope="session")
def build() -> Iterator[Builder]:
    """The path of a program made from `programs/NAME`, which anybody may run.

    Not below pytest's own directory, which every pytest that starts closes to others.
    """
    made: dict[str, str] = {}
    directory = Path(tempfile.mkdtemp(prefix="kvm-vfio-programs-"))
    directory.chmod(0o755)

    def compiled(name: str) -> str:
        if name not in made:
            source, output = PROGRAMS / name, directory / name.replace(".", "-")
            if source.suffix == ".go":
                need_go()
                command = ["go", "build", "-o", str(output), str(source)]
            else:
                need_gcc()
                command = ["gcc", "-Wall", "-Wextra", "-O1", "-static", "-pthread"]
                command += ["-o", str(output), str(source)]
            env = {**os.environ, "CGO_ENABLED": "0", "GOCACHE": str(directory / "go")}
            subprocess.run(command, check=True, env=env)
            made[name] = str(output)
        return made[name]

    yield compiled
    shutil.rmtree(directory)


@pytest.fixture(params=["host", "model"])
def kvm(request: pytest.FixtureRequest) -> str:
    """Both ways to have /dev/kvm, where the computer has one."""
    if request.param == "host":
        need_kvm()
    return str(request.param)
