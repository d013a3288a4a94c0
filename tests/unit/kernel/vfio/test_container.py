# SPDX-License-Identifier: GPL-2.0-only
"""Containers: groups that share one IOMMU context."""

from __future__ import annotations

from errno import EINVAL, ENODEV, ENOTTY, EPERM, errorcode

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.profiles import Profile
from kvm_vfio.uapi.vfio import (
    VFIO_DMA_CC_IOMMU,
    VFIO_EEH,
    VFIO_GET_API_VERSION,
    VFIO_NOIOMMU_IOMMU,
    VFIO_SPAPR_TCE_IOMMU,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1_NESTING_IOMMU,
    VFIO_UNMAP_ALL,
    VFIO_UPDATE_VADDR,
    VFIO_TYPE1v2_IOMMU,
)
from tests.unit.kernel.program import (
    ADDRESS,
    MACHINE,
    SNOOPING,
    Program,
    answer_since,
    boot,
    must,
    profiles,
    since,
)


@pytest.fixture
def program() -> Program:
    return boot()


def filled(program: Program, *numbers: int) -> tuple[int, list[int]]:
    """A container with these groups, without an IOMMU."""
    container = program.container()
    groups = [program.group(number) for number in numbers]
    must(*(program.set_container(group, container) for group in groups))
    return container, groups


@profiles()
def test_the_api_version_is_0(profile: Profile) -> None:
    program = boot(profile)
    assert program.ioctl(program.container(), VFIO_GET_API_VERSION) == 0


@since({"2013": "EINVAL", "6.1": "ENODEV"})
def test_a_container_cannot_be_mapped(profile: Profile, expected: str) -> None:
    program = boot(profile)
    with pytest.raises(KernelError) as error:
        program.task.fget(program.container()).mmap(program.task, PAGE, 0, writable=True)
    assert errorcode[error.value.args[0]] == expected


@profiles()
def test_an_unknown_request_is_einval_before_set_iommu_and_enotty_with_type1(
    profile: Profile,
) -> None:
    program = boot(profile)
    container, _ = filled(program, 1)
    assert program.ioctl(container, 0x3B00) == -EINVAL
    must(program.set_iommu(container))
    assert program.ioctl(container, 0x3B00) == -ENOTTY


# Extension by extension: the answer before SET_IOMMU and with type1, on a machine without snoop
# control and on one with it.
EXTENSIONS = {
    VFIO_TYPE1_IOMMU: {"2013": "1 1 1"},
    VFIO_TYPE1v2_IOMMU: {"2013": "0 0 0", "4.19": "1 1 1"},
    VFIO_DMA_CC_IOMMU: {"2013": "0 0 0", "4.19": "0 0 1"},
    VFIO_TYPE1_NESTING_IOMMU: {"2013": "0 0 0", "4.19": "1 1 1", "6.18": "0 0 0"},
    VFIO_UNMAP_ALL: {"2013": "0 0 0", "6.1": "1 1 1"},
    VFIO_UPDATE_VADDR: {"2013": "0 0 0", "6.1": "0 1 1"},
    VFIO_SPAPR_TCE_IOMMU: {"2013": "0 0 0"},
    VFIO_EEH: {"2013": "0 0 0"},
    VFIO_NOIOMMU_IOMMU: {"2013": "0 0 0"},
    99: {"2013": "0 0 0"},
    1 << 32 | VFIO_TYPE1_IOMMU: {"2013": "0 0 0"},
}


@profiles()
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_which_extensions_there_are(profile: Profile, extension: int) -> None:
    found = []
    for machine in (MACHINE, SNOOPING):
        program = boot(profile, machine)
        container, _ = filled(program, 1)
        found.append(program.extension(container, extension))
        must(program.set_iommu(container))
        found.append(program.extension(container, extension))
    assert found[0] == found[2]
    wanted = answer_since(EXTENSIONS[extension], profile)
    assert f"{found[0]} {found[1]} {found[3]}" == wanted


