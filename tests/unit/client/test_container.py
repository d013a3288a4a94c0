# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from kvm_vfio import Container, Group, ModelSyscalls, model
from kvm_vfio.client import IommuInfo, Migration
from kvm_vfio.uapi.vfio import (
    VFIO_DMA_CC_IOMMU,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU,
    vfio_iova_range,
)
from tests.unit.client.refusal import errno_of

MEGA = 1 << 20


def container_in(linux: ModelSyscalls, kind: int = VFIO_TYPE1v2_IOMMU) -> Container:
    """A container with group 1 and an IOMMU."""
    container = Container(linux)
    Group(linux, 1).set_container(container)
    container.set_iommu(kind)
    return container


@pytest.fixture
def linux() -> ModelSyscalls:
    return model()


def test_a_container_before_it_has_an_iommu(linux: ModelSyscalls) -> None:
    container = Container(linux)
    assert container.api_version() == 0
    assert container.check_extension(VFIO_TYPE1v2_IOMMU) == 1
    for call in (container.set_iommu, container.info, container.unmap_all):
        assert errno_of(call) == "EINVAL"


@pytest.mark.parametrize("snoops", [False, True])
def test_coherency_is_an_extension(*, snoops: bool) -> None:
    container = container_in(model(snoop_control=snoops))
    assert container.check_extension(VFIO_DMA_CC_IOMMU) == snoops


def test_what_the_iommu_can_do(linux: ModelSyscalls) -> None:
    container = container_in(linux)
    container.map_dma(linux.mmap(-1, MEGA), 0)
    assert container.info() == IommuInfo(
        page_sizes=0x4020_1000,
        iova_ranges=(
            vfio_iova_range(0, 0xFEDF_FFFF),
            vfio_iova_range(0xFEF0_0000, (1 << 39) - 1),
        ),
        available=65534,
        migration=Migration(page_sizes=4096, largest_bitmap=256 * MEGA),
    )


def test_the_patchs_kernel_says_page_sizes_and_no_more() -> None:
    container = container_in(model("2013"), VFIO_TYPE1_IOMMU)
    assert container.info() == IommuInfo(page_sizes=0xFFFF_FFFF_FFFF_F000)


def test_memory_is_mapped_and_unmapped(linux: ModelSyscalls) -> None:
    container, memory = container_in(linux), linux.mmap(-1, MEGA)
    container.map_dma(memory, 0)
    container.map_dma(memory.address, MEGA, MEGA, write=False)
    with pytest.raises(FileExistsError):
        container.map_dma(memory, 0)
    assert container.unmap_dma(0, MEGA) == MEGA
    assert container.unmap_dma(0, MEGA) == 0
    assert container.unmap_all() == MEGA


def test_a_mapping_that_allows_nothing_is_refused(linux: ModelSyscalls) -> None:
    container, memory = container_in(linux), linux.mmap(-1, MEGA)
    assert errno_of(lambda: container.map_dma(memory, 0, read=False, write=False)) == "EINVAL"


def test_read_only_memory_can_be_mapped_for_reading_only(linux: ModelSyscalls) -> None:
    container, memory = container_in(linux), linux.mmap(-1, MEGA, writable=False)
    container.map_dma(memory, 0, write=False)
    assert errno_of(lambda: container.map_dma(memory, MEGA)) == "EFAULT"


def test_an_address_needs_a_size(linux: ModelSyscalls) -> None:
    with pytest.raises(TypeError, match="size"):
        container_in(linux).map_dma(0x1000, 0)
