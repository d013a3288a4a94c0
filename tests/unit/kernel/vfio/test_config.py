# SPDX-License-Identifier: GPL-2.0-only
"""Configuration space through VFIO: what a program finds there, and what a write changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvm_vfio.kernel.pci.config import hardware
from kvm_vfio.kernel.vfio.config import ConfigSpace
from kvm_vfio.machine.model import Bar, BarKind, ConfigBytes, Msi, Msix, PciDevice
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.profiles.table import DEFAULT, LINUX_5_10
from kvm_vfio.uapi import pci
from tests.unit.kernel.program import NIC, TESTDEV, edu

ONES = b"\xff\xff\xff\xff"
EDU = edu("0000:00:10.0")


def opened(device: PciDevice, profile: Profile = DEFAULT) -> ConfigSpace:
    """The device's configuration space, with every BAR at 0."""
    space = hardware(device, profile, {bar.index: 0 for bar in device.bars})
    return ConfigSpace(space, profile)


def capabilities(config: ConfigSpace) -> dict[int, int]:
    """Capability id -> offset, as software walks the list."""
    found = {}
    at = config.value(pci.PCI_CAPABILITY_LIST, 1)
    while at:
        found[config.value(at, 1)] = at
        at = config.value(at + 1, 1)
    return found


def test_the_header_says_what_the_device_is() -> None:
    device = replace(
        EDU, subsystem_vendor=0x1AF4, subsystem_device=0x1100, revision=0x10, class_code=0x070002
    )
    config = opened(device)
    header = {
        pci.PCI_VENDOR_ID: (2, 0x1234),
        pci.PCI_DEVICE_ID: (2, 0x11E8),
        pci.PCI_CLASS_REVISION: (4, 0x0700_0210),
        pci.PCI_SUBSYSTEM_VENDOR_ID: (2, 0x1AF4),
        pci.PCI_SUBSYSTEM_ID: (2, 0x1100),
        pci.PCI_INTERRUPT_PIN: (1, 1),
        pci.PCI_HEADER_TYPE: (1, 0),
    }
    assert {at: (width, config.value(at, width)) for at, (width, _) in header.items()} == header


def test_a_multifunction_device_says_so() -> None:
    config = opened(edu("0000:00:14.0", multifunction=True))
    assert config.value(pci.PCI_HEADER_TYPE, 1) == pci.PCI_HEADER_TYPE_MFD


@pytest.mark.parametrize(("device", "size"), [(EDU, 256), (NIC, 4096)])
def test_a_pci_express_function_has_4096_bytes(device: PciDevice, size: int) -> None:
    assert len(opened(device).data) == size


def test_after_open_memory_and_io_are_on_and_bus_mastering_is_off_and_writable() -> None:
    config = opened(EDU)
    assert config.value(pci.PCI_COMMAND, 2) == 0x0103
    config.write(pci.PCI_COMMAND, b"\xff\xff")
    assert config.value(pci.PCI_COMMAND, 2) == 0x0103 | pci.PCI_COMMAND_MASTER | 0x400


@pytest.mark.parametrize(
    ("bar", "reads"),
    [
        (Bar(0, 1 << 20), 0xFFF0_0000),
        (Bar(2, 4096, prefetchable=True), 0xFFFF_F008),
        (Bar(1, 256, BarKind.IO), 0xFFFF_FF01),
        (Bar(0, 1 << 20, BarKind.MEMORY64), 0xFFFF_FFFF_FFF0_0004),
        (Bar(4, 1 << 33, BarKind.MEMORY64, prefetchable=True), 0xFFFF_FFFE_0000_000C),
    ],
)
def test_all_ones_written_to_a_bar_read_back_as_its_size(bar: Bar, reads: int) -> None:
    config = opened(replace(EDU, bars=(bar,)))
    at, width = pci.PCI_BASE_ADDRESS_0 + 4 * bar.index, reads.bit_length() // 8
    config.write(at, ONES * 2)
    assert config.value(at, width) == reads
    config.write(at, bytes(width))
    assert config.value(at, width) == reads & 0xF


@pytest.mark.parametrize("at", [pci.PCI_VENDOR_ID, pci.PCI_STATUS, pci.PCI_CLASS_PROG, 0x14])
def test_what_is_read_only_stays(at: int) -> None:
    config = opened(EDU)
    before = config.read(at, 2)
    config.write(at, b"\xa5\x5a")
    assert config.read(at, 2) == before


