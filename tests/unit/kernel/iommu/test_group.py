# SPDX-License-Identifier: GPL-2.0-only
"""IOMMU groups: who drives which function, and what that means for VFIO."""

from __future__ import annotations

from errno import EBUSY, EINVAL, ENODEV, ENOENT

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.profiles import Profile
from kvm_vfio.uapi.vfio import VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE
from tests.unit.kernel.program import Program, boot, must, profiles, since, start_vmm

VIABLE, CONTAINER = VFIO_GROUP_FLAGS_VIABLE, VFIO_GROUP_FLAGS_CONTAINER_SET


@pytest.fixture
def program() -> Program:
    return boot()


@pytest.mark.parametrize("driver", [None, "vfio-pci", "pci-stub", "pcieport", "serial", "nvme"])
def test_a_group_is_viable_unless_a_driver_in_it_does_dma_of_its_own(
    program: Program, driver: str | None
) -> None:
    function = program.kernel.function("0000:00:14.1")
    function.remove()
    assert function.probe(driver)
    native = driver in ("serial", "nvme")
    assert function.iommu_group.viable() == (not native)
    assert function.iommu_group.intruders() == (f"0000:00:14.1 ({driver})" if native else "")


def test_a_node_comes_with_the_first_device_of_vfio_and_goes_with_the_last(
    program: Program,
) -> None:
    function = program.kernel.function("0000:00:1f.0")
    assert program.group(6) == -ENOENT
    assert function.probe("vfio-pci")
    assert program.group(6) >= 0
    program.exit()
    function.remove()
    assert program.group(6) == -ENOENT
    assert function.vfio_device is None


def test_a_second_device_joins_the_vfio_group_that_is_there(program: Program) -> None:
    group = program.group(5)
    function = program.kernel.function("0000:00:14.1")
    function.remove()
    assert program.status(group) == VIABLE
    assert function.probe("vfio-pci")
    assert list(program.kernel.vfio_groups[5].devices) == ["0000:00:14.0", "0000:00:14.1"]
    function.remove()
    assert program.status(group) == VIABLE


@profiles()
def test_a_group_in_a_container_takes_no_native_driver(profile: Profile) -> None:
    program = boot(profile)
    function = program.kernel.function("0000:00:14.1")
    function.remove()
    group = program.group(5)
    must(program.set_container(group, program.container()))
    if profile.group_claims_dma:
        assert not function.probe("serial")
    else:
        with pytest.raises(NotModelled, match="a BUG"):
            function.probe("serial")
    assert function.driver is None
    assert function.probe("pci-stub")
    assert program.status(group) == VIABLE | CONTAINER
    must(program.unset_container(group))
    assert function.probe("serial")
    assert program.status(group) == 0


@profiles()
def test_a_device_in_use_is_not_unbound_while_it_is_in_use(profile: Profile) -> None:
    vmm = start_vmm(profile)
    vmm.program.device_fd(vmm.group, "0000:00:10.0")
    with pytest.raises(NotModelled, match=r"0000:00:10\.0 waits"):
        vmm.program.kernel.function("0000:00:10.0").remove()


@profiles("2013", "4.19", "5.10")
def test_until_5_18_the_last_device_of_a_group_in_a_container_waits(profile: Profile) -> None:
    vmm = start_vmm(profile)
    with pytest.raises(NotModelled, match="VFIO group 1 is given up"):
        vmm.program.kernel.function("0000:00:10.0").remove()


@profiles("6.1", "6.12", "6.18", "7.3")
def test_since_5_19_the_last_device_takes_the_container_along(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    must(program.map_dma(vmm.container, 0))
    program.kernel.function("0000:00:10.0").remove()
    assert program.map_dma(vmm.container, 0) == -EINVAL
    assert program.status(vmm.group) == -ENODEV
    assert program.set_container(vmm.group, vmm.container) == -ENODEV
    assert program.unset_container(vmm.group) == -EINVAL
    assert program.device_fd(vmm.group, "0000:00:10.0") == -ENODEV
    program.exit()
    assert program.kernel.snapshot().vms == ()


@since({"2013": -EBUSY, "6.1": 0})
def test_whether_a_device_that_comes_back_joins_the_group_that_is_still_open(
    profile: Profile, expected: int
) -> None:
    program = boot(profile)
    old = program.group(1)
    function = program.kernel.function("0000:00:10.0")
    function.remove()
    assert function.probe("vfio-pci")
    assert min(program.group(1), 0) == expected
    assert program.status(old) == (-ENODEV if expected == 0 else VIABLE)
    program.exit()
    assert program.group(1) >= 0


@profiles("2013", "4.19", "5.10")
def test_until_5_18_a_group_without_devices_goes_with_its_last_close(profile: Profile) -> None:
    program = boot(profile)
    group = program.group(1)
    program.kernel.function("0000:00:10.0").remove()
    assert program.group(1) == -EBUSY
    program.close(group)
    assert program.group(1) == -ENOENT


@since({"2013": VIABLE, "6.1": -ENODEV})
def test_what_the_status_of_a_group_without_devices_is(profile: Profile, expected: int) -> None:
    program = boot(profile)
    group = program.group(1)
    program.kernel.function("0000:00:10.0").remove()
    assert program.status(group) == expected