@since({"2013": (0, -ENODEV), "4.19": (0, 0)})
def test_which_types_of_iommu_there_are(profile: Profile, expected: tuple[int, int]) -> None:
    answers = []
    for kind in (VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU):
        program = boot(profile)
        container, _ = filled(program, 1)
        answers.append(program.set_iommu(container, kind))
        assert program.set_iommu(container, kind) == (-EINVAL if answers[-1] == 0 else -ENODEV)
    assert tuple(answers) == expected


@profiles()
@pytest.mark.parametrize("kind", [0, VFIO_SPAPR_TCE_IOMMU, VFIO_NOIOMMU_IOMMU, 99, 1 << 32 | 1])
def test_a_type_that_no_driver_offers_is_enodev(profile: Profile, kind: int) -> None:
    program = boot(profile)
    container, _ = filled(program, 1)
    assert program.set_iommu(container, kind) == -ENODEV


@since({"2013": -ENODEV, "6.1": -EINVAL, "6.18": -ENODEV})
def test_this_iommu_does_not_nest(profile: Profile, expected: int) -> None:
    program = boot(profile)
    container, _ = filled(program, 1)
    assert program.set_iommu(container, VFIO_TYPE1_NESTING_IOMMU) == expected
    assert program.set_iommu(container) == 0


@profiles("6.1", "6.12")
def test_an_extension_that_is_no_type_is_einval(profile: Profile) -> None:
    program = boot(profile)
    container, _ = filled(program, 1)
    assert program.set_iommu(container, VFIO_UNMAP_ALL) == -EINVAL


@profiles()
def test_an_iommu_is_einval_without_a_group_and_the_second_time_whatever_the_type(
    profile: Profile,
) -> None:
    program = boot(profile)
    container = program.container()
    group = program.group(1)
    assert program.set_iommu(container) == -EINVAL
    assert program.set_iommu(container, 99) == -EINVAL
    must(program.set_container(group, container), program.set_iommu(container))
    assert program.set_iommu(container) == -EINVAL
    assert program.set_iommu(container, 99) == -EINVAL


@profiles()
def test_without_interrupt_remapping_set_iommu_is_eperm_and_sets_nothing(
    profile: Profile,
) -> None:
    program = boot(profile)
    container, (safe, unsafe) = filled(program, 1, 8)
    assert program.set_iommu(container) == -EPERM
    must(program.unset_container(unsafe), program.set_iommu(container))
    before = program.kernel.snapshot()
    assert program.set_container(unsafe, container) == -EPERM
    assert program.kernel.snapshot() == before
    assert program.unset_container(safe) == 0


def test_the_last_group_takes_the_iommu_and_every_mapping_along(program: Program) -> None:
    container, (first, second) = filled(program, 1, 2)
    must(program.set_iommu(container), program.map_dma(container, 0))
    must(program.unset_container(first))
    assert program.map_dma(container, 0x1000) == 0
    must(program.unset_container(second))
    assert program.map_dma(container, 0x2000) == -EINVAL
    must(program.set_container(first, container), program.set_iommu(container))
    assert program.map_dma(container, 0) == 0


def test_a_group_that_comes_later_joins_the_iommu_that_is_set(program: Program) -> None:
    container, _ = filled(program, 7)
    must(program.set_iommu(container))
    assert program.extension(container, VFIO_DMA_CC_IOMMU) == 1
    later = program.group(1)
    must(program.set_container(later, container))
    assert program.extension(container, VFIO_DMA_CC_IOMMU) == 0
    must(program.unset_container(later))
    assert program.extension(container, VFIO_DMA_CC_IOMMU) == 1


def test_a_container_lives_on_in_its_groups_when_its_fd_is_closed(program: Program) -> None:
    container, (group,) = filled(program, 1)
    must(program.set_iommu(container))
    program.close(container)
    assert program.device_fd(group, ADDRESS[1]) >= 0