def test_the_interrupt_line_is_the_programs_to_keep() -> None:
    config = opened(EDU)
    config.write(pci.PCI_INTERRUPT_LINE, b"\x0a")
    assert config.value(pci.PCI_INTERRUPT_LINE, 1) == 0x0A


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (TESTDEV, []),
        (EDU, [pci.PCI_CAP_ID_MSI]),
        (NIC, [pci.PCI_CAP_ID_PM, pci.PCI_CAP_ID_MSI, pci.PCI_CAP_ID_EXP, pci.PCI_CAP_ID_MSIX]),
    ],
)
def test_capabilities_form_a_list(device: PciDevice, expected: list[int]) -> None:
    config = opened(device)
    found = capabilities(config)
    assert list(found) == expected
    assert all(at % 4 == 0 and at >= pci.PCI_STD_HEADER_SIZEOF for at in found.values())
    assert bool(config.value(pci.PCI_STATUS, 2) & pci.PCI_STATUS_CAP_LIST) == bool(expected)


@pytest.mark.parametrize(
    ("msi", "flags", "mask"),
    [
        (Msi(), pci.PCI_MSI_FLAGS_64BIT, None),
        (Msi(8), pci.PCI_MSI_FLAGS_64BIT | 3 << 1, None),
        (Msi(32, maskable=True), pci.PCI_MSI_FLAGS_64BIT | 5 << 1 | 0x100, 0xFFFF_FFFF),
        (Msi(2, maskable=True), pci.PCI_MSI_FLAGS_64BIT | 1 << 1 | 0x100, 0x3),
    ],
)
def test_msi_takes_an_address_data_and_a_mask_for_its_vectors(
    msi: Msi, flags: int, mask: int | None
) -> None:
    config = opened(replace(EDU, msi=msi))
    at = capabilities(config)[pci.PCI_CAP_ID_MSI]
    assert config.value(at + pci.PCI_MSI_FLAGS, 2) == flags
    config.write(at + pci.PCI_MSI_FLAGS, ONES * 6)
    # VFIO's own copy; only SET_IRQS enables, and says how many there can be.
    assert config.value(at + pci.PCI_MSI_FLAGS, 2) == flags & 0xFF00 | 0x8E
    assert config.value(at + pci.PCI_MSI_ADDRESS_LO, 8) == 0xFFFF_FFFF_FFFF_FFFF
    assert config.value(at + pci.PCI_MSI_DATA_64, 2) == 0xFFFF
    if mask is not None:
        assert config.value(at + pci.PCI_MSI_MASK_64, 4) == mask


def test_msi_is_enabled_by_set_irqs_alone() -> None:
    config = opened(replace(EDU, msi=Msi(8)))
    at = capabilities(config)[pci.PCI_CAP_ID_MSI] + pci.PCI_MSI_FLAGS
    config.interrupts_are(msi=True, msix=False, enabled=4)
    config.write(at, b"\xff")
    assert config.value(at, 1) & (pci.PCI_MSI_FLAGS_ENABLE | pci.PCI_MSI_FLAGS_QSIZE) == 0x21
    config.interrupts_are(msi=False, msix=False, enabled=0)
    config.write(at, b"\x01")
    assert config.value(at, 1) == 0


def test_msix_shows_whether_it_is_enabled_and_takes_no_write() -> None:
    config = opened(NIC)
    at = capabilities(config)[pci.PCI_CAP_ID_MSIX] + pci.PCI_MSIX_FLAGS
    config.interrupts_are(msi=False, msix=True, enabled=2)
    config.write(at, bytes(2))
    assert config.value(at, 2) == pci.PCI_MSIX_FLAGS_ENABLE | 4
    config.interrupts_are(msi=False, msix=False, enabled=0)
    assert config.value(at, 2) == 4


