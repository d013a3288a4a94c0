# SPDX-License-Identifier: GPL-2.0-only
"""What the how-to pages say a command prints, it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kvm_vfio.cli import main

PAGES = Path(__file__).parents[3] / "docs" / "howto"
CONSOLE = re.compile(r"```console\n\$ kvm-vfio ([^\n]+)\n(.*?)```", re.DOTALL)
SCRIPT = re.compile(r"`(\w+\.ops)`:\n\n```text\n(.*?)```", re.DOTALL)
EXAMPLES = [
    pytest.param(page, words, printed, id=f"{page.stem}-{words}")
    for page in sorted(PAGES.glob("*.md"))
    for words, printed in CONSOLE.findall(page.read_text())
]


@pytest.mark.parametrize(("page", "words", "printed"), EXAMPLES)
def test_a_command_prints_what_the_page_says(
    page: Path, words: str, printed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in SCRIPT.findall(page.read_text()):
        (tmp_path / name).write_text(text)
    result = CliRunner().invoke(main, words.split(), catch_exceptions=False)
    assert result.stdout == printed


def test_there_are_examples() -> None:
    assert EXAMPLES
