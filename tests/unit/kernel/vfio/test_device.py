# SPDX-License-Identifier: GPL-2.0-only
"""VFIO devices: regions, configuration space, BARs, reset."""

from __future__ import annotations

from dataclasses import dataclass
from errno import EFAULT, EINVAL, EIO, ENODEV, ENOTTY, EPERM, ESPIPE
from typing import Any

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.machine.model import Bar, BarKind
from kvm_vfio.profiles import DEFAULT, Profile
from kvm_vfio.profiles.table import LINUX_6_18
from kvm_vfio.uapi.pci import PCI_COMMAND, PCI_COMMAND_MEMORY
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_LAYOUT,
    VFIO_DEVICE_FEATURE_MIGRATION,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_INFO,
    VFIO_DEVICE_PCI_HOT_RESET,
    VFIO_DEVICE_RESET,
    VFIO_INFO_CAP_HEADER,
    VFIO_IRQ_INFO,
    VFIO_PCI_HOT_RESET,
    VFIO_PCI_HOT_RESET_INFO,
    VFIO_REGION_INFO,
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
)
from tests.unit.kernel.program import ADDRESS, Program, profiles, start_vmm

BAR = 1 << 40  # regions are 40 bits apart
ROM, CONFIG, VGA = 6, 7, 8


@dataclass
class Opened:
    """An open VFIO device; `group` 1 is edu, 2 pci-testdev, 4 a network card."""

    program: Program
    fd: int
    group: int

    def ioctl(self, request: int, arg: Any) -> int:  # noqa: ANN401  # an address or a structure
        return self.program.ioctl(self.fd, request, arg)

    def pread(self, region: int, size: int, at: int = 0) -> bytes | int:
        return self.program.read(self.fd, size, region * BAR + at)

    def pwrite(self, region: int, data: bytes, at: int = 0) -> int:
        return self.program.write(self.fd, data, region * BAR + at)

    def mmap(self, region: int, size: int, at: int = 0) -> Any:  # noqa: ANN401  # a view, or -errno
        file, task = self.program.task.fget(self.fd), self.program.task
        return self.program.call(lambda: file.mmap(task, size, region * BAR + at, writable=True))


def opened(group: int = 1, profile: Profile = DEFAULT, **options: Any) -> Opened:  # noqa: ANN401
    vmm = start_vmm(profile, group=group, **options)
    return Opened(vmm.program, vmm.program.device_fd(vmm.group, ADDRESS[group]), vmm.group)


@pytest.fixture
def edu() -> Opened:
    return opened()


@pytest.fixture
def nic() -> Opened:
    return opened(4)


# -- what it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "flags"), [(1, 0b10), (2, 0b10), (4, 0b11)])
def test_a_device_has_9_regions_and_5_kinds_of_interrupt(group: int, flags: int) -> None:
    device = opened(group)
    info = device.program.struct(VFIO_DEVICE_INFO)
    assert device.ioctl(VFIO_DEVICE_GET_INFO, info) == 0
    assert info.value == (24, flags, 9, 5, 0, 0)


@pytest.mark.parametrize("argsz", [16, 17, 23, 24, 100])
def test_no_more_of_its_info_is_written_than_there_is_room_for(edu: Opened, argsz: int) -> None:
    ones = b"\xff" * 32
    address = edu.program.put(argsz.to_bytes(4, "little") + ones)
    assert edu.ioctl(VFIO_DEVICE_GET_INFO, address) == 0
    written = min(argsz, 24)
    assert edu.program.mm.read(address + 4, 32)[written - 4 :] == ones[written - 4 :]
    assert edu.program.mm.read(address + 8, 8) == bytes([9, 0, 0, 0, 5, 0, 0, 0])


# (region, size, flags): as Linux answers for these three devices.
REGIONS = {
    1: [(0, 1 << 20, 7), (1, 0, 0), (5, 0, 0), (ROM, 0, 0), (CONFIG, 0x100, 3)],
    2: [(0, 0x1000, 7), (1, 0x100, 3), (2, 0, 0), (CONFIG, 0x100, 3)],
    4: [(0, 0x20000, 7), (1, 0x20000, 7), (2, 0x20, 3), (3, 0x4000, 0xF), (CONFIG, 0x1000, 3)],
}


