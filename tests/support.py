# SPDX-License-Identifier: GPL-2.0-only
"""What a test needs of the computer it runs on.

A need that is not met skips the test and says how to meet it. With CI=true it fails the test,
unless no Debian package could meet it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest import packages

# How a reason ends when no Debian package could have helped: the only skips that CI allows.
NOT_A_PACKAGE = "(no package provides this)"


def need_program(name: str, apt: str) -> str:
    """The path of program `name`, which Debian has in the packages `apt`."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is missing; as root: apt-get install {apt}")
    return path


def need_file(path: str, apt: str) -> Path:
    """The file `path`, which Debian has in the packages `apt`."""
    if not Path(path).exists():
        pytest.skip(f"{path} is missing; as root: apt-get install {apt}")
    return Path(path)


def need_kvm() -> None:
    """A /dev/kvm that opens for reading and writing."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        remedy = "run where KVM is, as root or in the group kvm"
        pytest.skip(f"/dev/kvm does not open: {error.strerror}; {remedy} {NOT_A_PACKAGE}")


def need_root() -> None:
    if os.geteuid() != 0:
        pytest.skip(f"only root can do this; run as root {NOT_A_PACKAGE}")


def need_qemu() -> None:
    need_program("qemu-system-x86_64", apt="qemu-system-x86")


def need_gcc() -> None:
    need_program("gcc", apt="gcc libc6-dev")
    need_file("/usr/include/stdio.h", apt="libc6-dev")


def need_guest_kernel(linux: str) -> packages.GuestKernel:
    """A real kernel that boots under QEMU, fetched if it is not there."""
    try:
        return packages.prepared(linux) or packages.prepare(linux, lambda _text: None)
    except Unsupported as error:
        pytest.skip(f"{error}; run: kvm-vfio guest prepare {linux}")


def need_go() -> None:
    need_program("go", apt="golang-go")


def find_chromium() -> str | None:
    """The path of a Chromium that runs without a display."""
    return shutil.which("chromium")


def need_chromium() -> str:
    return need_program("chromium", apt="chromium")


# A test says `@pytest.mark.qemu` and is not run without it.
NEEDS: dict[str, Callable[[], object]] = {
    "browser": need_chromium,
    "kvm": need_kvm,
    "qemu": need_qemu,
    "gcc": need_gcc,
    "golang": need_go,
    "root": need_root,
}
