# SPDX-License-Identifier: GPL-2.0-only
"""Kernels by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvm_vfio.errors import InputError, Unsupported
from kvm_vfio.scenario.conform import judge, recordings
from kvm_vfio.scenario.kernels import model_kernel, opened, run
from kvm_vfio.scenario.language import parse


def test_a_model_is_named_by_its_version() -> None:
    with opened("model:6.1", snoop=True) as kernel:
        assert kernel.name == "model:6.1"
        assert next(run(kernel, parse("kvm_open k"))).startswith("1 kvm_open k => fd")


@pytest.mark.parametrize("spec", ["", "6.1", "model", "model:", "guest:", "host:1", "linux:6.1"])
def test_what_is_no_kernel_is_told_with_what_is_one(spec: str) -> None:
    with (
        pytest.raises(InputError, match=r"say model:6\.1, guest:6\.1 or host"),
        opened(spec, snoop=False),
    ):
        pass


def test_a_version_without_a_model_is_told_with_those_that_have_one() -> None:
    with pytest.raises(InputError, match=r"no model of Linux '6\.2'; there are 2013, "):
        model_kernel("6.2", snoop=False)


def test_a_guest_whose_kernel_is_not_there_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with (
        pytest.raises(Unsupported, match=r"kvm-vfio guest prepare 6\.1"),
        opened("guest:6.1", snoop=False),
    ):
        pass


HOST_SCRIPT = """\
open n /dev/null
write n
open p /dev/null path
write p
eventfd e
read e
pipe r w
dup r2 r
close r
close r
memfd m
socket s
mmap m
child_close_exit
ioctl n 0x5401 null
ioctl n 0x5401 straddle
reset
"""


def test_this_computer_answers_without_showing_effects() -> None:
    with opened("host", snoop=False) as kernel:
        answers = list(run(kernel, parse(HOST_SCRIPT)))
    results = [answer.split(" => ")[1] for answer in answers]
    assert results == [
        *("fd", "1", "fd", "-EBADF", "fd", "-EAGAIN", "0", "fd", "0", "-EBADF"),
        *("fd", "fd", "0", "0", "-ENOTTY", "-ENOTTY", "0"),
    ]


def test_this_computers_devices_are_left_alone() -> None:
    with (
        pytest.raises(Unsupported, match="this computer's devices are left alone"),
        opened("host", snoop=False) as kernel,
    ):
        list(run(kernel, parse("unbind 00:14.1")))


def test_recordings_elsewhere_are_found_beside_their_scripts_or_above(tmp_path: Path) -> None:
    (tmp_path / "a.ops").write_text("kvm_open k\n")
    (tmp_path / "deep" / "6.1-on").mkdir(parents=True)
    (tmp_path / "deep" / "6.1-on" / "a.out").write_text("# Linux\n1 kvm_open k => -EPERM reg=0\n")
    (tmp_path / "deep" / "notes.out").write_text("no recording\n")
    (found,) = recordings(tmp_path)
    assert (found.linux, found.snoop, str(found)) == ("6.1", True, "6.1-on/a")
    verdict = judge(model_kernel("6.1", snoop=True), found)
    assert (verdict.agreeing, verdict.lines) == (0, 1)
    assert verdict.disagreements[0].linux == "1 kvm_open k => -EPERM reg=0"


def test_a_disagreement_has_the_models_reason(tmp_path: Path) -> None:
    (tmp_path / "a.ops").write_text("kvm_open k\nclose k\nclose k\n")
    (tmp_path / "6.1-on").mkdir()
    (tmp_path / "6.1-on" / "a.out").write_text("1 kvm_open k => fd\n")
    verdict = judge(model_kernel("6.1", snoop=True), recordings(tmp_path)[0])
    assert [each.reason for each in verdict.disagreements] == [
        "",
        "",
        "close fd -1: it is not open",
    ]
    assert verdict.disagreements[-1].linux == "(no such line)"


def test_a_directory_without_recordings_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no recording in it"):
        recordings(tmp_path)
