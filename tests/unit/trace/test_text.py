# SPDX-License-Identifier: GPL-2.0-only
"""Records as people read them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from kvm_vfio.trace.schema import Call, Close, Decision, Did, Object, Reason
from kvm_vfio.trace.text import call_text, close_text, decision_text

ATTR = {"flags": 0, "group": 1, "attr": 1, "addr": 0x7FFF1000}
MAP = {"argsz": 32, "flags": 3, "vaddr": 0x7F0000000000, "iova": 0, "size": 0x1000}
GROUP = Object(9, 4, "group 26")


def call(name: str, answer: int | str = 0, **fields: object) -> Call:
    return Call(1, 0, 0, 7, name, answer, **fields)  # type: ignore[arg-type]  # of a Call


@pytest.mark.parametrize(
    ("record", "text"),
    [
        (
            call("KVM_SET_DEVICE_ATTR", fd=5, on="kvm-vfio 1", args=ATTR, looked_up=(GROUP,)),
            "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 26 (fd 9)) = 0",
        ),
        (
            call(
                "KVM_SET_DEVICE_ATTR",
                "EBADF",
                fd=5,
                on="kvm-vfio 1",
                args={**ATTR, "attr": 2},
                looked_up=(Object(9, 0, ""),),
                why="fd 9 is not open",
            ),
            (
                "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_DEL, fd 9, which is not open)"
                " = -EBADF (fd 9 is not open)"
            ),
        ),
        (
            call("KVM_SET_DEVICE_ATTR", "EFAULT", fd=5, on="kvm-vfio 1", args={"arg": 4096}),
            "KVM_SET_DEVICE_ATTR(kvm-vfio 1, 0x1000) = -EFAULT",
        ),
        (
            call("openat", 9, args={"path": "/dev/vfio/26", "flags": 2}, made=(GROUP,)),
            'openat("/dev/vfio/26") = fd 9: group 26',
        ),
        (
            call(
                "KVM_CREATE_DEVICE",
                fd=4,
                on="vm 1",
                args={"type": 4, "fd": 0, "flags": 0},
                made=(Object(5, 3, "kvm-vfio 1"),),
            ),
            "KVM_CREATE_DEVICE(vm 1, KVM_DEV_TYPE_VFIO) = 0, fd 5: kvm-vfio 1",
        ),
        (
            call("VFIO_SET_IOMMU", fd=3, on="container 1", args={"arg": 3}),
            "VFIO_SET_IOMMU(container 1, VFIO_TYPE1v2_IOMMU) = 0",
        ),
        (
            call("VFIO_IOMMU_MAP_DMA", fd=3, on="container 1", args=MAP),
            (
                "VFIO_IOMMU_MAP_DMA(container 1, iova 0x0 + 0x1000, memory at 0x7f0000000000,"
                " read and write) = 0"
            ),
        ),
        (
            call(
                "pread64",
                4,
                fd=8,
                on="device 0000:00:10.0",
                args={"size": 4, "offset": 0x4B000 << 32 | 7 << 40 | 0x10},
            ),
            "pread64(device 0000:00:10.0, config space + 0x10, 4 bytes) = 4",
        ),
        (call("mmap", "continue", fd=8), "mmap(fd 8) = the computer's own answer"),
        (
            call("KVM_CREATE_VM", "ENOMEM", fd=3, on="kvm", args={"arg": 0}, fault="KVM_CREATE_VM"),
            "KVM_CREATE_VM(kvm) = -ENOMEM (injected: KVM_CREATE_VM)",
        ),
    ],
)
def test_a_call(record: Call, text: str) -> None:
    assert call_text(record) == text


def test_a_close() -> None:
    assert close_text(Close(1, 0, 4, "group 26", "close")) == "group 26 is closed"
    by = close_text(Close(1, 0, 4, "group 26", "exit", "fd 9 of vmm[7], which exited"))
    assert by == "group 26 is closed by an exit: fd 9 of vmm[7], which exited"


def test_noncoherent_dma_says_why() -> None:
    reasons = (Reason("group 26", "dmar0 has no snoop control", iommu="dmar0"),)
    on = Decision(3, "noncoherent", vm=1, on=True, count=1, reasons=reasons)
    assert decision_text(on) == ("vm 1: noncoherent DMA on (group 26: dmar0 has no snoop control)")


@pytest.mark.parametrize("did", get_args(Did))
def test_every_decision_has_words_and_is_documented(did: str) -> None:
    text = decision_text(Decision(1, did, vm=1, device="kvm-vfio 1", member="group 26"))
    assert text != did
    assert f"`{did}`" in (Path(__file__).parents[3] / "docs/trace.md").read_text()
