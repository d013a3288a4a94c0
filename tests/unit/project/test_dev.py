# SPDX-License-Identifier: GPL-2.0-only
"""`./dev` where something is missing, and the lock it installs from."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def dev() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("dev", str(ROOT / "dev"))
    spec = importlib.util.spec_from_loader("dev", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def call(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "dev", *arguments], capture_output=True, text=True, check=False)


def test_without_a_command_it_helps() -> None:
    done = call()
    assert done.returncode == 0
    assert all(f"\n  {name} " in done.stdout for name in ("setup", "demo", "test", "lint", "bench"))


def test_an_unknown_command_is_one_sentence() -> None:
    done = call("tset")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "dev: there is no command 'tset'; ./dev lists them\n"


def test_only_a_changed_lock_makes_the_venv_again(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[object] = []
    monkeypatch.setattr(dev, "make_venv", made.append)
    monkeypatch.setattr(dev, "has_ensurepip", lambda: True)
    monkeypatch.setattr(dev, "PYTHON", Path("/bin/sh"))
    monkeypatch.setattr(dev, "STAMP", tmp_path / "stamp")
    (tmp_path / "lock").write_text("one")
    monkeypatch.setattr(dev, "LOCK", tmp_path / "lock")
    dev.setup()
    dev.setup()
    assert made == [None]
    (tmp_path / "lock").write_text("two")
    dev.setup()
    assert made == [None, None]


def test_who_cannot_install_is_told_and_goes_on(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev.os, "geteuid", lambda: 1000)
    dev.provide((dev.System("nonesuch", "none-such"), dev.System("/bin/sh", "dash")))
    said = capsys.readouterr().err
    assert said == "dev: going on without nonesuch; as root: apt-get install none-such\n"


def test_root_installs_only_what_is_missing(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[list[str]] = []
    monkeypatch.setattr(dev, "is_root_on_debian", lambda: True)
    monkeypatch.setattr(dev, "apt_install", installed.append)
    dev.provide((dev.System("/bin/sh", "dash"),))
    dev.provide((dev.System("nonesuch", "none-such"), dev.System("/bin/sh", "dash")))
    assert installed == [["none-such"]]


def test_without_any_pip_the_remedy_is_one_sentence(
    dev: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "apt-get").symlink_to("/bin/false")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(SystemExit) as exit_:
        dev.pip_from_debian(str(tmp_path / "state"))
    assert exit_.value.code == 2
    assert capsys.readouterr().err.endswith("as root: apt-get install python3-venv\n")


def test_the_lock_has_names_versions_and_hashes_only() -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    form = re.compile(r"[\w.-]+==[\w.]+( ; [^\\]+)?( \\\n +--hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in entries if not form.fullmatch(entry)] == []


def test_the_lock_covers_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    wanted = project["project"]["dependencies"] + groups["build"] + groups["dev"]
    names = {re.split("[>=<]", item)[0] for item in wanted if isinstance(item, str)}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {name.replace(".", "-") for name in names} - set(locked) == set()
