# SPDX-License-Identifier: GPL-2.0-only
"""The described machine's /sys and /dev, against what a real Linux showed of the same machine."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import pytest

from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.machine.load import builtin_machines, load_machine
from kvm_vfio.profiles import DEFAULT, PROFILES
from kvm_vfio.supervisor.sysfs import dev_tree, sys_tree
from kvm_vfio.supervisor.tree import Directory, Link, Node

# Linux 6.12 in QEMU, some of what the recordings' machine has.
REAL = {
    "0000:00:10.0": {
        "vendor": "0x1234",
        "device": "0x11e8",
        "class": "0x00ff00",
        "subsystem_vendor": "0x1af4",
        "subsystem_device": "0x1100",
        "revision": "0x10",
    },
    "0000:00:11.0": {"vendor": "0x1b36", "device": "0x0005", "revision": "0x00", "irq": "0"},
    "0000:00:13.0": {"class": "0x020000", "subsystem_vendor": "0x8086"},
    "0000:00:14.1": {"vendor": "0x1b36", "class": "0x070002", "revision": "0x01"},
}
# The flags of BARs in `resource`: memory, I/O.
FLAGS = {
    "0000:00:10.0": {0: 0x40200},
    "0000:00:11.0": {0: 0x40200, 1: 0x40101},
    "0000:00:13.0": {0: 0x40200, 1: 0x40200, 2: 0x40101, 3: 0x40200},
}
SIZES = {"0000:00:10.0": [0x100000], "0000:00:13.0": [0x20000, 0x20000, 0x20, 0x4000]}


def tree_of(machine: str, linux: str = DEFAULT.name) -> Directory:
    return sys_tree(Kernel(load_machine(machine), PROFILES[linux]))


def walk(tree: Directory, path: str = "") -> Iterator[tuple[str, Node]]:
    for name, node in tree.items():
        yield f"{path}/{name}", node
        if isinstance(node, Directory):
            yield from walk(node, f"{path}/{name}")


def files(machine: str, linux: str = DEFAULT.name) -> dict[str, Node]:
    return dict(walk(tree_of(machine, linux)))


@pytest.mark.parametrize("address", REAL)
def test_files_of_a_function(address: str) -> None:
    there = files("referee")
    home = f"/devices/pci0000:00/{address}"
    for name, content in REAL[address].items():
        assert there[f"{home}/{name}"] == f"{content}\n".encode(), name


@pytest.mark.parametrize("address", FLAGS)
def test_resource(address: str) -> None:
    content = files("referee")[f"/devices/pci0000:00/{address}/resource"]
    assert isinstance(content, bytes)
    lines = [[int(word, 16) for word in line.split()] for line in content.decode().splitlines()]
    assert len(lines) == 13
    assert {n: line[2] for n, line in enumerate(lines) if line[2]} == FLAGS[address]
    sizes = [end - start + 1 for start, end, flags in lines if flags]
    assert sizes == SIZES.get(address, sizes)
    assert all(start % (end - start + 1) == 0 for start, end, flags in lines if flags)


def test_configuration_space_agrees_with_resource() -> None:
    there = files("referee")
    for address, kinds in FLAGS.items():
        home = f"/devices/pci0000:00/{address}"
        config, resource = there[f"{home}/config"], there[f"{home}/resource"]
        assert isinstance(config, bytes)
        assert isinstance(resource, bytes)
        for index, flags in kinds.items():
            start = int(resource.decode().splitlines()[index].split()[0], 16)
            bar = int.from_bytes(config[0x10 + 4 * index : 0x14 + 4 * index], "little")
            assert bar & (~3 if flags & 0x100 else ~0xF) == start


@pytest.mark.parametrize("machine", builtin_machines())
@pytest.mark.parametrize("linux", ["5.10", "6.12"])
def test_links_lead_to_what_is_there(machine: str, linux: str) -> None:
    there = files(machine, linux)
    links = {path: node for path, node in there.items() if isinstance(node, Link)}
    assert links
    for path, link in links.items():
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link.target))
        assert target in there or target == "/bus/pci", (path, link.target)


def test_links_of_a_function() -> None:
    there = files("referee")
    home = "/devices/pci0000:00/0000:00:14.1"
    assert there[f"{home}/iommu_group"] == Link("../../../kernel/iommu_groups/5")
    assert there[f"{home}/driver"] == Link("../../../bus/pci/drivers/serial")
    assert there["/bus/pci/devices/0000:00:14.1"] == Link(
        "../../../devices/pci0000:00/0000:00:14.1"
    )
    assert there["/bus/pci/drivers/vfio-pci/0000:00:14.0"] == Link(
        "../../../../devices/pci0000:00/0000:00:14.0"
    )
    assert "/devices/pci0000:00/0000:00:1f.2/driver" not in there


def test_vfio_devices_have_a_class_where_linux_has_it() -> None:
    assert "/class/vfio-dev/vfio0" in files("default", "6.1")
    assert "/class/vfio-dev/vfio0" not in files("default", "5.10")


def test_nodes() -> None:
    kernel = Kernel(load_machine("referee"), DEFAULT)
    vfio = dev_tree(kernel, kvm=False)["vfio"]
    assert isinstance(vfio, Directory)
    assert list(vfio) == ["vfio", "1", "2", "3", "4", "5"]
    assert vfio.whole
    assert "kvm" in dev_tree(kernel, kvm=True)
