# SPDX-License-Identifier: GPL-2.0-only
"""/dev and /sys as a supervised program sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvm_vfio.machine.write import machine_text
from kvm_vfio.survey.record import described
from tests.e2e.supervised import AS_NOBODY, supervised
from tests.unit.survey.recorded import computer

DEVICE = "/sys/bus/pci/devices/0000:00:13.0"


def shell(script: str, *options: str, prefix: Sequence[str] = ()) -> str:
    done = supervised("--quiet", "--kvm", "model", *options, "sh", "-c", script, prefix=prefix)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("prefix", [(), pytest.param(AS_NOBODY, marks=pytest.mark.root)])
def test_the_machine_in_sys(prefix: tuple[str, ...]) -> None:
    script = f"""
        cd {DEVICE} && cat vendor device class subsystem_vendor irq
        readlink -f iommu_group driver subsystem iommu
        cat /sys/kernel/iommu_groups/4/type; ls /sys/kernel/iommu_groups/5/devices
        head -c 4 config | od -An -tx1; wc -c < config
        ls /sys/bus/pci/drivers/vfio-pci /sys/class/iommu /sys/class/vfio
        cat {DEVICE}/uevent; wc -l < resource
    """
    assert shell(script, prefix=prefix).split("\n") == [
        "0x8086",
        "0x10d3",
        "0x020000",
        "0x8086",
        "11",
        "/sys/kernel/iommu_groups/4",
        "/sys/bus/pci/drivers/vfio-pci",
        "/sys/bus/pci",
        "/sys/devices/virtual/iommu/dmar0",
        "DMA-FQ",
        "0000:00:14.0",
        "0000:00:14.1",
        " 86 80 d3 10",
        "4096",
        "/sys/bus/pci/drivers/vfio-pci:",
        "0000:00:10.0",
        "0000:00:11.0",
        "0000:00:12.0",
        "0000:00:13.0",
        "0000:00:14.0",
        *("bind", "module", "new_id", "remove_id", "uevent", "unbind"),
        "",
        "/sys/class/iommu:",
        "dmar0",
        "",
        "/sys/class/vfio:",
        "1",
        "2",
        "3",
        "4",
        "5",
        "DRIVER=vfio-pci",
        "PCI_CLASS=20000",
        "PCI_ID=8086:10D3",
        "PCI_SUBSYS_ID=8086:0000",
        "PCI_SLOT_NAME=0000:00:13.0",
        "MODALIAS=pci:v00008086d000010D3sv00008086sd00000000bc02sc00i00",
        "13",
        "",
    ]


def test_every_link_in_sys_leads_somewhere() -> None:
    places = "/sys/bus/pci/devices/* /sys/bus/pci/drivers/* /sys/kernel/iommu_groups"
    places += " /sys/class/iommu /sys/class/vfio /sys/class/vfio-dev /sys/devices/virtual/iommu"
    script = f"find -L {places} -maxdepth 3 -type l -printf '%p\\n' 2>/dev/null | head"
    assert shell(script) == ""


def test_the_rest_of_sys_and_dev_is_this_computers() -> None:
    script = (
        "ls /sys /sys/class/net /sys/class/block /sys/fs; cat /sys/kernel/mm/transparent_hugepage/*"
    )
    script += "; ls -d /dev/shm /dev/pts/ptmx; cat /sys/class/net/*/address"
    plain = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    done = supervised("--quiet", "sh", "-c", script)
    assert (done.stdout, done.stderr) == (plain.stdout, plain.stderr)


def test_sys_cannot_be_written() -> None:
    script = f"echo x > {DEVICE}/driver_override; echo x > /sys/bus/pci/new"
    done = supervised("--quiet", "sh", "-c", script)
    assert done.stderr.count("Read-only file system") == 2


def test_dev() -> None:
    script = """
        cd /dev/vfio && stat -c '%n %F %a' *; stat -c '%n %a' /dev/vfio /dev/kvm
        echo ok > /dev/null; head -c 2 /dev/zero | wc -c; test -w /dev/shm && echo shm
        test -r /dev/kvm && test -w /dev/kvm && test -w /dev/vfio/1 && echo may
        echo x > /dev/file && cat /dev/file
    """
    assert shell(script).splitlines() == [
        *(f"{n} character special file 600" for n in range(1, 6)),
        "vfio character special file 666",
        "/dev/vfio 755",
        "/dev/kvm 666",
        "2",
        "shm",
        "may",
        "x",
    ]
    assert not os.path.exists("/dev/file")


def test_only_groups_with_a_device_of_vfio_have_a_node() -> None:
    assert shell("ls /dev/vfio", "--machine", "referee").split() == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "vfio",
    ]
    assert shell("ls /sys/kernel/iommu_groups", "--machine", "referee").split() == list("0123456")


@pytest.mark.root
def test_who_one_is() -> None:
    script = "id -u; id -g; grep -E 'CapEff|NoNewPrivs' /proc/self/status"
    assert shell(script, prefix=AS_NOBODY).split() == [
        "65534",
        "65534",
        "CapEff:",
        "0000000000000000",
        "NoNewPrivs:",
        "1",
    ]
    plain = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert shell(script) == plain.stdout


def test_inspect_sees_the_described_machine() -> None:
    output = shell(f"{sys.executable} -m kvm_vfio inspect --json", "--snoop", "on")
    data = json.loads(output)
    assert [(u["name"], u["snoop_control"], u["address_width"]) for u in data["iommus"]] == [
        ("dmar0", True, 39)
    ]
    assert [(g["number"], g["viable"], g["node"]) for g in data["groups"]] == [
        *((number, True, f"/dev/vfio/{number}") for number in range(1, 5)),
        (5, False, "/dev/vfio/5"),
    ]


def test_a_recorded_machine_is_met(tmp_path: Path) -> None:
    machine = described(computer("intel-7.3-snoop", tmp_path))
    (tmp_path / "here.toml").write_text(machine_text(machine))
    output = shell("ls /dev/vfio /sys/kernel/iommu_groups", "--machine", f"{tmp_path}/here.toml")
    nodes, groups = output.strip().split("\n\n")
    assert nodes.split() == ["/dev/vfio:", "1", "2", "3", "4", "5", "vfio"]
    assert groups.split()[1:] == [str(number) for number in range(10)]
