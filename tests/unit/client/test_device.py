# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import os
from functools import partial

import pytest

from kvm_vfio import Container, Device, Group, ModelSyscalls, model
from kvm_vfio.uapi.pci import (
    PCI_COMMAND,
    PCI_COMMAND_MASTER,
    PCI_COMMAND_MEMORY,
    PCI_DEVICE_ID,
    PCI_VENDOR_ID,
)
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_IRQ_SET_ACTION_MASK,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_DEPENDENT_DEVICE,
    VFIO_PCI_HOT_RESET_INFO,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_VGA_REGION_INDEX,
    VFIO_REGION_INFO,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT,
    VFIO_REGION_SPARSE_MMAP_AREA,
    vfio_pci_dependent_device,
    vfio_region_sparse_mmap_area,
)
from tests.unit.client.refusal import errno_of
from tests.unit.client.scripted import Scripted


@pytest.fixture
def linux() -> ModelSyscalls:
    return model()


def device_of(linux: ModelSyscalls, group_number: int, address: str) -> Device:
    group, container = Group(linux, group_number), Container(linux)
    group.set_container(container)
    container.set_iommu()
    return group.device(address)


@pytest.fixture
def plain(linux: ModelSyscalls) -> Device:
    """A megabyte of registers, one MSI vector."""
    return device_of(linux, 1, "0000:00:10.0")


@pytest.fixture
def nvme(linux: ModelSyscalls) -> Device:
    """A drive whose MSI-X table is in its BAR."""
    return device_of(linux, 3, "0000:00:12.0")


def test_what_a_device_is(plain: Device, nvme: Device) -> None:
    assert plain.info().pci
    assert not plain.info().can_reset
    assert nvme.info().can_reset
    assert (nvme.info().regions, nvme.info().irqs) == (9, 5)


def test_regions(plain: Device) -> None:
    bar = plain.region_info(0)
    assert (bar.readable, bar.writable, bar.mappable) == (True, True, True)
    assert bar.size == 1 << 20
    assert not bar.msix_mappable
    config = plain.region_info(VFIO_PCI_CONFIG_REGION_INDEX)
    assert (config.readable, config.writable, config.mappable) == (True, True, False)
    assert plain.region_info(1).size == 0
    assert errno_of(lambda: plain.region_info(VFIO_PCI_VGA_REGION_INDEX)) == "EINVAL"


def test_a_bar_with_the_msix_table_says_that_it_can_be_mapped(nvme: Device) -> None:
    assert nvme.region_info(0).msix_mappable


def test_areas_that_can_be_mapped_are_read_from_the_chain() -> None:
    areas = [vfio_region_sparse_mmap_area(0, 0x1000), vfio_region_sparse_mmap_area(0x3000, 0x1000)]
    head = VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT.pack_fields(
        VFIO_REGION_INFO_CAP_SPARSE_MMAP, 1, 0, len(areas), 0
    )
    chain = head + b"".join(VFIO_REGION_SPARSE_MMAP_AREA.pack(area) for area in areas)
    size = VFIO_REGION_INFO.size
    region = VFIO_REGION_INFO.pack_fields(size + len(chain), 0xF, 0, size, 0x4000, 0)
    device = Device(Scripted({VFIO_DEVICE_GET_REGION_INFO: [region, region + chain]}), 7)
    assert device.region_info(0).mappable_areas == tuple(areas)


def test_configuration_space_by_register(plain: Device) -> None:
    assert plain.read_config(PCI_VENDOR_ID, 2) == 0x1234
    assert plain.read_config(PCI_DEVICE_ID, 2) == 0x11E8
    command = plain.read_config(PCI_COMMAND, 2)
    plain.write_config(PCI_COMMAND, 2, command | PCI_COMMAND_MASTER)
    assert plain.read_config(PCI_COMMAND, 2) == command | PCI_COMMAND_MASTER


def test_a_bar_is_the_same_by_read_and_by_mapping(plain: Device) -> None:
    bar = plain.map_bar(0)
    assert len(bar) == 1 << 20
    assert plain.write_region(0, 0x10, b"\x01\x02\x03\x04") == 4
    assert bar.read(4, 0x10) == b"\x01\x02\x03\x04"
    bar.write(b"\xff", 0x11)
    assert plain.read_region(0, 0x10, 4) == b"\x01\xff\x03\x04"


