# SPDX-License-Identifier: GPL-2.0-only
"""Modules say themselves what they need; from that follows the order."""

from __future__ import annotations

import lzma
import struct

import pytest

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest.modules import WANTED, dependencies, load_order, may_be_needed, plain

NAMES = b"\0.modinfo\0.shstrtab\0"


def module(*needs: str, modinfo: bool = True) -> bytes:
    """An ELF64 file with the sections a module has for us: nothing, .modinfo, .shstrtab."""
    info = b"license=GPL\0depends=" + ",".join(needs).encode() + b"\0name=x\0"
    at = 64 + 3 * 64
    header = struct.pack("<16xHHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, 3, 2)
    first = NAMES.index(b".modinfo") if modinfo else NAMES.index(b".shstrtab")
    sections = (
        (0, 0, 0),
        (first, at, len(info)),
        (NAMES.index(b".shstrtab"), at + len(info), len(NAMES)),
    )
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", n, 1, 0, 0, o, s, 0, 0, 1, 0) for n, o, s in sections
    )
    return header + table + info + NAMES


def test_a_module_says_what_it_needs() -> None:
    assert dependencies(module("kvm", "ccp")) == ["kvm", "ccp"]
    assert dependencies(module()) == []
    assert dependencies(module("kvm", modinfo=False)) == []


def test_each_comes_after_what_it_needs_and_once() -> None:
    images = {
        "vfio-pci.ko": module("vfio-pci-core", "vfio"),
        "vfio-pci-core.ko": module("vfio", "irqbypass"),
        "vfio_iommu_type1.ko": module("vfio"),
        "vfio.ko": module(),
        "kvm-amd.ko": module("kvm"),
        "kvm.ko": module("irqbypass"),
        "irqbypass.ko": module(),
        "unwanted.ko": module(),
    }
    order = load_order(images)
    assert sorted(order) == sorted(images.keys() - {"unwanted.ko"})
    for name in order:
        for needed in dependencies(images[name]):
            assert order.index(f"{needed}.ko") < order.index(name)


def test_a_dash_and_an_underscore_are_the_same() -> None:
    images = {f"{name.replace('_', '-')}.ko": module() for name in WANTED}
    assert len(load_order(images)) == len(WANTED)


def test_other_modules_can_be_wanted() -> None:
    images = {"nvme.ko": module("nvme-core"), "nvme-core.ko": module(), "kvm.ko": module()}
    assert load_order(images, ["nvme"]) == ["nvme-core.ko", "nvme.ko"]


def test_what_a_package_lacks_is_named() -> None:
    images = {"kvm-amd.ko": module("kvm")}
    with pytest.raises(Unsupported, match=r"has no module kvm, which kvm-amd\.ko needs"):
        load_order(images)


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("./lib/modules/6.1.0-56-amd64/kernel/virt/lib/irqbypass.ko", True),
        ("./usr/lib/modules/7.3.4+deb13-amd64/kernel/arch/x86/kvm/kvm-amd.ko.xz", True),
        ("./lib/modules/6.1.0-56-amd64/kernel/drivers/vfio/pci/vfio-pci.ko", True),
        ("./lib/modules/6.1.0-56-amd64/kernel/drivers/nvme/host/nvme.ko", True),
        ("./lib/modules/6.1.0-56-amd64/kernel/lib/crc64.ko", True),
        ("./lib/modules/6.1.0-56-amd64/kernel/drivers/net/dummy.ko", False),
        ("./usr/share/doc/kernel/virt/README", False),
    ],
)
def test_which_files_of_a_package_are_looked_at(path: str, needed: bool) -> None:
    assert may_be_needed(path) == needed


def test_a_compressed_module_is_unpacked() -> None:
    assert plain("kvm.ko.xz", lzma.compress(b"image")) == ("kvm.ko", b"image")
    assert plain("kvm.ko", b"image") == ("kvm.ko", b"image")
