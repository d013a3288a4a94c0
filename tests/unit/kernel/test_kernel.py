# SPDX-License-Identifier: GPL-2.0-only
"""One kernel on one machine: its nodes, its picture, what it is made of."""

from __future__ import annotations

from errno import ENOENT, EWOULDBLOCK

import pytest

from kvm_vfio.kernel.kernel import open_vfio_group
from kvm_vfio.profiles import Profile
from tests.unit.kernel.program import ADDRESS, boot, must, profiles, start_vmm


@pytest.mark.parametrize(
    "path",
    [
        "/dev/vfio",
        "/dev/vfio/",
        "/dev/vfio/0",
        "/dev/vfio/01",
        "/dev/vfio/-1",
        "/dev/vfio/\u0661",
        "/dev/vfio/noiommu-1",
        "/dev/vfio/devices/vfio0",
        "/dev/iommu",
        "dev/kvm",
        "/dev/kvm/",
        "",
    ],
)
def test_no_other_node_is_here(path: str) -> None:
    assert boot().open(path) == -ENOENT


@pytest.mark.parametrize("path", ["/dev/kvm", "/dev/vfio/vfio", "/dev/vfio/1", "/dev/vfio/5"])
@profiles()
def test_the_nodes_that_are_here(profile: Profile, path: str) -> None:
    assert boot(profile).open(path) >= 0


def test_two_kernels_know_nothing_of_each_other() -> None:
    first, second = boot(), boot()
    before = second.kernel.snapshot()
    must(first.vm(), first.group(1))
    assert second.kernel.snapshot() == before
    assert second.group(1) >= 0


def test_the_function_at_an_address() -> None:
    kernel = boot().kernel
    assert kernel.function(ADDRESS[4]).static.address == ADDRESS[4]
    with pytest.raises(KeyError):
        kernel.function("0000:00:10.1")


@profiles()
def test_vfio_is_not_unloaded_while_one_of_its_files_is_open(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    device = program.device_fd(vmm.group, ADDRESS[1])
    for fd in (vmm.group, vmm.container, device):
        assert program.call(program.kernel.unload_vfio) == -EWOULDBLOCK
        program.close(fd)
    program.kernel.unload_vfio()
    assert program.container() == -ENOENT
    assert program.vm() >= 0


def test_equal_pictures_mean_equal_states() -> None:
    vmm = start_vmm()
    program = vmm.program
    before = program.kernel.snapshot()
    must(program.add(vmm.device, vmm.group))
    added = program.kernel.snapshot()
    must(program.map_dma(vmm.container, 0))
    mapped = program.kernel.snapshot()
    assert len({before, added, mapped}) == 3
    must(program.unmap_dma(vmm.container, 0), program.delete(vmm.device, vmm.group))
    assert program.kernel.snapshot() == before


def test_the_group_behind_a_file() -> None:
    vmm = start_vmm()
    fget = vmm.program.task.fget
    assert open_vfio_group(fget(vmm.group)) is vmm.program.kernel.vfio_groups[1]
    assert open_vfio_group(fget(vmm.container)) is None
