# SPDX-License-Identifier: GPL-2.0-only
"""The command itself: how it finds subcommands, and what a person is told."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvm_vfio import cli

COMMAND = """
import click
from kvm_vfio.errors import InputError

@click.command()
@click.option("--bug", is_flag=True)
def probe(bug):
    "Fail."
    if bug:
        raise KeyError("bug")
    raise InputError("m.toml: line 3: bdf is given twice; remove one")
"""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that the command also looks in, with the subcommand `probe`."""
    (tmp_path / "probe.py").write_text(COMMAND)
    monkeypatch.setattr(cli, "__path__", [*cli.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "kvm_vfio.cli.probe", raising=False)
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, arguments, prog_name="kvm-vfio")


def test_version() -> None:
    assert invoke("--version").stdout == f"kvm-vfio {version('kvm-vfio')}\n"


def test_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "kvm_vfio", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"kvm-vfio {version('kvm-vfio')}\n"


def test_starts_without_the_model() -> None:
    program = (
        "import sys, kvm_vfio.cli\n"
        "print(*(m for m in sys.modules if m.startswith(('kvm_vfio', 'rich', 'msgspec'))))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"kvm_vfio", "kvm_vfio.cli", "kvm_vfio.errors"}


def test_a_module_is_a_subcommand(commands: Path) -> None:
    (commands / "_shared.py").write_text("raise RuntimeError('not a command')")
    help_text = invoke("--help").stdout
    assert "probe" in help_text
    assert "_shared" not in help_text


def test_what_a_person_can_mend_is_one_sentence(commands: Path) -> None:
    del commands
    result = invoke("probe")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "kvm-vfio: m.toml: line 3: bdf is given twice; remove one\n"


def test_a_bug_is_not_hidden(commands: Path) -> None:
    del commands
    assert isinstance(invoke("probe", "--bug").exception, KeyError)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonesuch"], "kvm-vfio: No such command 'nonesuch' (see kvm-vfio --help)\n"),
        (["--nonesuch"], "kvm-vfio: No such option '--nonesuch' (see kvm-vfio --help)\n"),
        (["probe", "-x"], "kvm-vfio: No such option '-x' (see kvm-vfio probe --help)\n"),
    ],
)
def test_a_wrong_command_line(commands: Path, arguments: list[str], sentence: str) -> None:
    del commands
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", sentence)


def test_a_module_without_its_command_is_a_bug(commands: Path) -> None:
    (commands / "empty.py").write_text("empty = None")
    with pytest.raises(TypeError, match=r"kvm_vfio\.cli\.empty\.empty is not a click command"):
        CliRunner().invoke(cli.main, ["empty"], catch_exceptions=False)