def test_a_mapped_bar_keeps_the_device_open(linux: ModelSyscalls, plain: Device) -> None:
    bar = plain.map_bar(0)
    plain.close()
    assert linux.kernel.snapshot().vfio_groups[0].open_devices == ("0000:00:10.0",)
    plain.unmap(bar)
    assert linux.kernel.snapshot().vfio_groups[0].open_devices == ()


def test_a_bar_mapped_for_reading_cannot_be_written(plain: Device) -> None:
    with pytest.raises(TypeError):
        plain.map_bar(0, writable=False).write(b"x")


def test_what_is_no_bar_cannot_be_mapped(plain: Device) -> None:
    for index in (1, VFIO_PCI_CONFIG_REGION_INDEX):
        assert errno_of(partial(plain.map_bar, index)) == "EINVAL"


def test_memory_that_is_disabled_cannot_be_read(plain: Device) -> None:
    command = plain.read_config(PCI_COMMAND, 2)
    plain.write_config(PCI_COMMAND, 2, command & ~PCI_COMMAND_MEMORY)
    assert errno_of(lambda: plain.read_region(0, 0, 4)) == "EIO"


def test_an_interrupt_reaches_its_eventfd(linux: ModelSyscalls, plain: Device) -> None:
    assert plain.irq_info(VFIO_PCI_MSI_IRQ_INDEX).count == 1
    event = linux.eventfd()
    plain.enable_irqs(VFIO_PCI_MSI_IRQ_INDEX, [event])
    plain.trigger_irqs(VFIO_PCI_MSI_IRQ_INDEX)
    plain.trigger_irqs(VFIO_PCI_MSI_IRQ_INDEX)
    assert linux.read(event, 8) == (2).to_bytes(8, "little")
    plain.disable_irqs(VFIO_PCI_MSI_IRQ_INDEX)
    assert errno_of(lambda: plain.trigger_irqs(VFIO_PCI_MSI_IRQ_INDEX)) == "EINVAL"


def test_vectors_are_enabled_from_a_start_and_skipped_with_minus_one(
    linux: ModelSyscalls, nvme: Device
) -> None:
    events = [linux.eventfd(), linux.eventfd()]
    nvme.enable_irqs(VFIO_PCI_MSIX_IRQ_INDEX, [events[0], -1, events[1]], start=2)
    nvme.trigger_irqs(VFIO_PCI_MSIX_IRQ_INDEX, 2, 3)
    for event in events:
        assert linux.read(event, 8) == (1).to_bytes(8, "little")


def test_an_index_without_that_action(plain: Device) -> None:
    mask = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK
    assert errno_of(lambda: plain.set_irqs(VFIO_PCI_MSI_IRQ_INDEX, mask, 0, 1)) == "ENOTTY"


def test_what_is_no_eventfd_signals_nobody(linux: ModelSyscalls, plain: Device) -> None:
    memfd = linux.memfd()
    assert errno_of(lambda: plain.enable_irqs(VFIO_PCI_INTX_IRQ_INDEX, [memfd])) == "EINVAL"


def test_linux_restores_configuration_space_after_a_reset(plain: Device, nvme: Device) -> None:
    command = nvme.read_config(PCI_COMMAND, 2) | PCI_COMMAND_MASTER
    nvme.write_config(PCI_COMMAND, 2, command)
    nvme.reset()
    assert nvme.read_config(PCI_COMMAND, 2) == command
    assert errno_of(plain.reset) == "EINVAL"


def test_the_root_bus_has_no_hot_reset(linux: ModelSyscalls, plain: Device) -> None:
    assert errno_of(plain.hot_reset_info) == "ENODEV"
    assert errno_of(lambda: plain.hot_reset([linux.memfd()])) == "ENODEV"


def test_who_a_hot_reset_takes_along_is_asked_again_with_more_room() -> None:
    who = tuple(vfio_pci_dependent_device(group, 0, 1, 8 * group) for group in (3, 3, 4))
    head = VFIO_PCI_HOT_RESET_INFO.pack_fields(0, 0, len(who))
    answer = head + b"".join(VFIO_PCI_DEPENDENT_DEVICE.pack(one) for one in who)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    script = Scripted({VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: [full, full, answer]})
    assert Device(script, 7).hot_reset_info() == who