@pytest.mark.parametrize("group", REGIONS)
def test_regions(group: int) -> None:
    device = opened(group)
    for index, size, flags in REGIONS[group]:
        info = device.program.struct(VFIO_REGION_INFO, index=index)
        assert device.ioctl(VFIO_DEVICE_GET_REGION_INFO, info) == 0
        value = info.value
        assert (value.size, value.flags) == (size, flags)
        assert value.offset == index * BAR


def test_a_bar_smaller_than_a_page_is_not_mappable() -> None:
    bars = (Bar(0, 2048), Bar(2, PAGE, BarKind.MEMORY64))
    device = opened(1)
    device.program.kernel.vfio_groups[1].devices[ADDRESS[1]].static_bars = {
        b.index: b for b in bars
    }
    flags = []
    for index in (0, 2):
        info = device.program.struct(VFIO_REGION_INFO, index=index)
        assert device.ioctl(VFIO_DEVICE_GET_REGION_INFO, info) == 0
        flags.append(info.value.flags)
    assert flags == [3, 7]


@pytest.mark.parametrize("index", [VGA, 9, 0xFFFF_FFFF])
def test_there_is_no_vga_region_and_none_behind_it(edu: Opened, index: int) -> None:
    info = edu.program.struct(VFIO_REGION_INFO, index=index)
    assert edu.ioctl(VFIO_DEVICE_GET_REGION_INFO, info) == -EINVAL


@pytest.mark.parametrize(("argsz", "cap_offset"), [(32, 0), (39, 0), (40, 32), (100, 32)])
def test_the_bar_with_the_msix_table_says_that_it_can_be_mapped(
    nic: Opened, argsz: int, cap_offset: int
) -> None:
    program = nic.program
    asked = VFIO_REGION_INFO.type(argsz, 0, 3, 0, 0, 0)
    address = program.put(VFIO_REGION_INFO.pack(asked) + bytes(8))
    assert nic.ioctl(VFIO_DEVICE_GET_REGION_INFO, address) == 0
    answer = VFIO_REGION_INFO.unpack(program.mm.read(address, 32))
    assert (answer.argsz, answer.cap_offset) == (max(argsz, 40), cap_offset)
    header = VFIO_INFO_CAP_HEADER.unpack(program.mm.read(address + 32, 8))
    assert header == ((VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0) if cap_offset else (0, 0, 0))


def test_a_chain_that_cannot_be_written_is_efault(nic: Opened) -> None:
    asked = VFIO_REGION_INFO.type(40, 0, 3, 0, 0, 0)
    address = nic.program.put_at_page_end(VFIO_REGION_INFO.pack(asked))
    assert nic.ioctl(VFIO_DEVICE_GET_REGION_INFO, address) == -EFAULT


INTX, NORESIZE, GROWS = 7, 9, 1  # all with EVENTFD

# Count and flags of INTx, MSI, MSI-X, error, request; None: there is no such interrupt.
IRQS: dict[int, list[tuple[int, int] | None]] = {
    1: [(1, INTX), (1, NORESIZE), (0, NORESIZE), None, (1, NORESIZE)],
    2: [(0, INTX), (0, NORESIZE), (0, NORESIZE), None, (1, NORESIZE)],
    4: [(1, INTX), (1, NORESIZE), (5, GROWS), (1, NORESIZE), (1, NORESIZE)],
}


@pytest.mark.parametrize("group", IRQS)
def test_interrupts(group: int) -> None:
    device = opened(group)
    for index, expected in enumerate(IRQS[group]):
        info = device.program.struct(VFIO_IRQ_INFO, index=index)
        result = device.ioctl(VFIO_DEVICE_GET_IRQ_INFO, info)
        assert (result, info.value.count) == ((0, expected[0]) if expected else (-EINVAL, 0))
        assert info.value.flags == (expected[1] if expected else 0)
    beyond = device.program.struct(VFIO_IRQ_INFO, index=5)
    assert device.ioctl(VFIO_DEVICE_GET_IRQ_INFO, beyond) == -EINVAL


# -- configuration space ---------------------------------------------------------------------------


def test_configuration_space_is_read_and_written_through_its_region(edu: Opened) -> None:
    assert edu.pread(CONFIG, 4) == bytes.fromhex("3412e811")
    assert edu.pwrite(CONFIG, b"\xff\xff\xff\xff", 0x10) == 4
    assert edu.pread(CONFIG, 4, 0x10) == bytes.fromhex("0000f0ff")


