# SPDX-License-Identifier: GPL-2.0-only
"""What a guest's WBINVD does, with and without noncoherent DMA."""

from __future__ import annotations

import pytest

from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.x86.wbinvd import Vcpu, why_wbinvd
from tests.unit.kernel.program import Vmm, start_vmm


@pytest.fixture
def vmm() -> Vmm:
    return start_vmm()


@pytest.fixture
def vm(vmm: Vmm) -> Vm:
    return vmm.model_vm()


@pytest.mark.parametrize("exits", [False, True])
def test_without_noncoherent_dma_it_is_a_no_op(vm: Vm, exits: bool) -> None:
    vcpu = Vcpu(vm, exits=exits)
    for cpu in (0, 1, 0):
        vcpu.load(cpu)
        assert vcpu.wbinvd() == frozenset()
    assert (vcpu.flushes, vcpu.wbinvd_dirty_mask) == ([], set())


def test_where_it_exits_every_cpu_that_may_be_dirty_is_flushed_once(vm: Vm) -> None:
    vm.register_noncoherent_dma()
    vcpu = Vcpu(vm)
    for cpu in (2, 0, 2):
        vcpu.load(cpu)
    assert vcpu.wbinvd() == {0, 2}
    assert vcpu.wbinvd() == {2}
    assert vcpu.flushes == [0, 2, 2]


def test_where_it_exits_a_cpu_left_before_dma_became_noncoherent_is_not_flushed(vm: Vm) -> None:
    vcpu = Vcpu(vm)
    vcpu.load(1)
    vcpu.load(3)
    vm.register_noncoherent_dma()
    assert vcpu.wbinvd() == {3}


def test_where_it_does_not_exit_the_old_cpu_is_flushed_when_the_vcpu_moves(vm: Vm) -> None:
    vm.register_noncoherent_dma()
    vcpu = Vcpu(vm, exits=False)
    for cpu in (1, 1, 2, 0):
        vcpu.load(cpu)
    assert vcpu.flushes == [1, 2]
    assert vcpu.wbinvd() == {0}
    assert vcpu.wbinvd_dirty_mask == set()


def test_it_is_a_no_op_again_when_every_registrar_has_gone(vm: Vm) -> None:
    vcpu = Vcpu(vm)
    vm.register_noncoherent_dma()
    vm.register_noncoherent_dma()
    vcpu.load(0)
    vm.unregister_noncoherent_dma()
    assert vcpu.wbinvd() == {0}
    vm.unregister_noncoherent_dma()
    assert vcpu.wbinvd() == frozenset()


def test_the_reasons_name_the_vm_and_the_member(vmm: Vmm, vm: Vm) -> None:
    assert why_wbinvd(vm) == []
    vmm.program.add(vmm.device, vmm.group)
    assert why_wbinvd(vm) == ["KVM-VFIO device: VFIO group 1: dmar0 has no snoop control"]
