# SPDX-License-Identifier: GPL-2.0-only
"""The table, and what the exit status says about it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from benchmarks import __main__ as bench
from benchmarks.measure import Finding, Row
from kvm_vfio.errors import Unsupported

ROW = Row("b", "a call", "another", 3e-6, 2e-6, 1.5, 1.4, 1.6, None)


def run(monkeypatch: pytest.MonkeyPatch, findings: list[Finding], *arguments: str) -> Result:
    part = bench.Part("the model in process", 2, lambda _rounds: iter(findings))
    monkeypatch.setitem(bench.PARTS, "b", part)
    return CliRunner().invoke(bench.main, ["b", *arguments])


@pytest.mark.parametrize(
    ("limit", "shown", "status"),
    [(None, "1.40-1.60", 0), (1.5, "1.50  ok", 0), (1.49, "1.49  over", 1)],
)
def test_a_ratio_over_its_limit_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, shown: str, status: int
) -> None:
    result = run(monkeypatch, [ROW._replace(limit=limit)])
    assert result.exit_code == status
    (line,) = [line for line in result.stdout.splitlines() if "a call" in line]
    assert line.split()[:6] == ["a", "call", "3.00", "us", "2.00", "us"]
    assert line.rstrip().endswith(shown)


def test_notes_follow_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, [ROW, "(b) nothing [to] see"])
    assert result.exit_code == 0
    assert "(b) the model in process" in result.stdout
    assert result.stdout.index("(b) nothing [to] see") > result.stdout.index("a call")


def test_what_cannot_be_measured_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def findings(rounds: int) -> Iterator[Finding]:
        yield ROW._replace(case=f"{rounds} rounds")
        raise Unsupported("there is no gcc")

    monkeypatch.setitem(bench.PARTS, "b", bench.Part("", 2, findings))
    result = CliRunner().invoke(bench.main, ["b", "--rounds", "7"])
    assert result.exit_code == 0
    assert "7 rounds" in result.stdout
    assert "(b) there is no gcc" in result.stdout


def test_the_rows_as_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    result = run(monkeypatch, [ROW._replace(limit=1.2), "a note"], "--json", str(file))
    content = json.loads(file.read_text())
    assert result.exit_code == 1
    assert content["notes"] == ["a note"]
    assert content["rows"] == [ROW._replace(limit=1.2)._asdict() | {"over": True}]
    assert content["environment"]["python"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(2.5, "2.50 s"), (0.0471, "47.10 ms"), (8.3e-7, "0.83 us")]
)
def test_times_have_a_fitting_unit(seconds: float, text: str) -> None:
    assert bench.time(seconds) == text
