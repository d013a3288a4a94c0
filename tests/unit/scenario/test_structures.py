# SPDX-License-Identifier: GPL-2.0-only
"""KVM's requests by name in scripts, and what chance makes of them."""

from __future__ import annotations

from random import Random

import pytest

from kvm_vfio.errors import InputError
from kvm_vfio.scenario import generate_vm
from kvm_vfio.scenario.kernels import model_kernel, run
from kvm_vfio.scenario.language import parse
from kvm_vfio.scenario.structures import REQUESTS
from kvm_vfio.uapi import kvm_vm


def answers(*script: str) -> list[str]:
    lines = ("kvm_open k", "vm_create v", "eventfd e", *script)
    kernel = model_kernel("6.12", snoop=False)
    told = list(run(kernel, parse("\n".join(lines))))[3:]
    return [line.partition(" => ")[2].partition(" reg=")[0] for line in told]


def test_numbers_fds_and_bytes() -> None:
    assert answers(
        "kvm v KVM_CREATE_IRQCHIP 0",
        "kvm v KVM_IRQFD fd=fd:e gsi=5",
        "kvm v KVM_IRQFD fd=fd:nobody gsi=5",
        "signal e",
        "read e",
        "kvm v KVM_GET_IRQCHIP chip_id=0",
        "kvm v KVM_SET_IRQCHIP chip=0102",
        "kvm v KVM_GET_IRQCHIP chip_id=0",
        "kvm v KVM_GET_IRQCHIP null",
    ) == [
        "0",
        "0",
        "-EBADF",
        "8",
        "-EAGAIN",
        f"0 chip=0020{'00' * 13}f8",
        "0 chip=0102",
        "0 chip=0102",
        "-EFAULT",
    ]


def test_words_after_the_structure_and_what_comes_back() -> None:
    assert answers(
        "kvm v KVM_CREATE_IRQCHIP",
        "kvm v KVM_SET_GSI_ROUTING nr=1 u32:3,1,0,0,0,3,0,0,0,0,0,0",
        "kvm v KVM_IRQ_LINE_STATUS irq=3 level=1",
        "kvm v KVM_IRQ_LINE_STATUS irq=4 level=1",
        "kvm_fd u v KVM_CREATE_VCPU 0",
        "kvm_fd u v KVM_CREATE_VCPU 1",
        "child kvm v KVM_SET_TSS_ADDR 0",
    ) == ["0", "0", "0 irq=0x1 level=0x1", "0 irq=0xffffffff level=0x1", "fd", "fd", "-EIO"]


def test_the_time_is_not_told() -> None:
    script = ("kvm v KVM_CREATE_IRQCHIP 0", "kvm v KVM_CREATE_PIT 0")
    told = answers(*script, "kvm v KVM_SET_CLOCK clock=1", "kvm v KVM_GET_CLOCK flags=0")
    assert told == ["0"] * 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("kvm v KVM_NONSENSE 0", "there is no request 'KVM_NONSENSE' of KVM"),
        ("kvm v KVM_IRQFD fd=1 nonsense=2", "kvm_irqfd has no field 'nonsense'"),
        ("kvm v KVM_IRQFD fd=nonsense gsi=1", "there is no kind of address 'nonsense'"),
        ("kvm v KVM_SET_IRQCHIP chip_id=0 chip=xy", "non-hexadecimal"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        answers(line)


def test_every_request_that_chance_makes_is_one_of_a_vm() -> None:
    of_vm = {request.name: request for request in kvm_vm.VM_REQUESTS.values()}
    for name, fields in generate_vm.CALLS.items():
        layout = REQUESTS[name].layout
        assert name in of_vm
        assert set(fields) == {""} if layout is None else set(fields) <= set(layout.offsets)


def test_chance_can_be_had_again_and_every_line_is_understood() -> None:
    lines = [generate_vm.line(Random(seed), "v", lambda _: "e") for seed in range(300)]
    assert lines == [generate_vm.line(Random(seed), "v", lambda _: "e") for seed in range(300)]
    assert len(answers(*lines)) == 300
