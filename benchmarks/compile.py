# SPDX-License-Identifier: GPL-2.0-only
"""The C programs of benchmarks/c, compiled when their text changes and kept in the cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from kvm_vfio.errors import Unsupported

SOURCES = Path(__file__).parent / "c"
COMPILE = ("gcc", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-static")


def program(name: str) -> str:
    """The path of benchmarks/c/NAME.c as a static program."""
    texts = b"".join(path.read_bytes() for path in sorted(SOURCES.iterdir()))
    version = hashlib.sha256(" ".join(COMPILE).encode() + texts).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = cache / "kvm-vfio" / "benchmarks" / version
    path = directory / name
    if path.exists():
        return str(path)
    if not shutil.which(COMPILE[0]):
        raise Unsupported("there is no gcc for benchmarks/c: apt-get install gcc libc6-dev")
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        made = Path(scratch, name)
        command = [*COMPILE, "-o", str(made), str(SOURCES / f"{name}.c")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            first = done.stderr.partition("\n")[0]
            raise Unsupported(
                f"benchmarks/c/{name}.c does not compile ({first}): apt-get install libc6-dev"
            )
        made.rename(path)
    return str(path)
