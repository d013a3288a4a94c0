# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio scenario`, `conform` and `guest`: what a person reads, and exit statuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvm_vfio.cli import main
from kvm_vfio.scenario import fuzz
from kvm_vfio.scenario.conform import recordings
from kvm_vfio.scenario.fuzz import Campaign, Pair, Step
from kvm_vfio.scenario.kernels import model_kernel

ORDER = next(each for each in recordings() if str(each) == "6.1-off/09-order")


def kvm_vfio(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="kvm-vfio", catch_exceptions=False)


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        file = tmp_path / "a.ops"
        file.write_text(text)
        return str(file)

    return write


def test_run_prints_exactly_the_recorded_lines() -> None:
    result = kvm_vfio("scenario", "run", str(ORDER.script), "--kernel", "model:6.1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.rstrip() for line in result.stdout.splitlines()] == ORDER.lines()


def test_what_is_kept_is_a_recording(script: Callable[[str], str], tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    file = script("kvm_open k\n# a comment\nread k\n")
    words = ("scenario", "run", file, "--kernel", "model:6.1", "--record", str(kept))
    assert kvm_vfio(*words).exit_code == 0
    assert (kept / "6.1-off" / "a.out").read_text() == (
        "# the model of Linux 6.1, snoop control off\n"
        "1 kvm_open k => fd reg=0 unreg=0 net[] |\n"
        "3 read k => -EINVAL reg=0 unreg=0 net[] |\n"
    )
    Path(file).rename(kept / "a.ops")
    assert kvm_vfio("conform", "--data", str(kept)).exit_code == 0


def test_what_this_computer_answers_is_not_kept(script: Callable[[str], str]) -> None:
    result = kvm_vfio("scenario", "run", script("\n"), "--kernel", "host", "--record", "x")
    assert result.exit_code == 2
    assert result.stderr == "kvm-vfio: --record keeps what a model or a guest answers, not host.\n"


def test_run_names_the_files_when_there_are_several(script: Callable[[str], str]) -> None:
    file = script("echo hello\n")
    result = kvm_vfio("scenario", "run", file, file)
    assert result.stdout == f"# {file}\nhello\n# {file}\nhello\n"


def test_run_takes_another_machine() -> None:
    result = kvm_vfio("scenario", "run", str(ORDER.script), "--machine", "nowhere.toml")
    assert result.exit_code == 2
    assert "nowhere.toml" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kvm_opne k\n", ":1: there is no operation 'kvm_opne'; did you mean 'kvm_open'?"),
        ("open f /dev/null upside\n", "line 1: 'open f /dev/null upside': 'upside' is none of"),
    ],
)
def test_a_wrong_script_is_one_sentence(
    script: Callable[[str], str], text: str, message: str
) -> None:
    result = kvm_vfio("scenario", "run", script(text))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    result = kvm_vfio("scenario", "run", str(tmp_path / "none"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"kvm-vfio: {tmp_path}/none: No such file or directory.\n"
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    result = kvm_vfio("scenario", "run", str(tmp_path / "bytes"))
    assert result.stderr == f"kvm-vfio: {tmp_path}/bytes: this is no text.\n"


def test_diff_shows_the_first_difference_in_context(script: Callable[[str], str]) -> None:
    file = script("kvm_open k\nvm_create v\nkvm_check k 89\n")
    result = kvm_vfio("scenario", "diff", "model:6.1", "model:6.12", file)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"{file}: they differ",
        "               1 kvm_open k => fd reg=0 unreg=0 net[] |",
        "               2 vm_create v => fd reg=0 unreg=0 net[v:0] | vmnew(v)",
        "  model:6.1    3 kvm_check k 89 => 0 reg=0 unreg=0 net[v:0] |",
        "  model:6.12   3 kvm_check k 89 => 1 reg=0 unreg=0 net[v:0] |",
        "  behaviour    capabilities: none in 6.1, 89 in 6.12",
    ]


def test_diff_of_equals_says_so(script: Callable[[str], str]) -> None:
    result = kvm_vfio("scenario", "diff", "model:6.1", "model:6.12", script("kvm_open k\n"))
    assert (result.exit_code, result.stdout) == (
        0,
        "model:6.1 and model:6.12 agree on every line\n",
    )


def test_diff_with_this_computer_compares_results_only(script: Callable[[str], str]) -> None:
    file = script("eventfd e\nread e\nclose e\nclose e\n")
    assert kvm_vfio("scenario", "diff", "host", "model:6.12", file).exit_code == 0


def test_conform_prints_the_table() -> None:
    result = kvm_vfio("conform", "--linux", "6.1", "--linux", "7.3")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["6.1-off", "6.1-on", "7.3-off", "7.3-on"]
    assert lines[1].split() == ["01-snoop", *["32/32"] * 4]
    assert next(line for line in lines if line.startswith("14-")).split() == [
        "14-requests-of-any-file",
        *["385/385"] * 4,
    ]
    assert lines[-2].split() == ["all", *["1712/1712"] * 4]
    assert lines[-1] == "6848/6848 lines agree"


def test_conform_shows_both_answers_and_why(tmp_path: Path) -> None:
    (tmp_path / "a.ops").write_text("close k\n")
    (tmp_path / "6.1-on").mkdir()
    (tmp_path / "6.1-on" / "a.out").write_text("1 close k => 0 reg=0 unreg=0 net[] |\n")
    result = kvm_vfio("conform", "--data", str(tmp_path))
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-4:] == [
        "6.1-on/a: they differ",
        "  linux 1 close k => 0 reg=0 unreg=0 net[] |",
        "  model 1 close k => -EBADF reg=0 unreg=0 net[] |",
        "        close fd -1: it is not open",
    ]


