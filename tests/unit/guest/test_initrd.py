# SPDX-License-Identifier: GPL-2.0-only
"""The archive a guest starts from."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest import initrd
from kvm_vfio.guest.packages import GuestKernel
from tests.support import need_program


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Name -> mode and content, as the kernel's unpacker reads a "newc" archive."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at += 110 + name_size + -(110 + name_size) % 4
        if name == "TRAILER!!!":
            assert at == len(archive)
            return found
        found[name] = (mode, archive[at : at + size])
        at += size + -size % 4


def test_the_archive_has_what_was_put_into_it() -> None:
    archive = initrd.cpio({"init": b"agent", "d/x": b"", "d/odd": b"12345"}, ["d"])
    assert entries(archive) == {
        "d": (stat.S_IFDIR | 0o755, b""),
        "init": (stat.S_IFREG | 0o755, b"agent"),
        "d/x": (stat.S_IFREG | 0o755, b""),
        "d/odd": (stat.S_IFREG | 0o755, b"12345"),
    }


@pytest.mark.gcc
def test_a_guest_gets_the_agent_its_plan_and_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "kvm.ko").write_bytes(b"module")
    kernel = GuestKernel("6.1", "6.1.0", (), ("kvm.ko",), tmp_path, no_force="no headers")
    found = entries(initrd.build(kernel, "channel 1 2 3\n"))
    assert found["plan"][1] == b"channel 1 2 3\n"
    assert found["modules/kvm.ko"][1] == b"module"
    assert found["init"][1].startswith(b"\x7fELF")


@pytest.mark.gcc
def test_the_agent_is_compiled_once_and_warns_of_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(initrd, "_COMPILE", (*initrd._COMPILE, "-Wall", "-Wextra", "-Werror"))
    built = initrd.agent()
    made = built.stat().st_mtime_ns
    assert initrd.agent() == built
    assert built.stat().st_mtime_ns == made


def test_without_a_compiler_the_remedy_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match=r"as root: apt-get install gcc libc6-dev$"):
        initrd.agent()


def test_a_compiler_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_program("sh", apt="dash")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(initrd, "_COMPILE", ("sh", "-c", "echo no libc >&2; exit 1"))
    with pytest.raises(Unsupported, match=r"could not compile the guest's agent: no libc$"):
        initrd.agent()
