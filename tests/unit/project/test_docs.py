# SPDX-License-Identifier: GPL-2.0-only
"""The documentation, as far as it can be judged without Sphinx: `./dev docs` does the rest."""

from __future__ import annotations

import importlib.util
import pkgutil
import re
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest

import kvm_vfio.kernel
from kvm_vfio.kernel.file import File

DOCS = Path(__file__).parents[3] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_TOCTREE = re.compile(r"^[:`]{3,}\{toctree\}\n(.*?)^[:`]{3,}$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def conf() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_read_from_the_program(conf: ModuleType) -> None:
    requests, profiles = (conf.myst_substitutions[name] for name in ("requests", "profiles"))
    assert "| `VFIO_GROUP_UNSET_CONTAINER` | full | EINVAL, EBUSY |" in requests
    assert re.search(r"^\| `coherency` \| never \|.*\| devices \|$", profiles, re.MULTILINE)


def kinds(of: type[File]) -> set[type[File]]:
    """All kinds of files of the model, and `of`."""
    return {of}.union(*(kinds(kind) for kind in of.__subclasses__()))


def test_every_kind_of_file_is_in_the_reference(conf: ModuleType) -> None:
    for module in pkgutil.walk_packages(kvm_vfio.kernel.__path__, "kvm_vfio.kernel."):
        importlib.import_module(module.name)
    ours = {kind for kind in kinds(File) if kind.__module__.startswith("kvm_vfio.kernel.")}
    known = {kind for kind in ours if any(len(table.rows) for table in kind.tables()[1:])}
    assert {kind.__name__ for kind in known - set(conf._FILES.values())} == set()


def test_every_line_of_a_table_has_as_many_cells(conf: ModuleType) -> None:
    for text in conf.myst_substitutions.values():
        for table in re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE):
            assert len({line.count("|") for line in table.strip().split("\n")}) == 1


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text()) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_contents() -> None:
    listed: set[str] = {"index"}
    for page in PAGES:
        for block in _TOCTREE.findall(page.read_text()):
            for line in block.split("\n"):
                if line and not line.startswith(":"):
                    listed.add((page.parent / line).relative_to(DOCS).as_posix())
    names = [page.relative_to(DOCS).with_suffix("").as_posix() for page in PAGES]
    missing = [
        name
        for name in names
        if not any(fnmatch(name, each) and name.count("/") == each.count("/") for each in listed)
    ]
    assert missing == []


def test_what_is_outside_is_named_and_not_linked(conf: ModuleType) -> None:
    text = "see [`a.py`](../src/a.py), [this](page.md) and [that](../page.md#part)"
    assert conf._OUTSIDE.sub(conf._outside, text) == (
        "see `a.py` (`src/a.py`), [this](page.md) and [that](../page.md#part)"
    )
