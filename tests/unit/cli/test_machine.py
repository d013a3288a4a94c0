# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio machine`: the words a person reads."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kvm_vfio.cli import main
from kvm_vfio.cli.machine import machine_tree
from kvm_vfio.machine.load import builtin_machines, load_machine
from kvm_vfio.machine.model import IommuGroup, Machine, with_snoop_control

TREES = Path(__file__).parents[2] / "data" / "machine"
REFEREE = load_machine("referee")


def kvm_vfio(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="kvm-vfio", catch_exceptions=False)


def lines(described: Machine) -> list[str]:
    return [line.strip() for line in machine_tree(described).lines()]


@pytest.mark.parametrize("name", builtin_machines())
def test_show_prints_the_tree(name: str) -> None:
    result = kvm_vfio("machine", "show", name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (TREES / f"{name}.tree").read_text()


def test_show_shows_the_default_machine() -> None:
    assert kvm_vfio("machine", "show").stdout == kvm_vfio("machine", "show", "default").stdout


def test_show_says_what_snoop_control_is_for() -> None:
    without, with_ = lines(REFEREE), lines(with_snoop_control(REFEREE, True))
    assert [pair for pair in zip(without, with_, strict=True) if pair[0] != pair[1]] == [
        (
            "IOMMU dmar0: Intel VT-d, no snoop control, interrupt remapping, 39-bit iovas",
            "IOMMU dmar0: Intel VT-d, snoop control, interrupt remapping, 39-bit iovas",
        ),
        (
            "WBINVD: executed for real in a VM that gets a group (noncoherent DMA)",
            "WBINVD: a no-op in a VM that gets a group (its DMA stays coherent)",
        ),
    ]


@pytest.mark.parametrize(
    ("drivers", "text"),
    [
        (("vfio-pci", "vfio-pci"), "group 5: viable"),
        (("vfio-pci", None), "group 5: viable"),
        ((None, None), "group 5: viable, without /dev/vfio/5: bind a device to vfio-pci"),
        (("vfio-pci", "serial"), "group 5: not viable: unbind 0000:00:14.1 (serial)"),
        (
            ("nvme", "serial"),
            "group 5: not viable: unbind 0000:00:14.0 (nvme), 0000:00:14.1 (serial)",
        ),
    ],
)
def test_show_says_what_makes_a_group_viable(drivers: tuple[str | None, ...], text: str) -> None:
    (iommu,) = REFEREE.iommus
    (pair,) = (group for group in iommu.groups if group.number == 5)
    devices = (replace(d, driver=n) for d, n in zip(pair.devices, drivers, strict=True))
    alone = replace(iommu, groups=(IommuGroup(5, tuple(devices)),))
    assert lines(replace(REFEREE, iommus=(alone,)))[3] == text


def test_a_terminal_gets_a_drawn_tree() -> None:
    reader, terminal = os.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    command = [sys.executable, "-m", "kvm_vfio", "machine", "show", "referee"]
    subprocess.run(command, check=True, stdout=terminal, env=environment)
    os.close(terminal)
    drawn = drained(reader).splitlines()
    assert drawn[1].startswith("└── IOMMU dmar0: ")
    assert "    ├── group 5: not viable: unbind 0000:00:14.1 (serial)" in drawn
    assert [line.lstrip("│├└─\xa0 ") for line in drawn] == lines(REFEREE)


def drained(reader: int) -> str:
    """What a terminal was told, once nobody holds it any more."""
    data = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while more := os.read(reader, 65536):
            data += more
    os.close(reader)
    return data.decode()


def test_show_of_what_is_not_there() -> None:
    result = kvm_vfio("machine", "show", "nope")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "kvm-vfio: nope: there is no such file; "
        "the built-in machines are default, devices or referee\n"
    )


def test_check_of_a_good_machine(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text(
        "[[iommu]]\n[[iommu.group]]\nnumber = 1\n[[iommu.group.device]]\n"
        'address = "00:10.0"\nvendor = 1\ndevice = 2\nclass = 3\n'
        "[[iommu.group.device]]\n"
        'address = "00:10.1"\nvendor = 1\ndevice = 2\nclass = 3\n'
    )
    result = kvm_vfio("machine", "check", str(path))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{path}: a good machine: 1 IOMMU, 1 group, 2 devices\n"


def test_check_of_a_bad_machine(tmp_path: Path) -> None:
    path = tmp_path / "m.toml"
    path.write_text("nmae = 1\n[[iommu]]\n")
    result = kvm_vfio("machine", "check", str(path))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f'{path}:1: nmae: there is no key "nmae" here; did you mean name?\n'
        f"{path}:2: iommu[0].group: this IOMMU has no group; "
        "add an [[iommu.group]] or remove the IOMMU\n"
    )


def test_check_looks_at_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = kvm_vfio("machine", "check", "default")
    assert result.exit_code == 2
    assert result.stderr.startswith("default: there is no such file; ")


def test_list() -> None:
    assert kvm_vfio("machine", "list").stdout == (
        "default: a small machine to begin with\n"
        "devices: devices that behave: edu and nvme\n"
        "referee: QEMU's q35 with the devices of the recorded scenarios\n"
    )
