# SPDX-License-Identifier: GPL-2.0-only
"""What the scenario language takes, and what it says to what it does not take."""

from __future__ import annotations

import pytest

from kvm_vfio.errors import InputError
from kvm_vfio.scenario.kernels import model_kernel, run
from kvm_vfio.scenario.language import VERBS, Operation, number, parse
from kvm_vfio.scenario.runner import Runner


def lines(script: str, linux: str = "6.12") -> list[str]:
    return list(run(model_kernel(linux, snoop=False), parse(script)))


def test_comments_and_empty_lines_count_but_do_nothing() -> None:
    assert parse("# one\n\n  kvm_open  k \n") == [Operation(3, "kvm_open  k", "kvm_open", ("k",))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kvm_opne k", r"s:1: there is no operation 'kvm_opne'; did you mean 'kvm_open'\?"),
        ("frobnicate", r"s:1: there is no operation 'frobnicate'; see the list"),
        ("kvm_open", r"s:1: 'kvm_open' takes K, and 0 words follow it"),
        ("reset now", r"s:1: 'reset' takes nothing, and 1 words follow it"),
        ("dup a", r"s:1: 'dup' takes NEW OLD, and 1 words follow it"),
        ("child", r"s:1: 'child' takes OPERATION..., and 0 words follow it"),
        ("child kvm_opne k", r"s:1: there is no operation 'kvm_opne'"),
        ("child group_add d", r"s:1: 'group_add' takes D G, and 1 words follow it"),
        ("child close d", r"s:1: a child cannot do 'close'; it can api_version, check_extension,"),
        ("child child read d", r"s:1: a child cannot do 'child'"),
    ],
)
def test_a_line_that_is_none_is_told_with_its_place(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(line, "s")


@pytest.mark.parametrize(
    "line",
    [
        "set_attr d 1 1 nowhere",
        "open f /dev/null sideways",
        "vm_create v k many",
        "ioctl d 0x1 what:1",
        "set_attr d 1 1 int:x",
        "unbind 00:99.0",
        "bind nonsense vfio-pci",
        "group_open g @00:99.0",
        "force_coh k 1",
    ],
)
def test_a_word_that_means_nothing_is_told_after_the_lines_before_it(line: str) -> None:
    done = run(model_kernel("6.12", snoop=False), parse(f"kvm_open k\n{line}\n"))
    assert next(done).startswith("1 kvm_open k => fd")
    with pytest.raises(InputError, match="line 2: "):
        list(done)


def test_every_verb_can_be_performed() -> None:
    assert {f"_do_{verb}" for verb in VERBS} <= set(dir(Runner))


def test_numbers_have_names() -> None:
    assert [number(word) for word in ("type1v2", "CC", "0x10", "-1")] == [3, 4, 16, -1]


def test_echo_is_its_text() -> None:
    assert lines("echo --- one  two") == ["--- one  two"]


def test_a_handle_that_failed_to_open_is_no_fd_any_more() -> None:
    answers = lines("open f /dev/null\nopen f /dev/vfio/99\nread f\nclose f\nclose f")
    assert [answer.split(" => ")[1].split()[0] for answer in answers] == [
        *("fd", "-ENOENT", "-EBADF", "-EBADF", "-EBADF")
    ]


def test_a_device_that_did_not_come_leaves_its_handle_alone() -> None:
    answers = lines("kvm_open k\nvm_create v k\ndev_create d v\ndev_create d v\nhas_attr d 1 1")
    assert answers[3].startswith("4 dev_create d v => -EBUSY fd=untouched ")
    assert answers[4].startswith("5 has_attr d 1 1 => 0 ")


def test_a_vm_that_no_vm_create_made_has_no_name() -> None:
    answers = lines("kvm_open k\nioctl k 0xae01 0\n")
    assert "net[?:0] | vmnew(?)" in answers[1]


def test_reset_closes_the_newest_first() -> None:
    answers = lines("kvm_open k\nvm_create v k\ndev_create d v\nreset\n")
    assert answers[3] == "4 reset => 0 reg=0 unreg=0 net[v:gone=0] | devrel vmdel(v)"


def test_unopened_files_cannot_be_mapped() -> None:
    assert lines("mmap f")[0].startswith("1 mmap f => -EBADF ")


@pytest.mark.parametrize("size", ["0x10000000000", "-1", "0xffffffffffffffff", "0x40000000"])
def test_more_memory_than_there_is_cannot_be_had(size: str) -> None:
    script = "container_open c\ngroup_open g @00:10.0\nset_container g c\nset_iommu c\n"
    assert f" 0 {size} => -ENOMEM " in lines(f"{script}dma_map c 0 {size}\n")[-1]