def test_msix_says_where_its_table_and_pending_bits_are() -> None:
    msix = Msix(2048, table_bar=2, table_offset=0x1000, pba_bar=3, pba_offset=0x800)
    config = opened(replace(EDU, msix=msix))
    at = capabilities(config)[pci.PCI_CAP_ID_MSIX]
    assert config.value(at + pci.PCI_MSIX_FLAGS, 2) & pci.PCI_MSIX_FLAGS_QSIZE == 2047
    assert config.value(at + pci.PCI_MSIX_TABLE, 4) == 0x1002
    assert config.value(at + pci.PCI_MSIX_PBA, 4) == 0x803


@pytest.mark.parametrize("reset", [False, True])
def test_a_function_that_can_reset_itself_says_so(reset: bool) -> None:
    config = opened(replace(NIC, reset=reset))
    at = capabilities(config)[pci.PCI_CAP_ID_EXP]
    assert bool(config.value(at + pci.PCI_EXP_DEVCAP, 4) & pci.PCI_EXP_DEVCAP_FLR) == reset


def test_a_function_level_reset_is_asked_for_in_config_space() -> None:
    device, asked = replace(NIC, reset=True), []
    space = hardware(device, DEFAULT, {bar.index: 0 for bar in device.bars})
    config = ConfigSpace(space, DEFAULT, lambda: asked.append(True))
    at = capabilities(config)[pci.PCI_CAP_ID_EXP] + pci.PCI_EXP_DEVCTL
    config.write(at, (0x2000).to_bytes(2, "little"))
    assert not asked
    config.write(at, (0xA000).to_bytes(2, "little"))
    assert asked
    assert config.value(at, 2) == 0x2000  # the request is never kept


@pytest.mark.parametrize(("state", "entered"), [(1, 0), (2, 0), (3, 3)])
def test_a_power_state_that_is_not_there_is_not_entered(state: int, entered: int) -> None:
    config = opened(NIC)
    at = capabilities(config)[pci.PCI_CAP_ID_PM] + pci.PCI_PM_CTRL
    config.write(at, bytes([state]))
    assert config.value(at, 1) == entered
    assert config.decodes_memory == (entered == 0)
    config.function_was_reset()
    assert config.value(at, 1) == 0


POWER = ConfigBytes(0x40, bytes.fromhex("0100220000000000"), bytes.fromhex("00000000031f0000"))


@pytest.mark.parametrize(("profile", "written"), [(LINUX_5_10, 0x1F03), (DEFAULT, 0x1E03)])
def test_pme_and_selected_data(profile: Profile, written: int) -> None:
    device = replace(EDU, config=(ConfigBytes(0x34, b"\x40"), POWER))
    config = opened(device, profile)
    config.write(0x44, ONES)
    assert config.value(0x44, 4) == written
    config.write(0x44, b"\x00\x1e")  # back from D3, the function forgets
    assert config.value(0x44, 4) == 0


def test_what_no_capability_claims_is_the_hardwares_and_stays_when_the_device_closes() -> None:
    config = opened(EDU)
    config.write(0x60, b"\x5a")
    config.write(pci.PCI_INTERRUPT_LINE, b"\x77")
    config.reopen()
    assert (config.value(0x60, 1), config.value(pci.PCI_INTERRUPT_LINE, 1)) == (0x5A, 0)


def test_a_capability_of_unknown_size_is_hidden() -> None:
    chain = ConfigBytes(0x40, bytes.fromhex("01500300 00000000") + bytes(8) + b"\x0a\x60")
    msi = ConfigBytes(0x60, bytes.fromhex("05008000"))
    config = opened(replace(EDU, config=(ConfigBytes(0x34, b"\x40"), chain, msi)))
    assert capabilities(config) == {pci.PCI_CAP_ID_PM: 0x40, pci.PCI_CAP_ID_MSI: 0x60}


def test_only_the_power_state_of_power_management_is_writable() -> None:
    config = opened(NIC)
    at = capabilities(config)[pci.PCI_CAP_ID_PM]
    config.write(at + 2, ONES[:2])
    assert config.value(at + pci.PCI_PM_PMC, 2) == 3
    config.write(at + pci.PCI_PM_CTRL, ONES[:2])
    assert config.value(at + pci.PCI_PM_CTRL, 2) == pci.PCI_PM_CTRL_STATE_MASK


def test_a_part_of_it_is_read_as_it_is() -> None:
    config = opened(EDU)
    assert config.read(0, 4) == bytes.fromhex("3412e811")
    assert config.read(1, 2) == bytes.fromhex("12e8")
