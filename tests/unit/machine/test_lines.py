# SPDX-License-Identifier: GPL-2.0-only
"""Where places are in a text."""

from __future__ import annotations

import pytest

from kvm_vfio.machine.lines import Lines, join

TEXT = '''\
name = "a"
description = """
[[iommu]]
number = 9
"""
[[iommu]]
  [[iommu.group]]
  number = 1
  [[iommu.group.device]] # the first
  vendor = 1
  bars = [
    { index = 0 },
    # a comment
    { index = 1 },
  ]
  [[iommu.group.device]]
  [iommu.group.device.msi]
  vectors = 2
[[iommu]]
[[iommu.group]]
[[iommu.group.device]]
bars = [{ index = 0 }, { index = 1 }]
'''


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("name", 1),
        ("iommu[0]", 6),
        ("iommu[0].group[0]", 7),
        ("iommu[0].group[0].number", 8),
        ("iommu[0].group[0].device[0]", 9),
        ("iommu[0].group[0].device[0].vendor", 10),
        ("iommu[0].group[0].device[0].bars", 11),
        ("iommu[0].group[0].device[0].bars[0].index", 12),
        ("iommu[0].group[0].device[0].bars[1].index", 14),
        ("iommu[0].group[0].device[1].msi.vectors", 18),
        ("iommu[1]", 19),
        ("iommu[1].group[0].device[0]", 21),
        ("iommu[1].group[0].device[0].bars[1].size", 22),
        # what is missing is where it should be
        ("iommu[1].group[0].number", 20),
        ("iommu[0].name", 6),
        ("architecture", None),
        ("", None),
    ],
)
def test_the_line_of_a_place(place: str, line: int | None) -> None:
    assert Lines(TEXT).of(place) == line


def test_join() -> None:
    assert (join("", "a"), join("a[0]", "b")) == ("a", "a[0].b")
