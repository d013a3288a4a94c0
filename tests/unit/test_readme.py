# SPDX-License-Identifier: GPL-2.0-only
"""What the README shows is what happens."""

import doctest
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_python_example() -> None:
    results = doctest.testfile(
        str(README), module_relative=False, optionflags=doctest.ELLIPSIS | doctest.REPORT_NDIFF
    )
    assert results.attempted > 8
    assert results.failed == 0
