# SPDX-License-Identifier: GPL-2.0-only
"""One test for each kind of argument, applied to every row of every ioctl table."""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT, EINVAL, ENOTTY, ENXIO
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.file import EventFile
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.kvm.vcpu import VcpuFile
from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.kernel.vfs import VFS_IOCTLS
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi import kvm, kvm_vm, kvm_x86, vfio
from tests.unit.kernel.program import ADDRESS, Program, Vmm, start_vmm


class Table(NamedTuple):
    """A kind of file: its rows, how a VMM comes to one, and what it says to unknown requests."""

    rows: IoctlTable
    open: Callable[[Vmm], int]
    unknown: int
    known: Any = ()  # the numbers that the headers give such a file


TABLES = {
    "system": Table(
        KvmSystemFile.ioctls,
        lambda v: v.program.open("/dev/kvm"),
        -EINVAL,
        {**kvm.SYSTEM_REQUESTS, **kvm_x86.SYSTEM_REQUESTS},
    ),
    "vm": Table(VmFile.ioctls, lambda v: v.vm, -ENOTTY, {**kvm.VM_REQUESTS, **kvm_vm.VM_REQUESTS}),
    "vcpu": Table(
        VcpuFile.ioctls,
        lambda v: v.program.ioctl(v.vm, kvm.KVM_CREATE_VCPU),
        -EINVAL,
        kvm_x86.VCPU_REQUESTS,
    ),
    "kvm device": Table(KvmDeviceFile.ioctls, lambda v: v.device, -ENOTTY, kvm.DEVICE_REQUESTS),
    "container": Table(
        ContainerFile.ioctls, lambda v: v.program.container(), -EINVAL, vfio.CONTAINER_REQUESTS
    ),
    "type1": Table(
        ContainerFile.iommu_ioctls, lambda v: v.container, -ENOTTY, vfio.CONTAINER_REQUESTS
    ),
    "group": Table(GroupFile.ioctls, lambda v: v.group, -ENOTTY, vfio.GROUP_REQUESTS),
    "device": Table(
        VfioDeviceFile.ioctls,
        lambda v: v.program.device_fd(v.group, ADDRESS[1]),
        -ENOTTY,
        vfio.DEVICE_REQUESTS,
    ),
    "eventfd": Table(EventFile.ioctls, lambda v: v.program.eventfd(), -ENOTTY),
    "any file": Table(VFS_IOCTLS, lambda v: v.program.other(), -ENOTTY, VFS_IOCTLS.handlers),
}

# Where a check stands before the first look at memory: in which profiles, with which answer.
EARLIER = {
    ("type1", "VFIO_IOMMU_DIRTY_PAGES"): ({"2013", "4.19"}, -ENOTTY),
    ("any file", "FS_IOC_SETFLAGS"): ({"2013", "4.19", "5.10"}, -ENOTTY),
    ("any file", "FS_IOC_FSSETXATTR"): ({"2013", "4.19", "5.10"}, -ENOTTY),
    ("system", "KVM_GET_DEVICE_ATTR"): ({"2013", "4.19", "5.10"}, -EINVAL),
    ("system", "KVM_HAS_DEVICE_ATTR"): ({"2013", "4.19", "5.10"}, -EINVAL),
    ("system", "KVM_GET_SUPPORTED_HV_CPUID"): ({"5.10"}, -EINVAL),
    **dict.fromkeys(
        (("vcpu", f"KVM_{name}") for name in ("GET_LAPIC", "SET_LAPIC", "SET_VAPIC_ADDR")),
        (set(PROFILES), -EINVAL),
    ),
    **dict.fromkeys(
        (
            ("vcpu", f"KVM_{name}")
            for name in (
                *("GET_SREGS2", "SET_SREGS2", "GET_XSAVE2"),
                *("HAS_DEVICE_ATTR", "GET_DEVICE_ATTR", "SET_DEVICE_ATTR"),
            )
        ),
        ({"5.10"}, -EINVAL),
    ),
    **dict.fromkeys(
        (("vcpu", f"KVM_{name}") for name in ("GET_ONE_REG", "SET_ONE_REG", "GET_REG_LIST")),
        ({"5.10", "6.1", "6.12"}, -EINVAL),
    ),
    ("vm", "KVM_ASSIGN_PCI_DEVICE"): (PROFILES.keys() - {"2013"}, -ENOTTY),
    ("vm", "KVM_DEASSIGN_PCI_DEVICE"): (PROFILES.keys() - {"2013"}, -ENOTTY),
    ("vm", "KVM_GET_PIT2"): (PROFILES.keys(), -ENXIO),
}
for _number, _request in kvm_vm.VM_REQUESTS.items():
    _lacking = {p.name for p in PROFILES.values() if p.vm and _number in p.vm.requests_lacking}
    if _lacking:
        EARLIER["vm", _request.name] = _lacking, -ENOTTY

