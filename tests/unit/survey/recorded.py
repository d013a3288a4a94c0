# SPDX-License-Identifier: GPL-2.0-only
"""The recorded trees, and changes to them."""

from __future__ import annotations

from pathlib import Path

from kvm_vfio.survey.facts import Computer
from kvm_vfio.survey.system import survey
from kvm_vfio.survey.tree import Tree
from tools.sysfs.trees import unpack

TREES = Path(__file__).parents[2] / "data" / "sysfs"
NAMES = sorted(path.stem for path in TREES.glob("*.tree"))


def tree(name: str, root: Path, *changes: tuple[str, str]) -> Path:
    """The recording `name` below `root`, with each first text of `changes` become the second."""
    text = (TREES / f"{name}.tree").read_text()
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    return unpack(text, root)


def computer(name: str, root: Path, *changes: tuple[str, str]) -> Computer:
    return survey(Tree(tree(name, root, *changes)))


# As laptops have them: the integrated graphics' unit has no snoop control, that of the rest has.
TWO_UNITS = (
    (
        "link sys/class/iommu/dmar0 ../../devices/virtual/iommu/dmar0",
        (
            "link sys/class/iommu/dmar0 ../../devices/virtual/iommu/dmar0\n"
            "link sys/class/iommu/dmar1 ../../devices/virtual/iommu/dmar1\n"
            'file sys/class/iommu/dmar1/intel-iommu/cap "d2008c40660462\\n"\n'
            'file sys/class/iommu/dmar1/intel-iommu/ecap "f050da\\n"'
        ),
    ),
    (
        "devices/0000:00:13.0/iommu ../../virtual/iommu/dmar0",
        "devices/0000:00:13.0/iommu ../../virtual/iommu/dmar1",
    ),
)
