# SPDX-License-Identifier: GPL-2.0-only
"""What KVM asks of VFIO, where the KVM-VFIO device's own tests do not reach."""

from __future__ import annotations

from errno import EINVAL, ENOENT, EWOULDBLOCK

import pytest

from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles import PROFILES, Profile
from tests.unit.kernel.program import (
    ADDRESS,
    MACHINE,
    SNOOPING,
    Program,
    Vmm,
    boot,
    must,
    profiles,
    since,
    start_vmm,
)

# -- VFIO taken out under a member -----------------------------------------------------------------


def unloaded(profile: Profile, machine: Machine = MACHINE) -> Vmm:
    """A VM with one member, whose every VFIO file is closed and whose VFIO is gone."""
    vmm = start_vmm(profile, machine)
    program = vmm.program
    must(program.add(vmm.device, vmm.group))
    program.close(vmm.group, vmm.container)
    program.kernel.unload_vfio()
    vmm.heard()
    return vmm


@profiles("6.1", "6.12", "6.18", "7.3")
def test_since_5_19_a_member_is_an_open_file_and_keeps_vfio_loaded(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    must(program.add(vmm.device, vmm.group))
    program.close(vmm.group, vmm.container)
    assert program.call(program.kernel.unload_vfio) == -EWOULDBLOCK


@profiles("2013", "4.19", "5.10")
def test_until_5_18_a_members_reference_leaks_when_vfio_has_gone(profile: Profile) -> None:
    vmm = unloaded(profile)
    program = vmm.program
    program.close(vmm.device, vmm.vm)
    assert vmm.recorder.references == ["taken VFIO group 1", "leaked VFIO group 1"]
    assert vmm.heard().split()[-1] in ("vmdel", "unreg")
    assert program.kernel.snapshot().vms == ()
    assert program.kernel.snapshot().vfio_groups[0].container_users == 1


def test_without_vfio_there_are_no_nodes_and_no_groups() -> None:
    vmm = unloaded(PROFILES["2013"])
    program = vmm.program
    assert program.container() == -ENOENT
    assert program.group(1) == -ENOENT
    assert program.add(vmm.device, vmm.vm) == -EINVAL
    assert program.delete(vmm.device, vmm.vm) == -EINVAL


@pytest.mark.parametrize("watched", [False, True])
def test_in_5_10_without_vfio_nobody_can_say_that_a_member_is_coherent(watched: bool) -> None:
    vmm = unloaded(PROFILES["5.10"], SNOOPING)
    program = vmm.program
    program.kernel.external.watched = watched
    assert vmm.model_vm().noncoherent_dma_count == 0
    assert program.delete(vmm.device, vmm.vm) == -ENOENT
    assert vmm.model_vm().noncoherent_dma_count == 1
    (reason,) = vmm.model_device().noncoherent_because()
    assert "VFIO is not loaded" in reason


def test_in_5_10_without_vfio_nobody_is_told_of_a_vm() -> None:
    vmm = unloaded(PROFILES["5.10"])
    vmm.program.close(vmm.device, vmm.vm)
    assert vmm.heard() == "vmdel devdtor unasg unreg"


# -- reasons ---------------------------------------------------------------------------------------


def reason(vmm: Vmm) -> str:
    (text,) = vmm.model_device().noncoherent_because()
    return text


@since(
    {
        "2013": "the patch takes every member for noncoherent",
        "4.19": "its container's domain does not enforce coherency",
        "6.12": "dmar0 has no snoop control",
    }
)
def test_why_a_member_is_noncoherent(profile: Profile, expected: str) -> None:
    vmm = start_vmm(profile)
    must(vmm.program.add(vmm.device, vmm.group))
    assert expected in reason(vmm)


def test_in_6_1_a_container_without_an_iommu_is_a_reason() -> None:
    vmm = start_vmm(PROFILES["6.1"], SNOOPING)
    program = vmm.program
    group = program.group(2)
    must(program.set_container(group, program.container()), program.add(vmm.device, group))
    assert "its container has no IOMMU set" in reason(vmm)


def test_in_6_1_a_member_that_is_coherent_by_rule_has_no_container() -> None:
    vmm = start_vmm(PROFILES["6.1"])
    program = vmm.program
    group = program.group(2)
    program.kernel.external.force(program.file(group, GroupFile), answer=False)
    must(program.add(vmm.device, group))
    assert reason(vmm) == "VFIO group 2: it has no container"


def test_a_device_file_has_its_iommu_for_a_reason() -> None:
    vmm = start_vmm()
    program = vmm.program
    must(program.add(vmm.device, program.device_fd(vmm.group, ADDRESS[1])))
    assert reason(vmm) == "VFIO device 0000:00:10.0: dmar0 has no snoop control"


# -- misuse ----------------------------------------------------------------------------------------


def test_a_vfio_group_is_no_member_where_members_are_files() -> None:
    kernel = boot().kernel
    with pytest.raises(TypeError, match="no member"):
        kernel.external.put(kernel.vfio_groups[1])


def test_judging_asks_nobody_and_tells_nobody() -> None:
    vmm = start_vmm()
    program: Program = vmm.program
    assert not program.kernel.external.judge(program.file(vmm.group, GroupFile))
    assert vmm.heard() == ""
