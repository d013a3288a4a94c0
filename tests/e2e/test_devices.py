# SPDX-License-Identifier: GPL-2.0-only
"""Devices that behave, driven by programs without a VM."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from kvm_vfio import model
from tests.e2e.conftest import PROGRAMS, Builder
from tests.e2e.supervised import steps, supervised
from tests.nvme_host import MSIX, open_controller, show

ON_DEVICES = ("--kvm", "model", "--machine", "devices")
EDU = ("0000:00:10.0", "/dev/vfio/1")
NVME = ("0000:00:11.0", "/dev/vfio/2")


@pytest.mark.gcc
def test_edu_and_the_memory_it_reaches(build: Builder) -> None:
    done = supervised(*ON_DEVICES, build("edu.c"), *EDU)
    assert steps(done.stdout) == {
        "device": "0",
        "identification": "10000ed",
        "liveness": "edcba987",
        "factorial": "3628800",
        "hear": "0",
        "interrupts": "1",
        "map a bar with registers": "EINVAL",
        "map": "0",
        "map for reading": "0",
        "map for writing": "0",
        "done": "1",
        "there and back": "to edu",
        "written to what is for reading": "read me",
        "read from what is for writing": "",
        "written up to the end": "half",
        "of a child": "forked",
        "read by a child": "forked",
        "map what goes": "0",
        "what is gone": "0",
        "interrupts of all": "6",
        "map what is shared": "0",
        "written by a child": "forked",
        "alive": "1",
    }
    faults = [line for line in done.stderr.splitlines() if "DMA fault" in line]
    assert [line.partition(" at iova ")[2].split(": ")[1].split(" 0x")[0] for line in faults] == [
        "it is mapped for reading only",
        "it is mapped for writing only",
        "nothing is mapped there",
        "the program has nothing at",
        "the program that mapped it is gone",
    ]
    assert "a bug in kvm-vfio" not in done.stderr


@pytest.mark.gcc
def test_nvme_from_c(build: Builder) -> None:
    done = supervised(*ON_DEVICES, build("nvme.c"), *NVME)
    assert steps(done.stdout) == {
        "device": "0",
        "map": "0",
        "hear": "0",
        "ready": "1",
        "identify controller": "0",
        "model": "kvm-vfio NVMe",
        "identify namespace": "0",
        "blocks": "131072",
        "create completion queue": "0",
        "create submission queue": "0",
        "write": "0",
        "read": "0",
        "same": "1",
        "read beyond": str(0x4080),
        "interrupts": "7",
        "read into what is gone": "4",
        "reset": "0",
    }


EXPECTED = {
    "model": "kvm-vfio NVMe",
    "serial": "kvm-vfio",
    "blocks": "131072",
    "write": "0x0",
    "flush": "0x0",
    "read": "0x0",
    "same": "True",
    "beyond": "0x4080",
    "interrupts": "4",
    "bad memory": "0x4",
}


def test_nvme_from_python() -> None:
    done = supervised(*ON_DEVICES, sys.executable, "-m", "tests.nvme_host", NVME[0], "2")
    assert steps(done.stdout) == EXPECTED


def test_the_same_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    linux = model(machine="devices")
    driver = open_controller(linux, NVME[0], 2)
    events = [linux.eventfd() for _ in range(2)]
    driver.device.enable_irqs(MSIX, events)
    show(driver, events[1])
    assert steps(capsys.readouterr().out) == EXPECTED


NO_SNOOP = """\
[[iommu]]
[[iommu.group]]
number = 1
[[iommu.group.device]]
address = "0000:00:10.0"
model = "edu"
options = { no_snoop = true }
"""


def coherency(program: str, tmp_path: Path, *options: str) -> tuple[dict[str, str], str]:
    """What the device read before its group was registered, while it was, and after."""
    file = tmp_path / "machine.toml"
    file.write_text(NO_SNOOP)
    done = supervised("--kvm", "model", "--machine", str(file), *options, program, *EDU)
    assert "a bug in kvm-vfio" not in done.stderr
    return steps(done.stdout), done.stderr


@pytest.mark.gcc
def test_a_device_that_does_not_snoop(build: Builder, tmp_path: Path) -> None:
    found, said = coherency(build("coherency.c"), tmp_path, "--coherency", "model")
    assert found == {
        "device": "0",
        "not registered": "old",
        "registered": "second",
        "given up": "second",
    }
    assert "STALE DMA, 2 x: 0000:00:10.0 did not snoop" in said


@pytest.mark.gcc
@pytest.mark.parametrize("options", [(), ("--coherency", "model", "--snoop", "on")])
def test_a_device_that_snoops(build: Builder, tmp_path: Path, options: tuple[str, ...]) -> None:
    found, said = coherency(build("coherency.c"), tmp_path, *options)
    assert [found[name] for name in ("not registered", "registered", "given up")] == [
        "first",
        "second",
        "third",
    ]
    assert "STALE" not in said


MAILBOX = """\
[[iommu]]
[[iommu.group]]
number = 1
[[iommu.group.device]]
address = "0000:00:10.0"
model = "mailbox"
"""


def test_a_model_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an installed distribution brings it: a module, and an entry point that names it."""
    shutil.copy(PROGRAMS / "mailbox.py", tmp_path)
    metadata = tmp_path / "mailbox-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mailbox\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[kvm_vfio.devices]\nmailbox = mailbox:Mailbox\n")
    file = tmp_path / "machine.toml"
    file.write_text(MAILBOX)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    user = str(PROGRAMS / "mailbox_user.py")
    done = supervised("--kvm", "model", "--machine", str(file), sys.executable, user, EDU[0], "1")
    assert steps(done.stdout) == {
        "areas": "(4096, 4096)",
        "mapped": "desserts",
        "read": "desserts",
        "map all": "Invalid argument",
    }
