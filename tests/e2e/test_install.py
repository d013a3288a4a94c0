# SPDX-License-Identifier: GPL-2.0-only
"""A wheel and an sdist, built and installed outside the repository, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(kind: str, source: Path, into: Path) -> Path:
    """The one thing that hatchling makes of `source`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(into)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", ROOT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that the sdist makes, as pip makes it."""
    source = tmp_path_factory.mktemp("source")
    with tarfile.open(sdist) as tar:
        if hasattr(tarfile, "data_filter"):  # Debian 12's Python 3.11.2 has none
            tar.extraction_filter = tarfile.data_filter
        tar.extractall(source)  # noqa: S202 - our own
    (unpacked,) = source.iterdir()
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel, and this one's dependencies."""
    directory = tmp_path_factory.mktemp("installed")
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    ours = sysconfig.get_paths()["purelib"]
    theirs = sysconfig.get_paths(vars={"base": str(directory), "platbase": str(directory)})
    # A line of a .pth is a directory; the .pth files in it, ours for this repository, are not read.
    (Path(theirs["purelib"]) / "dependencies.pth").write_text(f"{ours}\n")
    return directory


def run(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return subprocess.run(
        [str(installed / "bin" / "kvm-vfio"), *words],
        cwd=installed,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def test_it_is_the_installed_one(installed: Path) -> None:
    python = str(installed / "bin" / "python")
    program = "import kvm_vfio; print(kvm_vfio.__file__)"
    done = subprocess.run(
        [python, "-P", "-c", program], cwd="/", capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(str(installed))


def test_built_in_machines(installed: Path) -> None:
    assert "referee: " in run(installed, "machine", "list").stdout


def test_recorded_answers(installed: Path) -> None:
    done = run(installed, "conform", "--linux", "6.12")
    assert "6.12" in done.stdout


def test_a_program_runs_and_its_trace_becomes_a_page(installed: Path) -> None:
    trace, page = installed / "t.jsonl", installed / "t.html"
    script = "ls /dev/vfio"
    words = ("--kvm", "model", "-q", "--trace", str(trace), "--", "sh", "-c", script)
    assert "vfio" in run(installed, "run", *words).stdout.split()
    run(installed, "report", str(trace), "-o", str(page))
    assert page.read_text().startswith("<!doctype html>")


def test_what_is_compiled_and_read_at_run_time_is_there(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    files = {path.relative_to(ROOT / "src").as_posix() for path in ROOT.glob("src/**/*")}
    ours = {n for n in files if (ROOT / "src" / n).is_file() and "__pycache__" not in n}
    assert ours <= names
    assert "kvm_vfio/guest/agent.c" in ours


def test_manual_pages(installed: Path) -> None:
    pages = {path.name for path in (installed / "share" / "man" / "man1").iterdir()}
    assert {"kvm-vfio.1", "kvm-vfio-run.1"} <= pages