# What nobody has recorded of the oldest kernel.
UNRECORDED = {**kvm_x86.SYSTEM_REQUESTS, **kvm_vm.VM_REQUESTS}

# Null is an argument of its own.
NULLABLE = {"KVM_SET_SIGNAL_MASK"}

# How many bytes every caller must have, where that is less than the newest structure.
LEAST = {"VFIO_DEVICE_GET_INFO": 16, "VFIO_IOMMU_GET_INFO": 16}

# Fields without which the answer is EINVAL whatever argsz is, or not known.
FIELDS: dict[str, dict[str, int]] = {
    "VFIO_IOMMU_DIRTY_PAGES": {"flags": vfio.VFIO_IOMMU_DIRTY_PAGES_FLAG_START},
    "FIDEDUPERANGE": {"dest_count": 0},
    "VFIO_DEVICE_PCI_HOT_RESET": {"count": 1},
    "KVM_GET_DEVICE_ATTR": {"group": 9},
    "KVM_SET_DEVICE_ATTR": {"group": 9},
    "KVM_GET_NESTED_STATE": {"size": 128},
    "VFIO_IOMMU_MAP_DMA": {"flags": vfio.VFIO_DMA_MAP_FLAG_READ, "size": PAGE},
    "VFIO_IOMMU_UNMAP_DMA": {"size": PAGE},
    "VFIO_DEVICE_SET_IRQS": {
        "flags": vfio.VFIO_IRQ_SET_DATA_NONE | vfio.VFIO_IRQ_SET_ACTION_MASK,
        "index": vfio.VFIO_PCI_MSI_IRQ_INDEX,
    },
}


def rows(*arguments: Argument) -> pytest.MarkDecorator:
    """Every modelled row with one of these arguments."""
    found = [
        (name, row)
        for name, table in TABLES.items()
        for row in table.rows
        if row.argument in arguments and row.support is not Support.NONE
    ]
    return pytest.mark.parametrize(
        ("name", "row"), found, ids=[f"{name}-{row.request.name}" for name, row in found]
    )


def structure(row: Row, argsz: int | None = None) -> bytes:
    """An argument that can be read: a string, or the row's structure."""
    layout = row.request.layout
    if layout is None:
        return b"0000:00:10.0\0"
    value = layout.unpack(bytes(layout.size))._replace(**FIELDS.get(row.request.name, {}))
    if row.argument is Argument.ARGSZ:
        value = value._replace(argsz=least(row) if argsz is None else argsz)
    return layout.pack(value)


def least(row: Row) -> int:
    layout = row.request.layout
    assert layout is not None
    return LEAST.get(row.request.name, layout.size)


def ask(
    name: str, request: int, data: bytes, profile: Profile = DEFAULT, *, padding: int = 0
) -> int:
    """The answer of a fresh file of this kind to `request`, its argument ending a page."""
    vmm = start_vmm(profile)
    address = vmm.program.put_at_page_end(data + bytes(padding))
    return vmm.program.ioctl(TABLES[name].open(vmm), request, address)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@rows(Argument.FIXED, Argument.ARGSZ, Argument.COUNTED, Argument.STRING)
def test_an_argument_that_cannot_be_read_is_efault(name: str, row: Row, profile: Profile) -> None:
    if profile.kvm_recording is None and (name == "vcpu" or row.request in UNRECORDED):
        return
    vmm = start_vmm(profile)
    fd = TABLES[name].open(vmm)
    earlier, answer = EARLIER.get((name, row.request.name), (set(), 0))
    expected = answer if profile.name in earlier else -EFAULT
    data = structure(row)
    data = data[: least(row)] if row.argument is Argument.ARGSZ else data
    cut = vmm.program.put_at_page_end(data, cut=1)
    before = vmm.program.kernel.snapshot()
    null = () if row.request.name in NULLABLE else (0,)
    for address in (*null, vmm.program.hole(), cut, (1 << 64) - 1):
        assert vmm.program.ioctl(fd, row.request, address) == expected
    assert vmm.program.kernel.snapshot() == before


