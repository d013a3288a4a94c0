# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio inspect`: the words a person reads."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result

from kvm_vfio.cli import main
from kvm_vfio.machine.load import load_machine
from tests.unit.survey.recorded import tree


def kvm_vfio(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="kvm-vfio", catch_exceptions=False)


def inspect(root: Path, *options: str) -> Result:
    return kvm_vfio("inspect", "--root", str(root), *options)


def test_the_tables(tmp_path: Path) -> None:
    result = inspect(tree("intel-6.12", tmp_path))
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "Linux 6.12.118+deb13-amd64, x86_64, AuthenticAMD"
    assert "dmar0 Intel VT-d no (ECAP f00f4a) 39 bits" in lines
    assert "4 0000:00:13.0 8086:10d3 network vfio-pci yes nothing executed" in lines
    assert lines[-2:] == [
        "WBINVD executed: dmar0 has no snoop control (ECAP f00f4a: bit 7 is 0) (groups 0-9)",
        "No process that can be looked into has a file of VFIO open.",
    ]


def test_no_iommu(tmp_path: Path) -> None:
    result = inspect(tree("none-6.1", tmp_path))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].startswith("No IOMMU, so no device can be given to a VM.")


def test_json(tmp_path: Path) -> None:
    data = json.loads(inspect(tree("amd-6.12", tmp_path), "--json").stdout)
    assert (data["version"], data["iommus"][0]["kind"]) == (1, "amd")
    assert data["groups"][5]["missing"] == ["unbind 0000:00:14.1 (serial)"]


def test_a_machine_file_that_can_be_loaded(tmp_path: Path) -> None:
    text = inspect(tree("intel-7.3-snoop", tmp_path / "root"), "--as-machine").stdout
    (tmp_path / "here.toml").write_text(text)
    checked = kvm_vfio("machine", "check", str(tmp_path / "here.toml"))
    assert checked.stdout.endswith("a good machine: 1 IOMMU, 10 groups, 13 devices\n")
    assert load_machine(tmp_path / "here.toml").iommus[0].snoop_control


def test_no_machine_file_without_an_iommu(tmp_path: Path) -> None:
    result = inspect(tree("none-6.1", tmp_path), "--as-machine")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "kvm-vfio: this computer has no IOMMU and so no group to record; "
        "`kvm-vfio inspect` says why\n"
    )


def test_the_picture(tmp_path: Path) -> None:
    root = tree("intel-6.12", tmp_path / "root")
    assert inspect(root, "--svg", str(tmp_path / "a.svg")).exit_code == 0
    assert (tmp_path / "a.svg").read_text().startswith("<svg ")
    refused = inspect(root, "--svg", str(tmp_path / "none" / "a.svg"))
    assert refused.exit_code == 2
    assert refused.stderr.endswith("No such file or directory; name a file that can be written\n")


def test_two_forms_at_once(tmp_path: Path) -> None:
    assert inspect(tmp_path, "--json", "--as-machine").exit_code == 2
