# SPDX-License-Identifier: GPL-2.0-only
"""The built-in machines: one to begin with, and the one that was recorded."""

from __future__ import annotations

import pytest

from kvm_vfio.machine.check import faults
from kvm_vfio.machine.load import builtin_machines, load_machine
from kvm_vfio.machine.model import BarKind, Machine, Msi, Msix, PciDevice, with_snoop_control

MEMORY, IO = BarKind.MEMORY32, BarKind.IO

# As Linux 6.12.117 showed it: ids, class and revision; BARs; interrupt pin; driver.
RECORDED = {
    "0000:00:00.0": (0, "8086:29c0", 0x060000, 0x00, [], 0, None),
    "0000:00:10.0": (1, "1234:11e8", 0x00FF00, 0x10, [(0, 0x100000, MEMORY)], 1, "vfio-pci"),
    "0000:00:11.0": (
        2,
        "1b36:0005",
        0x00FF00,
        0x00,
        [(0, 0x1000, MEMORY), (1, 0x100, IO)],
        0,
        "vfio-pci",
    ),
    "0000:00:12.0": (3, "1234:11e8", 0x00FF00, 0x10, [(0, 0x100000, MEMORY)], 1, "vfio-pci"),
    "0000:00:13.0": (
        4,
        "8086:10d3",
        0x020000,
        0x00,
        [(0, 0x20000, MEMORY), (1, 0x20000, MEMORY), (2, 0x20, IO), (3, 0x4000, MEMORY)],
        1,
        "vfio-pci",
    ),
    "0000:00:14.0": (5, "1234:11e8", 0x00FF00, 0x10, [(0, 0x100000, MEMORY)], 1, "vfio-pci"),
    "0000:00:14.1": (5, "1b36:0002", 0x070002, 0x01, [(0, 8, IO)], 1, "serial"),
    "0000:00:1f.0": (6, "8086:2918", 0x060100, 0x02, [], 0, None),
    "0000:00:1f.2": (6, "8086:2922", 0x010601, 0x02, [(4, 0x20, IO), (5, 0x1000, MEMORY)], 1, None),
    "0000:00:1f.3": (6, "8086:2930", 0x0C0500, 0x02, [(4, 0x40, IO)], 1, None),
}


@pytest.fixture(scope="module")
def referee() -> Machine:
    return load_machine("referee")


def functions(machine: Machine) -> dict[str, PciDevice]:
    return {device.address: device for _, device in machine.devices()}


def test_there_are_three() -> None:
    assert builtin_machines() == ["default", "devices", "referee"]


@pytest.mark.parametrize("name", builtin_machines())
def test_nothing_is_wrong_with_them(name: str) -> None:
    machine = load_machine(name)
    assert list(faults(machine)) == []
    assert machine.name == name
    assert machine.description


def test_the_recorded_functions(referee: Machine) -> None:
    assert {
        device.address: (
            iommu_group.number,
            f"{device.vendor:04x}:{device.device:04x}",
            device.class_code,
            device.revision,
            [(bar.index, bar.size, bar.kind) for bar in device.bars],
            device.interrupt_pin,
            device.driver,
        )
        for iommu_group, device in referee.devices()
    } == RECORDED


def test_the_recorded_subsystems(referee: Machine) -> None:
    ids = {a: (d.subsystem_vendor, d.subsystem_device) for a, d in functions(referee).items()}
    assert ids.pop("0000:00:13.0") == (0x8086, 0)
    assert set(ids.values()) == {(0x1AF4, 0x1100)}


def test_the_recorded_capabilities(referee: Machine) -> None:
    devices = functions(referee)
    card = devices.pop("0000:00:13.0")
    assert card.msix == Msix(5, table_bar=3, table_offset=0, pba_bar=3, pba_offset=0x2000)
    assert (card.power_management, card.pci_express, card.reset) == (True, True, True)
    assert not any(
        d.msix or d.power_management or d.pci_express or d.reset for d in devices.values()
    )
    with_msi = {a for a, d in functions(referee).items() if d.msi == Msi(1, maskable=False)}
    assert {address[8:] for address in with_msi} == {"10.0", "12.0", "13.0", "14.0", "1f.2"}
    multifunction = {a[8:] for a, d in devices.items() if d.multifunction}
    assert multifunction == {"14.0", "1f.0", "1f.2", "1f.3"}


def test_the_recorded_iommu(referee: Machine) -> None:
    (iommu,) = referee.iommus
    assert (iommu.kind, iommu.address_width) == ("intel", 39)
    assert (iommu.snoop_control, iommu.interrupt_remapping) == (False, True)


def test_snoop_control_can_be_switched(referee: Machine) -> None:
    snooping = with_snoop_control(referee, True)
    assert [iommu.snoop_control for iommu in snooping.iommus] == [True]
    assert with_snoop_control(snooping, False) == referee


def test_amd_needs_no_switch() -> None:
    (unit,) = load_machine("referee").iommus
    amd = Machine("amd", (type(unit)("ivhd0", unit.groups, "amd", True),))
    assert with_snoop_control(amd, False) == amd


def test_the_default_machine_has_one_of_each() -> None:
    machine = load_machine("default")
    (iommu,) = machine.iommus
    assert (iommu.snoop_control, iommu.enforces_coherency) == (False, False)
    devices = functions(machine)
    edu = {a for a, d in devices.items() if (d.vendor, d.device) == (0x1234, 0x11E8)}
    assert edu == {"0000:00:10.0", "0000:00:11.0"}
    nvme = devices["0000:00:12.0"]
    assert nvme.class_code == 0x010802
    assert nvme.msix is not None
    assert [bar.kind for bar in nvme.bars] == [BarKind.MEMORY64]
    assert {d.driver for d in devices.values()} == {"vfio-pci", "snd_hda_intel"}
