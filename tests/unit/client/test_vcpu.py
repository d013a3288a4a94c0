# SPDX-License-Identifier: GPL-2.0-only
"""A vCPU as an object."""

from __future__ import annotations

import pytest

from kvm_vfio import Kvm, Vcpu, model
from kvm_vfio.kernel.kvm.vcpu import NO_GUEST_CODE
from kvm_vfio.kernel.x86.requests import STATES
from kvm_vfio.uapi import kvm_x86 as x86
from tests.unit.client.refusal import errno_of


@pytest.fixture
def kvm() -> Kvm:
    return Kvm(model("6.12"))


@pytest.fixture
def vcpu(kvm: Kvm) -> Vcpu:
    return kvm.create_vm().create_vcpu()


def test_the_lists_of_the_system(kvm: Kvm) -> None:
    assert len(kvm.supported_cpuid()) == 30
    assert [entry.function for entry in kvm.emulated_cpuid()] == [0, 1, 7]
    assert 0x174 in kvm.msr_indices()
    assert 0x8B in kvm.feature_msr_indices()
    assert kvm.vcpu_mmap_size() == 3 * 4096


def test_every_state_that_can_be_read_can_be_set(vcpu: Vcpu) -> None:
    for state in STATES:
        if state.missing is None or state.layout is x86.KVM_SREGS2:
            vcpu.set(state.layout, vcpu.get(state.layout))
    assert errno_of(lambda: vcpu.get(x86.KVM_LAPIC_STATE)) == "EINVAL"


def test_registers_are_structures(vcpu: Vcpu) -> None:
    vcpu.set(x86.KVM_REGS, vcpu.get(x86.KVM_REGS)._replace(rip=0x1000))
    assert vcpu.get(x86.KVM_REGS).rip == 0x1000
    sregs = vcpu.get(x86.KVM_SREGS)
    assert errno_of(lambda: vcpu.set(x86.KVM_SREGS, sregs._replace(cr0=1 << 31))) == "EINVAL"


def test_cpuid_and_msrs(kvm: Kvm, vcpu: Vcpu) -> None:
    assert vcpu.cpuid() == []
    vcpu.set_cpuid(kvm.supported_cpuid())
    assert len(vcpu.cpuid()) == 30
    assert vcpu.set_msr(0x174, 7)
    assert vcpu.msr(0x174) == 7
    assert not vcpu.set_msr(0x277, 2)
    with pytest.raises(KeyError, match="0xe1"):
        vcpu.msr(0xE1)


def test_what_is_about_to_be_delivered(vcpu: Vcpu) -> None:
    vcpu.nmi()
    vcpu.interrupt(33)
    events = vcpu.get(x86.KVM_VCPU_EVENTS)
    assert (events.nmi_pending, events.interrupt_nr) == (1, 33)
    assert errno_of(lambda: vcpu.interrupt(256)) == "EINVAL"


def test_running_says_in_shared_memory_that_nothing_runs(kvm: Kvm, vcpu: Vcpu) -> None:
    memory = vcpu.map_run(kvm.vcpu_mmap_size())
    vcpu.run()
    run = x86.KVM_RUN_LAYOUT.unpack(memory.read(x86.KVM_RUN_LAYOUT.size))
    assert run.exit_reason == x86.KVM_EXIT_FAIL_ENTRY
    assert run.fail_entry_hardware_entry_failure_reason == NO_GUEST_CODE


def test_its_statistics(vcpu: Vcpu) -> None:
    stats = vcpu.stats_fd()
    header = vcpu.syscalls.pread(stats, 24, 0)
    assert int.from_bytes(header[8:12], "little") > 40
    assert b"/vcpu-0" in vcpu.syscalls.pread(stats, 48, 24)
    assert vcpu.tsc_khz() > 1_000_000
