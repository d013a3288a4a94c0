# SPDX-License-Identifier: GPL-2.0-only
"""What the documentation shows is what happens."""

import doctest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("page", "steps"), [("README.md", 8), ("docs/explain.md", 8), ("docs/faults.md", 3)]
)
def test_the_python_examples(page: str, steps: int) -> None:
    results = doctest.testfile(
        str(ROOT / page), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF
    )
    assert results.attempted > steps
    assert results.failed == 0
