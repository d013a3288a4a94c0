# SPDX-License-Identifier: GPL-2.0-only
"""What uapi states against what a C compiler read in named kernels' headers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import need_file
from tools.witness import facts, witness

DATA = Path(__file__).parents[2] / "data" / "witness"
STATED = {fact.name: fact.value for fact in [*facts.x86_64(), *facts.syscalls("aarch64")]}
REFRESH = "print the witness files again, as tools/witness/witness.py says"

# What a header does not have, and why that is right.
IOMMUFD = (
    r"constant VFIO_DEVICE_(BIND|ATTACH|DETACH)_IOMMUFD\w*"
    r"|(size|offset) vfio_device_(bind|attach|detach)_iommufd\S*"
)
DEVICE_ASSIGNMENT = (
    r"constant KVM_(DE)?ASSIGN_PCI_DEVICE|constant KVM_DEV_ASSIGN_\w+"
    r"|(size|offset) kvm_assigned_pci_dev\S*"
)
ABSENT = {
    "6.1.187": {
        "not yet": [
            r"constant KVM_(CAP_)?PRE_FAULT_MEMORY|(size|offset) kvm_pre_fault_memory\S*",
            r"constant KVM_CAP_(VM_TYPES|X86_APIC_BUS_CYCLES_NS)",
            r"constant KVM_SET_(USER_MEMORY_REGION2|MEMORY_ATTRIBUTES)",
            r"constant KVM_(CREATE|MEM)_GUEST_MEMFD",
            r"(size|offset) kvm_(userspace_memory_region2|memory_attributes|create_guest_memfd)\S*",
            r"constant KVM_DEV_TYPE_(RISCV_AIA|LOONGARCH_\w+|ARM_VGIC_V5)",
            r"constant KVM_DEV_VFIO_FILE(_ADD|_DEL)?",
            r"constant PCI_HEADER_TYPE_MFD",
            r"constant SECCOMP_(IOCTL_NOTIF_SET_FLAGS|USER_NOTIF_FD_SYNC_WAKE_UP)",
            IOMMUFD,
            r"constant VFIO_DEVICE_FEATURE_(BUS_MASTER|DMA_BUF|MIG_DATA_SIZE|MIG_PRECOPY_INFOv2)",
            r"constant VFIO_DEVICE_(FLAGS_CDX|INFO_CAP_PCI_ATOMIC_COMP)",
            r"constant VFIO_PCI_HOT_RESET_FLAG_DEV_ID(_OWNED)?",
        ],
        "padding without a name": [
            r"offset vfio_(device_info|iommu_type1_info)\.pad",
            r"offset vfio_device_(gfx_plane_info|ioeventfd)\.reserved",
        ],
        "Debian 12 has one package for each architecture": [r"syscall aarch64 \w+"],
    },
    "6.12.117": {
        "not yet": [
            r"constant KVM_DEV_TYPE_(LOONGARCH_\w+|ARM_VGIC_V5)",
            r"constant VFIO_DEVICE_FEATURE_(DMA_BUF|MIG_PRECOPY_INFOv2)",
            r"offset vfio_device_(attach|detach)_iommufd_pt\.pasid",
            r"offset vfio_device_bind_iommufd\.token_uuid_ptr",
        ],
        "removed": [DEVICE_ASSIGNMENT],
    },
    "7.3.4": {
        "removed": [DEVICE_ASSIGNMENT],
        "renamed": [r"constant VFIO_TYPE1_NESTING_IOMMU"],
    },
}

# Structures that grew later, and their sizes before.
SHORTER = {
    ("6.1.187", "size vfio_device_info"): 20,
    ("6.12.117", "size vfio_device_bind_iommufd"): 16,
    ("6.12.117", "size vfio_device_attach_iommufd_pt"): 12,
    ("6.12.117", "size vfio_device_detach_iommufd_pt"): 8,
}


def answers(lines: list[str]) -> dict[str, int | None]:
    pairs = (line.rsplit(" ", 1) for line in lines)
    return {name: None if value == "absent" else int(value, 16) for name, value in pairs}


def checked_in(version: str) -> dict[str, int | None]:
    first, *lines = (DATA / f"linux-libc-dev_{version}.txt").read_text().splitlines()
    assert first.startswith(f"linux-libc-dev {version}-")
    return answers(lines)


def test_every_witness_is_heard() -> None:
    assert {path.name for path in DATA.iterdir()} == {f"linux-libc-dev_{v}.txt" for v in ABSENT}


@pytest.mark.parametrize("version", ABSENT)
def test_uapi_agrees_with_the_header(version: str) -> None:
    said = {name: value for name, value in checked_in(version).items() if value is not None}
    expected = {name: SHORTER.get((version, name), STATED.get(name)) for name in said}
    assert said == expected, REFRESH


@pytest.mark.parametrize("version", ABSENT)
def test_what_a_header_lacks_is_known(version: str) -> None:
    said = checked_in(version)
    lacking = {name for name in STATED if said.get(name) is None}
    patterns = [pattern for reason in ABSENT[version].values() for pattern in reason]
    unexplained = {n for n in lacking if not any(re.fullmatch(p, n) for p in patterns)}
    assert unexplained == set(), REFRESH
    idle = {p for p in patterns if not any(re.fullmatch(p, n) for n in lacking)}
    assert idle == set()


def test_every_fact_has_a_witness() -> None:
    heard = {name for v in ABSENT for name, value in checked_in(v).items() if value is not None}
    assert set(STATED) - heard == set(), REFRESH


@pytest.mark.gcc
def test_this_computers_headers_agree() -> None:
    need_file("/usr/include/linux/vfio.h", apt="linux-libc-dev")
    grown = {name for _, name in SHORTER}
    said = answers(witness.witness(Path("/usr/include")))
    compared = {n: value for n, value in said.items() if value is not None and n not in grown}
    assert len(compared) > 500
    assert compared == {name: STATED[name] for name in compared}
