# SPDX-License-Identifier: GPL-2.0-only
"""What a recording cannot show of the ordinary files on the model."""

from __future__ import annotations

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.scenario.kernels import model_kernel, run
from kvm_vfio.scenario.language import parse


def results(script: str) -> list[str]:
    lines = run(model_kernel("6.1", snoop=False), parse(script))
    return [line.partition(" => ")[2].split(" ")[0] for line in lines]


def test_two_opens_share_the_content_and_not_the_position() -> None:
    script = "mkfile a /tmp/x\nwrite a\nopen b /tmp/x\nread b\nread b\nread a"
    assert results(script) == ["fd", "1", "fd", "1", "0", "0"]


def test_a_child_has_the_same_files_and_a_script_leaves_none() -> None:
    assert results("mkfile a /tmp/x\nchild_close_exit\nopen b /tmp/x") == ["fd", "0", "fd"]
    assert results("open b /tmp/x") == ["-ENOENT"]


def test_a_pipe_has_as_many_ends_as_are_open() -> None:
    script = "pipe r w\ndup w2 w\nclose w\nread r\nclose w2\nread r"
    assert results(script) == ["0", "fd", "0", "-EAGAIN", "0", "0"]


@pytest.mark.parametrize("line", ["ioctl f 0x541b bad", "ioctl f 0xc020660b bad"])
def test_a_request_of_a_file_system_is_not_modelled(line: str) -> None:
    with pytest.raises(NotModelled, match=r"on /tmp/x is not modelled"):
        results(f"mkfile f /tmp/x\n{line}")


def test_whether_an_unknown_directory_takes_a_file_is_not_modelled() -> None:
    with pytest.raises(NotModelled, match="whether /srv/x can be made"):
        results("mkfile f /srv/x")
