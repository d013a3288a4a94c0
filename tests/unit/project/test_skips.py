# SPDX-License-Identifier: GPL-2.0-only
"""A need that is not met skips with a remedy; CI skips nothing that Debian has a package for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import support

pytest_plugins = ["pytester"]

CONFTEST = Path(support.__file__).with_name("conftest.py")

TESTS = """
import pytest
from tests import support

def test_program():
    support.need_program("nonesuch", apt="none-such")

def test_computer():
    pytest.skip(f"no such bus {support.NOT_A_PACKAGE}")

@pytest.mark.xfail(strict=True)
def test_known():
    assert False
"""


@pytest.fixture
def tests(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(CONFTEST.read_text())
    pytester.makepyfile(TESTS)
    return pytester


def test_a_laptop_skips_with_the_remedy(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    result = tests.runpytest("-rs")
    result.assert_outcomes(skipped=2, xfailed=1)
    result.stdout.fnmatch_lines("*nonesuch is missing; as root: apt-get install none-such")


def test_ci_fails_what_a_package_would_mend(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = tests.runpytest("-rf")
    result.assert_outcomes(skipped=1, xfailed=1, failed=1)
    result.stdout.fnmatch_lines("CI may not skip this: nonesuch is missing; *")


def test_ci_fails_a_module_that_skips_itself(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    tests.makepyfile(test_module="import pytest\npytest.importorskip('nonesuch')")
    tests.runpytest("test_module.py").assert_outcomes(errors=1)


def test_a_marker_names_a_need(tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("PATH", "/nonexistent")
    tests.makepyfile(test_marked="import pytest\n@pytest.mark.golang\ndef test_go(): pass")
    tests.runpytest("test_marked.py").assert_outcomes(skipped=1)


@pytest.mark.parametrize("name", sorted(support.NEEDS))
def test_every_need_is_a_declared_marker(name: str, pytestconfig: pytest.Config) -> None:
    markers = [line.split(":")[0] for line in pytestconfig.getini("markers")]
    assert name in markers