@pytest.mark.parametrize(("at", "size"), [(0x100, 1), (0xFF, 2), (0, 0x101)])
def test_past_the_end_of_configuration_space_is_efault(edu: Opened, at: int, size: int) -> None:
    assert edu.pread(CONFIG, size, at) == -EFAULT
    assert edu.pwrite(CONFIG, bytes(size), at) == -EFAULT


def test_the_first_open_finds_the_function_as_new() -> None:
    vmm = start_vmm()
    program = vmm.program
    first = program.device_fd(vmm.group, ADDRESS[1])
    program.write(first, b"\x06\x01", CONFIG * BAR + PCI_COMMAND)
    second = program.device_fd(vmm.group, ADDRESS[1])
    assert program.read(second, 2, CONFIG * BAR + PCI_COMMAND) == b"\x06\x01"
    program.close(first, second)
    again = program.device_fd(vmm.group, ADDRESS[1])
    assert program.read(again, 2, CONFIG * BAR + PCI_COMMAND) == b"\x03\x01"


# -- BARs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bar", [0, 1])
def test_a_bar_is_memory_that_every_opener_shares(bar: int) -> None:
    vmm = start_vmm(group=2)
    program = vmm.program
    first, second = (program.device_fd(vmm.group, ADDRESS[2]) for _ in range(2))
    assert program.read(first, 4, bar * BAR + 8) == bytes(4)
    assert program.write(first, b"abcd", bar * BAR + 8) == 4
    assert program.read(second, 6, bar * BAR + 7) == b"\0abcd\0"


def test_an_access_is_cut_at_the_end_of_a_bar(edu: Opened) -> None:
    end = 1 << 20
    assert edu.pwrite(0, b"abcd", end - 3) == 3
    assert edu.pread(0, 100, end - 3) == b"abc"
    assert edu.pread(0, 1, end) == -EINVAL
    assert edu.pwrite(0, b"x", end) == -EINVAL


@pytest.mark.parametrize("region", [1, ROM, VGA, 9, -1, 1 << 20])
def test_a_region_that_is_not_there_is_einval(edu: Opened, region: int) -> None:
    assert edu.pread(region, 4) == -EINVAL
    assert edu.pwrite(region, b"abcd") == -EINVAL


@pytest.mark.parametrize("region", [0, 1, CONFIG, 9, 100])
def test_nothing_can_be_read_or_written_anywhere(edu: Opened, region: int) -> None:
    assert edu.pread(region, 0, 1 << 39) == b""
    assert edu.pwrite(region, b"", 1 << 39) == 0


def test_without_a_position_the_first_region_is_meant(edu: Opened) -> None:
    assert edu.program.write(edu.fd, b"abcd") == 4
    assert edu.pread(0, 4) == b"abcd"


def test_while_memory_is_off_in_command_a_memory_bar_is_eio_and_an_io_bar_is_not() -> None:
    device = opened(2)
    device.pwrite(CONFIG, bytes(2), PCI_COMMAND)
    assert device.pread(0, 4) == -EIO
    assert device.pwrite(0, b"abcd") == -EIO
    assert device.pread(1, 4) == bytes(4)
    assert device.pread(0, 4, 0x1000) == -EINVAL
    device.pwrite(CONFIG, PCI_COMMAND_MEMORY.to_bytes(2, "little"), PCI_COMMAND)
    assert device.pread(0, 4) == bytes(4)


def test_a_device_file_has_no_position_of_its_own(edu: Opened) -> None:
    assert edu.program.number(edu.program.task.fget(edu.fd).lseek, 0) == -ESPIPE


# -- mmap ------------------------------------------------------------------------------------------


def test_a_mapped_bar_is_the_bar(edu: Opened) -> None:
    mapping = edu.mmap(0, 2 * PAGE, at=PAGE)
    mapping[0:4] = b"abcd"
    assert edu.pread(0, 4, PAGE) == b"abcd"
    edu.pwrite(0, b"ABCD", 2 * PAGE)
    assert bytes(mapping[PAGE : PAGE + 4]) == b"ABCD"


@pytest.mark.parametrize(
    ("group", "region", "size", "at"),
    [
        (1, 0, (1 << 20) + PAGE, 0),
        (1, 0, PAGE, 1 << 20),
        (1, 1, PAGE, 0),
        (1, ROM, PAGE, 0),
        (1, CONFIG, PAGE, 0),
        (1, VGA, PAGE, 0),
        (1, -1, PAGE, 0),
        (2, 1, PAGE, 0),
    ],
)
def test_what_is_no_part_of_a_mappable_bar_is_einval(
    group: int, region: int, size: int, at: int
) -> None:
    assert opened(group).mmap(region, size, at) == -EINVAL


