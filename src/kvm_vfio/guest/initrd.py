# SPDX-License-Identifier: GPL-2.0-only
"""What a guest starts from: the agent as /init, its plan, the modules, as a cpio archive.

Rule of this file: the archive is not compressed. Emulated, unpacking it would cost more than
reading it.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest import force
from kvm_vfio.guest.packages import GuestKernel, cache_directory

_COMPILE = ("gcc", "-static", "-O2", "-s", "-x", "c", "-")


def build(kernel: GuestKernel, plan: str) -> bytes:
    """The archive for this kernel."""
    names = [*kernel.modules, *([] if kernel.no_force else [force.FILE])]
    content = {f"modules/{name}": (kernel.directory / name).read_bytes() for name in names}
    return cpio({"init": agent().read_bytes(), "plan": plan.encode(), **content}, ["modules"])


def cpio(content: Mapping[str, bytes], directories: Iterable[str]) -> bytes:
    """A "newc" archive, which is what the kernel unpacks: directories, then executable files."""
    entries = [_entry(name, stat.S_IFDIR | 0o755, b"") for name in directories]
    entries += [_entry(name, stat.S_IFREG | 0o755, data) for name, data in content.items()]
    return b"".join([*entries, _entry("TRAILER!!!", 0, b"")])


def _entry(name: str, mode: int, data: bytes) -> bytes:
    text = name.encode() + b"\0"
    # inode, mode, uid, gid, links, mtime, size, device and rdevice, name's size, checksum
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
    header = b"070701" + b"".join(b"%08x" % number for number in numbers)
    return _padded(header + text) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def agent() -> Path:
    """The agent, compiled once into the cache. Unsupported without a compiler."""
    source = files("kvm_vfio.guest").joinpath("agent.c").read_bytes()
    name = sha256(b"\0".join([source, *map(str.encode, _COMPILE)])).hexdigest()[:16]
    built = cache_directory() / "agent" / name
    if not built.exists():
        built.parent.mkdir(parents=True, exist_ok=True)
        _compile(source, built)
    return built


def _compile(source: bytes, into: Path) -> None:
    if shutil.which(_COMPILE[0]) is None:
        raise Unsupported(
            "gcc is not here, and a guest's agent is compiled; "
            "as root: apt-get install gcc libc6-dev"
        )
    unfinished = into.with_suffix(f".{os.getpid()}")  # others may compile it too
    done = subprocess.run(
        [*_COMPILE, "-o", str(unfinished)], input=source, capture_output=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().splitlines()
        raise Unsupported(f"gcc could not compile the guest's agent: {reason[0] if reason else ''}")
    unfinished.replace(into)
