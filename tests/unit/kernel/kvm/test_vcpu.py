# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU: how it comes, its memory, how long it lives, and that it runs nothing."""

from __future__ import annotations

from errno import EEXIST, EINTR, EINVAL, EIO, ENOMEM

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.kvm.vcpu import NO_GUEST_CODE, Vcpu, VcpuFile
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm import KVM_CREATE_VCPU
from kvm_vfio.uapi.kvm_x86 import (
    KVM_EXIT_FAIL_ENTRY,
    KVM_GET_REGS,
    KVM_RUN,
    KVM_RUN_LAYOUT,
)
from tests.unit.kernel.program import Program, boot, failing

SIZE = 3 * 4096


def with_vcpu(profile: Profile = DEFAULT) -> tuple[Program, int, int]:
    """A program, its VM and the VM's vCPU 0."""
    program = boot(profile)
    vm = program.vm()
    return program, vm, program.ioctl(vm, KVM_CREATE_VCPU)


@pytest.mark.parametrize(
    ("linux", "vcpus", "ids"),
    [("5.10", 288, 1023), ("6.1", 1024, 4096), ("6.12", 4096, 16384), ("7.3", 4096, 16384)],
)
def test_how_many_vcpus_and_which_numbers(linux: str, vcpus: int, ids: int) -> None:
    program = boot(PROFILES[linux])
    vm = program.vm()
    assert program.ioctl(vm, KVM_CREATE_VCPU, ids - 1) >= 0
    assert program.ioctl(vm, KVM_CREATE_VCPU, ids) == -EINVAL
    for number in range(vcpus - 1):
        assert program.ioctl(vm, KVM_CREATE_VCPU, number) >= 0
    assert program.ioctl(vm, KVM_CREATE_VCPU, vcpus) == -EINVAL


def test_a_number_is_given_once_also_when_its_fd_is_closed() -> None:
    program, vm, vcpu = with_vcpu()
    assert program.ioctl(vm, KVM_CREATE_VCPU) == -EEXIST
    program.close(vcpu)
    assert program.ioctl(vm, KVM_CREATE_VCPU) == -EEXIST
    assert program.ioctl(vm, KVM_CREATE_VCPU, 1) >= 0


def test_a_vcpu_for_which_there_is_no_memory_is_no_vcpu() -> None:
    program = boot(allocate=failing([1], KernelError(ENOMEM, "no memory")))
    vm = program.vm()
    assert program.ioctl(vm, KVM_CREATE_VCPU) == -ENOMEM
    assert program.ioctl(vm, KVM_CREATE_VCPU) >= 0


def test_it_keeps_its_vm() -> None:
    program, vm, vcpu = with_vcpu()
    program.close(vm)
    assert len(program.kernel.vms) == 1
    assert program.ioctl(vcpu, KVM_GET_REGS, program.put(bytes(144))) == 0
    program.close(vcpu)
    assert program.kernel.vms == {}


def test_it_belongs_to_the_process_that_made_the_vm() -> None:
    program, _, vcpu = with_vcpu()
    assert program.fork().ioctl(vcpu, KVM_GET_REGS) == -EIO
    assert program.fork().ioctl(vcpu, 0) == -EIO


def test_what_it_does_not_know_is_einval() -> None:
    program, _, vcpu = with_vcpu()
    assert program.ioctl(vcpu, 0) == -EINVAL
    assert program.file(vcpu, VcpuFile).name == "vCPU 0 of VM 1"


# -- its memory ------------------------------------------------------------------------------------


def test_its_memory_is_shared_by_all_who_map_it() -> None:
    program, _, vcpu = with_vcpu()
    file = program.file(vcpu, VcpuFile)
    whole = file.mmap(program.task, SIZE, 0, writable=True)
    last = file.mmap(program.task, 4096, 2 * 4096, writable=True)
    whole[SIZE - 1 : SIZE] = b"x"
    assert bytes(last[4095:4096]) == b"x"
    with pytest.raises(NotModelled, match="SIGBUS"):
        file.mmap(program.task, SIZE + 4096, 0, writable=True)


# -- running ---------------------------------------------------------------------------------------


class Wanted(Observer):
    def __init__(self) -> None:
        self.vcpus: list[Vcpu] = []

    def guest_code_wanted(self, vcpu: Vcpu) -> None:
        self.vcpus.append(vcpu)


def test_running_it_says_that_nothing_runs() -> None:
    wanted = Wanted()
    program = boot(observer=wanted)
    vcpu = program.ioctl(program.vm(), KVM_CREATE_VCPU)
    memory = program.file(vcpu, VcpuFile).mmap(program.task, 4096, 0, writable=True)
    assert program.ioctl(vcpu, KVM_RUN) == 0
    run = KVM_RUN_LAYOUT.unpack(bytes(memory[: KVM_RUN_LAYOUT.size]))
    assert run.exit_reason == KVM_EXIT_FAIL_ENTRY
    assert run.fail_entry_hardware_entry_failure_reason == NO_GUEST_CODE == 0x6B766D2D7666696F
    assert run.apic_base == 0xFEE00900
    assert [each.vcpu_id for each in wanted.vcpus] == [0]


def test_an_immediate_exit_and_an_argument_are_refused_as_ever() -> None:
    wanted = Wanted()
    program = boot(observer=wanted)
    vcpu = program.ioctl(program.vm(), KVM_CREATE_VCPU)
    memory = program.file(vcpu, VcpuFile).mmap(program.task, 4096, 0, writable=True)
    memory[1:2] = b"\1"
    assert program.ioctl(vcpu, KVM_RUN) == -EINTR
    assert program.ioctl(vcpu, KVM_RUN, 1) == -EINVAL
    assert wanted.vcpus == []


def test_without_a_recording_there_are_no_vcpus() -> None:
    program = boot(PROFILES["2013"])
    vm = program.vm()
    with pytest.raises(NotModelled, match="recorded"):
        program.ioctl(vm, KVM_CREATE_VCPU)