def test_conform_of_an_unknown_kernel_is_one_sentence() -> None:
    result = kvm_vfio("conform", "--linux", "6.2")
    assert result.exit_code == 2
    assert result.stderr == (
        "kvm-vfio: no recording is of Linux '6.2'; there are 5.10, 6.1, 6.12, 6.18, 7.3.\n"
    )


def test_a_campaign_shows_writes_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def campaign(pair: Pair, *, seed: int, calls: int, workers: int) -> list[Step]:
        assert (pair.snoop, seed, calls, workers) == (True, 5, 300, 1)
        one, other = (model_kernel(linux, snoop=True) for linux in ("6.1", "6.12"))
        work = Campaign(one, other)
        found = next(each for seed in range(99) if (each := work.script(seed)))
        return [Step(work.coverage, found)]

    monkeypatch.setattr(fuzz, "campaign", campaign)
    words = "--kernel model:6.12 --model model:6.1 --snoop on --calls 300 --seed 5 --workers 1"
    result = kvm_vfio("scenario", "fuzz", *words.split(), "--output", str(tmp_path / "found"))
    assert result.exit_code == 1
    (file,) = (tmp_path / "found").iterdir()
    assert result.stdout.startswith(f"they differ: {file} (seed ")
    assert "never met:\n  operations: " in result.stdout
    kept = kvm_vfio("scenario", "diff", "model:6.1", "model:6.12", "--snoop", "on", str(file))
    assert kept.exit_code == 1


@pytest.mark.parametrize(
    "words",
    [
        ("run", "{script}", "--kernel", "model:6.1", "--record", "{file}/sub"),
        ("fuzz", "--kernel", "guest:6.1", "--output", "{file}/sub"),
    ],
)
def test_a_directory_that_cannot_be_made_is_one_sentence(
    words: tuple[str, ...], script: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("")
    given = (word.format(script=script("kvm_open k\n"), file=file) for word in words)
    result = kvm_vfio("scenario", *given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(
        rf"kvm-vfio: --\w+ {file}\S*: (File exists|Not a dir\w+)\.\n", result.stderr
    )


def test_a_campaign_without_its_guest_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = kvm_vfio("scenario", "fuzz", "--kernel", "guest:6.1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith("fetch it with: kvm-vfio guest prepare 6.1\n")


def test_guests_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    directory = tmp_path / "kvm-vfio" / "kernels" / "6.12"
    directory.mkdir(parents=True)
    (directory / "kernel.json").write_text(
        '{"release": "6.12.1-amd64", "modules": [],'
        ' "packages": [{"name": "linux-image", "version": "6.12.1-1", "sha256": "ab"}]}'
    )
    lines = kvm_vfio("guest", "list").stdout.splitlines()
    assert lines[0] == "5.10: not fetched"
    assert lines[2] == "6.12: 6.12.1-amd64 (linux-image 6.12.1-1)"


def test_preparing_an_unknown_kernel_is_one_sentence() -> None:
    result = kvm_vfio("guest", "prepare", "9.9")
    assert result.exit_code == 2
    assert "there is no guest kernel '9.9'; there are 5.10, " in result.stderr