@rows(Argument.FIXED, Argument.ARGSZ, Argument.STRING)
def test_an_argument_may_end_with_the_last_byte_of_a_page(name: str, row: Row) -> None:
    profile = PROFILES["2013" if "ASSIGN" in row.request.name else "6.12"]
    data = structure(row)
    if row.argument is Argument.ARGSZ:
        data = data[: least(row)]
    assert ask(name, row.request, data, profile) == ask(name, row.request, data, profile, padding=9)
    if row.request.name != "VFIO_IOMMU_MAP_DMA":
        assert ask(name, row.request, data, profile) != -EFAULT


@rows(Argument.ARGSZ)
def test_a_structure_too_small_is_einval_and_a_larger_one_is_taken(name: str, row: Row) -> None:
    exact = ask(name, row.request, structure(row), padding=64)
    assert exact != -EINVAL
    for argsz in (0, 1, least(row) - 1):
        assert ask(name, row.request, structure(row, argsz), padding=64) == -EINVAL
    for argsz in (least(row) + 1, 64, 0xFFFF_FFFF):
        data = structure(row, argsz)
        answer = ask(name, row.request, data, padding=200)
        assert answer == exact


@rows(Argument.VALUE)
def test_a_number_is_never_taken_for_an_address(name: str, row: Row) -> None:
    vmm = start_vmm()
    fd = TABLES[name].open(vmm)
    program = vmm.program

    def touched(*_: object) -> Any:  # noqa: ANN401  # it never returns
        raise AssertionError(f"{row.request.name} looked at memory")

    for copy in ("copy_from_user", "copy_to_user", "copy_from_user_string"):
        setattr(program.task, copy, touched)
    for value in (0, 4, 89, 0x1000_0000, program.hole(), (1 << 64) - 1):
        program.ioctl(fd, row.request, value)


@pytest.mark.parametrize(
    ("name", "row"),
    [(n, r) for n, table in TABLES.items() for r in table.rows if r.support is Support.NONE],
)
def test_what_is_not_modelled_is_reported_by_name(name: str, row: Row) -> None:
    with pytest.raises(NotModelled, match=row.request.name):
        ask(name, row.request, bytes(64))


@rows(*Argument)
def test_a_request_is_taken_by_its_32_low_bits(name: str, row: Row) -> None:
    data = structure(row) if row.request.layout or row.argument is Argument.STRING else bytes(8)
    plain = ask(name, row.request, data, padding=64)
    assert ask(name, row.request | 0xABCD << 32, data, padding=64) == plain
    assert ask(name, row.request - (1 << 32), data, padding=64) == plain


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_row_is_a_request_that_the_headers_give_such_a_file(table: Table) -> None:
    assert {int(row.request) for row in table.rows} <= set(table.known)
    assert all(row.note for row in table.rows if row.support is not Support.FULL)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_what_a_file_says_to_a_request_of_another_file(name: str, profile: Profile) -> None:
    if profile.kvm_recording is None and name == "vcpu":
        return
    vmm = start_vmm(profile)
    fd, table = TABLES[name].open(vmm), TABLES[name]
    everything = {int(row.request) for other in TABLES.values() for row in other.rows}
    own = {int(row.request) for row in table.rows} | VFS_IOCTLS.handlers.keys()
    if name in ("container", "type1"):
        own |= ContainerFile.ioctls.handlers.keys()
    for request in everything - own:
        assert vmm.program.ioctl(fd, request, vmm.program.hole()) == table.unknown


NUMBERS = {int(row.request) for table in TABLES.values() for row in table.rows}


@given(st.integers(0, (1 << 32) - 1).filter(lambda request: request not in NUMBERS))
def test_what_a_file_says_to_an_unknown_request(request: int) -> None:
    program, opened = EVERY_FILE
    answers = {name: program.ioctl(fd, request) for name, fd in opened.items()}
    assert answers == {name: table.unknown for name, table in TABLES.items()}


def every_file() -> tuple[Program, dict[str, int]]:
    vmm = start_vmm()
    return vmm.program, {name: table.open(vmm) for name, table in TABLES.items()}


EVERY_FILE = every_file()
