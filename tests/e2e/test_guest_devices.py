# SPDX-License-Identifier: GPL-2.0-only
"""A Debian kernel in an unmodified QEMU, with our devices: its own drivers drive them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest import initrd, packages
from tests.e2e.conftest import Builder
from tests.e2e.supervised import steps, supervised

KERNELS = ["6.1", "7.3"]
MEMORY = 256  # MiB

pytestmark = [pytest.mark.slow, pytest.mark.qemu, pytest.mark.gcc]


@pytest.fixture(scope="module", params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> packages.GuestKernel:
    """The kernel with drivers, fetched if it is not there."""
    linux = str(request.param)
    try:
        there = packages.prepared(linux)
        if there is not None and there.drivers:
            return there
        return packages.prepare(linux, lambda _text: None)
    except Unsupported as error:
        pytest.skip(f"{error}; run: kvm-vfio guest prepare {linux}")


@pytest.fixture
def qemu(kernel: packages.GuestKernel, build: Builder, tmp_path: Path) -> list[str]:
    """The command for a guest whose /init is guest.c."""
    content = {
        f"modules/{number:02d}-{name}": (kernel.directory / name).read_bytes()
        for number, name in enumerate(kernel.drivers)
    }
    content["init"] = Path(build("guest.c")).read_bytes()
    archive = tmp_path / "initrd"
    archive.write_bytes(initrd.cpio(content, ["modules"]))
    return [
        *("qemu-system-x86_64", "-accel", "tcg", "-machine", "q35", "-m", str(MEMORY)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio"),
        *("-kernel", str(kernel.image), "-initrd", str(archive)),
        *("-append", "console=ttyS0 panic=-1 quiet no_timer_check"),
        *("-device", "vfio-pci,host=0000:00:10.0", "-device", "vfio-pci,host=0000:00:11.0"),
    ]


EDU = {
    "identification": "10000ed",
    "liveness": "edcba987",
    "factorial": "720",
    "copied": "through the device",
    "heard": "1",
    "interrupt status": "100",
    "heard again": "2",
}
NVME = {
    "size": str(64 << 20),
    "wrong bytes": "0",
    "beyond the end": "nothing",
    "nvme interrupts": "1",
    "interrupts are": "messages",
    "errors": "0",
}


def test_a_guest_drives_both_and_finds_its_data_after_a_reboot(qemu: list[str]) -> None:
    done = supervised("--kvm", "model", "--machine", "devices", *qemu)
    assert done.returncode == 0
    boots = [each.partition("== end")[0] for each in done.stdout.split("== begin\n")[1:]]
    assert [steps(each.replace("\r", "")) for each in boots] == [
        {**EDU, **NVME, "boot": "first"},
        {**EDU, **NVME, "boot": "second"},
    ]
    assert "a bug in kvm-vfio" not in done.stderr
    assert "NOT MODELLED" not in done.stderr
    assert "DMA fault" not in done.stderr
