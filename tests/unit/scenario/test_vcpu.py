# SPDX-License-Identifier: GPL-2.0-only
"""The operations on vCPUs."""

from __future__ import annotations

import pytest

from kvm_vfio.errors import InputError
from kvm_vfio.scenario.kernels import model_kernel, run
from kvm_vfio.scenario.language import parse

START = "kvm_open k\nvm_create v\nvcpu_create p v\n"


def answers(script: str, linux: str = "6.12") -> list[str]:
    """What the lines after the start came to."""
    lines = run(model_kernel(linux, snoop=False), parse(START + script))
    return [line.partition(" => ")[2].partition(" reg=")[0] for line in lines][3:]


def test_a_state_is_read_changed_and_read_again() -> None:
    first, done, second, third = answers(
        "vcpu_get p regs\nvcpu_set p regs 128:34 129:12\nvcpu_get p regs\nvcpu_get p regs"
    )
    assert done == "0"
    assert first.startswith("0 crc=")
    assert first != second == third


def test_what_a_state_cannot_be_is_einval() -> None:
    assert answers("vcpu_set p sregs 227:80\nvcpu_set p sregs 224:01 227:80") == ["-EINVAL", "0"]
    assert answers("vcpu_get p lapic") == ["-EINVAL"]


def test_cpuid_and_msrs() -> None:
    assert answers("vcpu_cpuid p") == ["0"]
    assert answers("msr_set p 0x174 7\nmsr_get p 0x174\nmsr_get p 0xe1") == ["1", "1 0x7", "0 0x0"]


def test_vcpus_have_numbers() -> None:
    assert answers("vcpu_create q v\nvcpu_create q v 1\nvcpu_create r v -1") == [
        "-EEXIST",
        "fd",
        "-EINVAL",
    ]


def test_lists_of_the_system() -> None:
    few, all_of_them = answers("kvm_list k msrs 3\nkvm_list k supported 100")
    assert few == "-E2BIG"
    assert all_of_them.startswith("0 crc=")


@pytest.mark.parametrize(
    "line",
    [
        "vcpu_get p everything",
        "kvm_list k nothing 1",
        "vcpu_set p regs 12",
        "vcpu_set p regs 12:xx",
        "vcpu_set p regs 144:00",
    ],
)
def test_words_that_mean_nothing(line: str) -> None:
    with pytest.raises(InputError, match="line 4: "):
        answers(line)