def test_a_mapping_keeps_its_memory_when_the_device_is_closed(edu: Opened) -> None:
    mapping = edu.mmap(0, PAGE)
    edu.pwrite(0, b"abcd")
    edu.program.close(edu.fd)
    assert bytes(mapping[0:4]) == b"abcd"
    fresh = edu.program.device_fd(edu.group, ADDRESS[1])
    assert edu.program.read(fresh, 4, 0) == bytes(4)


# -- reset and features ----------------------------------------------------------------------------


def test_linux_restores_configuration_space_after_a_reset(nic: Opened) -> None:
    nic.pwrite(CONFIG, b"\x06\x01", PCI_COMMAND)
    assert nic.ioctl(VFIO_DEVICE_RESET, 0) == 0
    assert nic.pread(CONFIG, 2, PCI_COMMAND) == b"\x06\x01"


def test_the_msix_table_reads_as_ones_and_takes_no_write(nic: Opened) -> None:
    nic.pwrite(3, b"\x11" * 32, 5 * 16 - 16)
    assert nic.pread(3, 32, 5 * 16 - 16) == b"\xff" * 16 + b"\x11" * 16


def test_the_msix_table_is_there_while_memory_is_not_decoded(nic: Opened) -> None:
    nic.pwrite(CONFIG, b"\x00", PCI_COMMAND)
    assert nic.pread(3, 4) == b"\xff" * 4
    assert nic.pread(3, 8, 5 * 16 - 4) == -EIO
    file = nic.program.task.fget(nic.fd)
    reads_memory = [file.takes_data(size, 3 * BAR) for size in (4, 81)]
    assert reads_memory == [False, True]


def test_no_bar_can_be_mapped_to_execute_where_anonymous_files_cannot() -> None:
    device = opened(profile=LINUX_6_18)
    file, task = device.program.task.fget(device.fd), device.program.task
    mapping = lambda: file.mmap(task, PAGE, 0, writable=True, executable=True)  # noqa: E731
    assert device.program.call(mapping) == -EPERM


def test_a_function_that_cannot_reset_itself_is_einval(edu: Opened) -> None:
    assert edu.ioctl(VFIO_DEVICE_RESET, 0) == -EINVAL


RESETS = [
    (VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, VFIO_PCI_HOT_RESET_INFO),
    (VFIO_DEVICE_PCI_HOT_RESET, VFIO_PCI_HOT_RESET),  # of one group
]


@pytest.mark.parametrize(("request_", "layout"), RESETS)
def test_the_root_bus_is_not_reset_and_a_bridge_is_not_modelled(request_: int, layout: Any) -> None:  # noqa: ANN401
    root = opened(1)
    assert root.ioctl(request_, root.program.struct(layout, count=1)) == -ENODEV
    behind = opened(7)
    with pytest.raises(NotModelled, match="bridge"):
        behind.ioctl(request_, behind.program.struct(layout, count=1))


def test_a_hot_reset_with_flags_is_einval(edu: Opened) -> None:
    wanted = edu.program.struct(VFIO_PCI_HOT_RESET, flags=1)
    assert edu.ioctl(VFIO_DEVICE_PCI_HOT_RESET, wanted) == -EINVAL


GET, SET, PROBE = VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_FEATURE_PROBE


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (GET | VFIO_DEVICE_FEATURE_MIGRATION, -ENOTTY),
        (PROBE | GET | VFIO_DEVICE_FEATURE_MIGRATION, -ENOTTY),
        (PROBE | GET | SET, -ENOTTY),
        (SET | 0xFFFF, -ENOTTY),
        (GET | SET, -EINVAL),
        (1 << 19, -EINVAL),
        (GET | 1 << 31, -EINVAL),
    ],
)
def test_no_feature_is_offered(edu: Opened, flags: int, expected: int) -> None:
    wanted = edu.program.struct(VFIO_DEVICE_FEATURE_LAYOUT, flags=flags)
    assert edu.ioctl(VFIO_DEVICE_FEATURE, wanted) == expected


@profiles()
def test_an_unknown_request_is_enotty(profile: Profile) -> None:
    assert opened(1, profile).ioctl(0x3B00, 0) == -ENOTTY
