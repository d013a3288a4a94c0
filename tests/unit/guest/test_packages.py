# SPDX-License-Identifier: GPL-2.0-only
"""Which packages are fetched from where, with a pretended apt."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from kvm_vfio.errors import InputError, Unsupported
from kvm_vfio.guest import packages
from kvm_vfio.guest.packages import _mirror, _newest, _source

ARCHIVE, SECURITY = "http://mirror.example/debian/", "http://mirror.example/debian-security/"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "kvm-vfio"


def pretend_apt(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """An apt-get that prints `text`, and the other programs, which do nothing."""
    for name in ("apt-get", "apt-cache", "dpkg-deb"):
        program = directory / name
        program.write_text(f"#!/bin/sh\nprintf '%s' '{text}'\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("version", "names", "newest"),
    [
        (
            "6.1",
            ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-10-amd64", "linux-image-6.12.1-amd64"],
            "6.1.0-10-amd64",
        ),
        (
            "6.12",
            [
                "linux-image-6.12.9+deb13-amd64",
                "linux-image-6.12.10+deb13-amd64",
                "linux-image-6.12.11+deb13-cloud-amd64",
                "linux-image-6.12.12+deb13-amd64-unsigned",
                "linux-image-6.12.12+deb13-rt-amd64",
                "linux-image-6.12-amd64",
            ],
            "6.12.10+deb13-amd64",
        ),
        (
            "6.18",
            ["linux-image-6.18.5+deb13-amd64", "linux-image-6.18.5+deb13.1-amd64"],
            "6.18.5+deb13.1-amd64",
        ),
    ],
)
def test_the_newest_plain_kernel_is_taken(version: str, names: list[str], newest: str) -> None:
    assert _newest(version, names) == newest


def test_a_kernel_that_debian_dropped_is_named() -> None:
    with pytest.raises(Unsupported, match=r"trixie-backports has no Linux 7\.3 any more"):
        _newest("7.3", ["linux-image-7.4.1+deb13-amd64"])


def test_an_unknown_version_is_the_users(cache: Path) -> None:
    with pytest.raises(InputError, match=r"no guest kernel '6\.2'; there are 5\.10, 6\.1"):
        packages.kernel("6.2")


def test_what_is_not_fetched_says_how(cache: Path) -> None:
    assert packages.prepared("6.1") is None
    with pytest.raises(Unsupported, match=r"fetch it with: kvm-vfio guest prepare 6\.1$"):
        packages.kernel("6.1")


def test_the_cache_remembers_what_was_fetched(cache: Path) -> None:
    directory = cache / "kernels" / "6.1"
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(
        '{"release": "6.1.0-1-amd64", "modules": ["kvm.ko"],'
        ' "packages": [{"name": "p", "version": "1", "sha256": "ab"}]}'
    )
    kernel = packages.kernel("6.1")
    assert (kernel.version, kernel.release, kernel.modules) == ("6.1", "6.1.0-1-amd64", ("kvm.ko",))
    assert kernel.packages == (packages.Package("p", "1", "ab"),)
    assert kernel.image == directory / "vmlinuz"
    (directory / "vmlinux").touch()
    assert kernel.image == directory / "vmlinux"
    assert kernel.no_force == "it was prepared without"


@pytest.mark.parametrize(
    ("listed", "security", "uri"),
    [
        (f"bookworm {ARCHIVE}\nbookworm-security {SECURITY}", True, SECURITY),
        (f"bookworm {ARCHIVE}\nbookworm-security {SECURITY}", False, ARCHIVE),
        (f"trixie {ARCHIVE}", True, SECURITY),
        (f"cloud http://other.example/apt/\nsid {ARCHIVE}", False, ARCHIVE),
    ],
)
def test_the_mirror_is_this_computers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: str, security: bool, uri: str
) -> None:
    pretend_apt(tmp_path, monkeypatch, listed)
    assert _mirror(security=security) == uri


def test_a_computer_without_debian_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_apt(tmp_path, monkeypatch, "jammy http://other.example/ubuntu/")
    with pytest.raises(Unsupported, match="do not have Debian's security archive"):
        _mirror(security=True)


def test_packages_are_believed_only_with_debians_signature(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_apt(tmp_path, monkeypatch, f"bookworm {ARCHIVE}")
    monkeypatch.setattr(packages, "_KEYRING", tmp_path)
    assert _source("trixie-backports") == (
        f"deb [arch=amd64 signed-by={tmp_path}] {ARCHIVE} trixie-backports main\n"
    )


def test_without_apt_the_remedy_is_one_sentence(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="apt-get is not here; kernels are fetched on Debian"):
        packages.prepare("6.1", lambda _: None)
    assert list((cache / "kernels").iterdir()) == []


def test_what_apt_says_is_passed_on(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_apt(tmp_path, monkeypatch, f"bookworm {ARCHIVE}")
    script = tmp_path / "apt-get"
    script.write_text(
        '#!/bin/sh\ncase "$*" in *update*) echo "W: hm" >&2; echo "E: no network" >&2; exit 100;;'
        f" esac\nprintf 'trixie {ARCHIVE}'\n"
    )
    with pytest.raises(Unsupported, match=r"apt-get --quiet update failed .*: no network$"):
        packages.prepare("6.1", lambda _: None)
