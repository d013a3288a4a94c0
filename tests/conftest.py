# SPDX-License-Identifier: GPL-2.0-only
"""Markers that name a need, and the rule that CI skips nothing Debian can provide."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support import NEEDS, NOT_A_PACKAGE

# A busy computer is no failure: no example has a deadline. A long look: --hypothesis-profile=slow
settings.register_profile("default", deadline=None)
settings.register_profile("slow", max_examples=2000, deadline=None)
settings.load_profile("default")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers():
        if marker.name in NEEDS:
            NEEDS[marker.name]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    refuse_skip(report, call)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    refuse_skip(report, report.call)
    return report


def refuse_skip(
    report: pytest.TestReport | pytest.CollectReport, call: pytest.CallInfo[object] | None
) -> None:
    """With CI=true, make a skip a failure unless no package could have helped."""
    error = call.excinfo.value if call and call.excinfo else None
    if os.environ.get("CI") != "true" or not isinstance(error, pytest.skip.Exception):
        return
    if not str(error).endswith(NOT_A_PACKAGE):
        report.outcome = "failed"
        report.longrepr = f"CI may not skip this: {error}"
