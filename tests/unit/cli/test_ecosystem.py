# SPDX-License-Identifier: GPL-2.0-only
"""Shell completion and manual pages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvm_vfio.cli import main
from kvm_vfio.cli._man import pages


def kvm_vfio(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="kvm-vfio", catch_exceptions=False)


def completed(*words: str) -> set[str]:
    """What the command answers to bash, which completes the last of `words`."""
    environment = {
        **os.environ,
        "_KVM_VFIO_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["kvm-vfio", *words]),
        "COMP_CWORD": str(len(words)),
    }
    program = "from kvm_vfio.cli import main; main(prog_name='kvm-vfio')"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_is_the_shells_own_language(shell: str) -> None:
    text = kvm_vfio("completion", shell).stdout
    assert f"_KVM_VFIO_COMPLETE={shell}_complete" in text
    program = shutil.which(shell)
    if program is not None:  # where it is, it reads it
        subprocess.run([program, "-n", "/dev/stdin"], input=text, text=True, check=True)


def test_completion_of_another_shell() -> None:
    result = kvm_vfio("completion", "tcsh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr


def test_words_are_completed() -> None:
    assert completed("ins") == {"plain,inspect"}
    assert completed("run", "--linux", "6.1") == {"plain,6.1", "plain,6.12", "plain,6.18"}
    assert completed("run", "--machine", "ref") == {"plain,referee"}
    assert completed("machine", "show", "./my") == {"file,./my"}


def test_every_command_has_a_page(tmp_path: Path) -> None:
    assert kvm_vfio("man", str(tmp_path / "man1")).exit_code == 0
    names = {path.name for path in (tmp_path / "man1").iterdir()}
    assert {"kvm-vfio.1", "kvm-vfio-run.1", "kvm-vfio-machine-check.1"} <= names
    page = (tmp_path / "man1" / "kvm-vfio-run.1").read_text()
    assert page.startswith('.TH "KVM-VFIO-RUN" 1 "" "kvm-vfio ')
    assert "\\-\\-machine, \\-m" in page or "\\-m, \\-\\-machine NAME|FILE" in page
    assert "\n.BR kvm\\-vfio (1)\n" in page


def test_no_line_of_a_page_is_taken_for_a_request() -> None:
    known = (".TH", ".SH", ".B ", ".BR", ".TP", ".PP", ".nf", ".fi")
    for name, content in pages(main, "kvm-vfio", "0"):
        for line in content.splitlines():
            assert not line.startswith(("'", ".")) or line.startswith(known), (name, line)


def test_pages_that_cannot_be_written() -> None:
    result = kvm_vfio("man", "/proc/no")
    assert result.exit_code == 2
    assert result.stderr.endswith("name a directory to write to\n")
