# SPDX-License-Identifier: GPL-2.0-only
"""The module that forces answers: built as kbuild would, from headers that are pretended here."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest.force import _versions, build


def test_a_module_carries_the_checksums_of_what_it_uses() -> None:
    symvers = [
        "0x12345678\tfget\tvmlinux\tEXPORT_SYMBOL\t",
        "0x00000000\tfput\tvmlinux\tEXPORT_SYMBOL\t",
        "0xdeadbeef\tunrelated\tvmlinux\tEXPORT_SYMBOL\t",
        "0x9d45b570\tmodule_layout\tvmlinux\tEXPORT_SYMBOL\t",
    ]
    assert list(_versions(symvers)) == [
        '{ 0x12345678, "fget" }',
        '{ 0x9d45b570, "module_layout" }',
    ]


@pytest.mark.gcc
def test_headers_that_do_not_do_are_quoted(tmp_path: Path) -> None:
    (tmp_path / "Module.symvers").write_text("")
    with pytest.raises(Unsupported, match=r"gcc could not build the module force: .*file\.h"):
        build(tmp_path, tmp_path, tmp_path)


def test_without_a_compiler_the_remedy_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Module.symvers").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unsupported, match="gcc is not here; as root: apt-get install gcc"):
        build(tmp_path, tmp_path, tmp_path)
