# SPDX-License-Identifier: GPL-2.0-only
"""Reading trees that are broken, hostile or in motion."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from kvm_vfio.survey.facts import Holder
from kvm_vfio.survey.holders import holders
from kvm_vfio.survey.picture import svg
from kvm_vfio.survey.system import survey
from kvm_vfio.survey.tree import Tree, printable
from kvm_vfio.survey.view import as_data
from tests.unit.survey.recorded import NAMES, computer, tree


def test_an_empty_root(tmp_path: Path) -> None:
    there = survey(Tree(tmp_path))
    assert (there.units, there.groups, there.release) == ((), (), "")
    assert as_data(there)["missing"]


def test_files_that_are_none_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    there = Tree(tmp_path)
    assert [there.bytes(name) for name in ("fifo", "directory", "loop", "nothing")] == [None] * 4


def test_a_file_is_read_to_a_bound(tmp_path: Path) -> None:
    with open(tmp_path / "endless", "wb") as file:
        file.truncate(1 << 40)
    assert len(Tree(tmp_path).bytes("endless") or b"") == 1 << 20


def test_names_cannot_reach_the_terminal(tmp_path: Path) -> None:
    assert printable("vfio\x1b[2J\n" + "x" * 100) == "vfio?[2J?" + "x" * 55
    there = computer("intel-6.12", tmp_path, ("drivers/serial", "drivers/\x1b]0;serial"))
    assert [f.driver for f in there.groups[5].functions] == ["vfio-pci", "?]0;serial"]


@pytest.mark.parametrize("name", ["cap", "ecap", "vendor", "class", "resource", "type"])
def test_nonsense_in_a_file(name: str, tmp_path: Path) -> None:
    root = tree("intel-6.12", tmp_path)
    for path in filter(Path.is_file, root.rglob(name)):
        path.write_bytes(b"\xff\x1b none 0x\n" * 1000)
    assert len(survey(Tree(root)).groups) == 10


# -- who has what open ----------------------------------------------------------------------------


def process(root: Path, pid: int, name: str, *links: str) -> None:
    directory = root / "proc" / str(pid) / "fd"
    directory.mkdir(parents=True)
    (directory.parent / "comm").write_text(f"{name}\n")
    for fd, link in enumerate(links):
        (directory / str(fd)).symlink_to(link)


def test_holders(tmp_path: Path) -> None:
    process(tmp_path, 1, "init", "/dev/null")
    process(
        tmp_path,
        70,
        "qemu\x1b",
        "/dev/vfio/vfio",
        "/dev/vfio/3",
        "/dev/iommu",
        "anon_inode:kvm-vfio",
        "anon_inode:[eventfd]",
        "/home/dev/vfio/4",
    )
    (tmp_path / "proc" / "self").mkdir()
    (tmp_path / "proc" / "71").mkdir()  # it has ended
    found = holders(Tree(tmp_path))
    files = ("/dev/iommu", "/dev/vfio/3", "/dev/vfio/vfio", "KVM-VFIO device")
    assert found.processes == (Holder(70, "qemu?", files),)
    assert (found.hidden, found.stopped) == (0, None)


def test_there_is_a_bound_on_what_is_looked_at(tmp_path: Path) -> None:
    process(tmp_path, 1, "many", *["/dev/vfio/1"] * 20)
    process(tmp_path, 2, "more", *["/dev/vfio/1"] * 20)
    assert holders(Tree(tmp_path), links=30).stopped == "after 30 open files"
    assert holders(Tree(tmp_path), seconds=0).stopped == "after 0 seconds"
    assert holders(Tree(tmp_path)).stopped is None


def test_a_group_names_who_has_it_open(tmp_path: Path) -> None:
    root = tree("intel-6.12", tmp_path)
    process(root, 70, "qemu", "/dev/vfio/3")
    held = {group["number"]: group["held_by"] for group in as_data(survey(Tree(root)))["groups"]}
    assert held == {number: [70] if number == 3 else [] for number in range(10)}


def test_this_computer_itself() -> None:
    there = survey(Tree(Path("/")))
    assert there.release == os.uname().release
    assert sorted(as_data(there)) == sorted(set(as_data(there)))


# -- the picture ----------------------------------------------------------------------------------

_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_has_every_device_inside_its_frame(name: str, tmp_path: Path) -> None:
    there = computer(name, tmp_path)
    root = ET.fromstring(svg(there))  # noqa: S314 - our own
    texts = [text.text or "" for text in root.iter(f"{_SVG}text")]
    functions = [f for group in there.groups for f in group.functions] or there.ungrouped
    for function in functions:
        assert sum(text.startswith(function.address) for text in texts) == 1
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for rect in root.iter(f"{_SVG}rect"):
        if "x" in rect.attrib:
            x, y, w, h = (float(rect.attrib[k]) for k in ("x", "y", "width", "height"))
            assert x + w <= width
            assert y + h <= height
