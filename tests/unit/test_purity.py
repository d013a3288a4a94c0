# SPDX-License-Identifier: GPL-2.0-only
"""The model cannot touch the computer it runs on: its packages import nothing that could.

import-linter says the same of every indirect import; this says it first, and of one file at a time.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "kvm_vfio"
PURE = ("uapi", "profiles", "machine", "kernel")
IMPURE = ("load", "storage", "devices")  # reading files is their purpose
IMPURE_FILES = {SOURCE / "machine" / f"{name}.py" for name in IMPURE}
# fmt: off
FORBIDDEN = frozenset([
    "os", "posix", "io", "fcntl", "ctypes", "mmap", "socket", "select", "selectors", "signal",
    "subprocess", "multiprocessing", "threading", "_thread", "asyncio", "concurrent", "time",
    "datetime", "random", "secrets", "pathlib", "tempfile", "shutil", "importlib", "logging",
])
# fmt: on
FILES = [
    path
    for package in PURE
    for path in sorted((SOURCE / package).rglob("*.py"))
    if path not in IMPURE_FILES
]


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def impure(source: str) -> list[str]:
    roots = {name.split(".")[0] for name in imported(ast.parse(source))}
    known = (sys.stdlib_module_names - FORBIDDEN) | {"kvm_vfio"}
    return sorted(roots - known)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_nothing_that_touches_the_computer(path: Path) -> None:
    assert impure(path.read_text()) == []


def test_every_pure_package_is_looked_at() -> None:
    assert {path.relative_to(SOURCE).parts[0] for path in FILES} == set(PURE)


@pytest.mark.parametrize(
    "source",
    ["import os", "import os.path", "from time import sleep", "def f():\n    import msgspec"],
)
def test_an_impure_import_is_seen(source: str) -> None:
    assert len(impure(source)) == 1


def test_a_call_of_import_is_not_a_way_round() -> None:
    for path in FILES:
        nodes = ast.walk(ast.parse(path.read_text()))
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        assert names.isdisjoint({"__import__", "open", "exec", "eval"}), path
