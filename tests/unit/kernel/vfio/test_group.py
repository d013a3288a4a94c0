# SPDX-License-Identifier: GPL-2.0-only
"""/dev/vfio/N: one opener, at most one container, and the way to a device."""

from __future__ import annotations

from errno import EBADF, EBADFD, EBUSY, EFAULT, EINVAL, ENODEV, ENOENT, ENOTTY, EPERM

import pytest

from kvm_vfio.profiles import Profile
from kvm_vfio.uapi.layout import INT32, int32
from kvm_vfio.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_GROUP_STATUS,
)
from tests.unit.kernel.program import (
    ADDRESS,
    Program,
    answer_since,
    boot,
    must,
    profiles,
    since,
    start_vmm,
)

VIABLE, CONTAINER = VFIO_GROUP_FLAGS_VIABLE, VFIO_GROUP_FLAGS_CONTAINER_SET


@pytest.fixture
def program() -> Program:
    return boot()


# -- opening ---------------------------------------------------------------------------------------


@profiles()
def test_a_group_has_one_opener(profile: Profile) -> None:
    program = boot(profile)
    group = program.group(1)
    assert program.group(1) == -EBUSY
    duplicate = program.dup(group)
    program.close(group)
    assert program.group(1) == -EBUSY
    program.close(duplicate)
    assert program.group(1) >= 0


@pytest.mark.parametrize("number", [0, 3, 6, 99])
def test_a_node_is_there_for_groups_with_a_device_of_vfio_only(
    program: Program, number: int
) -> None:
    assert program.group(number) == -ENOENT


@profiles()
def test_an_open_device_keeps_its_group_busy(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    device = program.device_fd(vmm.group, ADDRESS[1])
    program.close(vmm.group)
    assert program.group(1) == -EBUSY
    program.close(device)
    assert program.group(1) >= 0


# -- status ----------------------------------------------------------------------------------------


@profiles()
def test_the_status_says_viable_and_whether_a_container_is_set(profile: Profile) -> None:
    program = boot(profile)
    group, container = program.group(1), program.container()
    assert program.status(group) == VIABLE
    must(program.set_container(group, container))
    assert program.status(group) == VIABLE | CONTAINER
    must(program.unset_container(group))
    assert program.status(group) == VIABLE
    assert program.status(program.group(5)) == 0


def test_a_status_too_small_is_einval_and_unreadable_or_unwritable_efault(
    program: Program,
) -> None:
    group = program.group(1)
    small = program.struct(VFIO_GROUP_STATUS, argsz=7)
    assert program.ioctl(group, VFIO_GROUP_GET_STATUS, small) == -EINVAL
    assert program.ioctl(group, VFIO_GROUP_GET_STATUS, 0) == -EFAULT
    for argsz, expected in ((8, -EFAULT), (7, -EINVAL)):
        data = argsz.to_bytes(8, "little")
        address = program.put_at_page_end(data, writable=False)
        assert program.ioctl(group, VFIO_GROUP_GET_STATUS, address) == expected


def test_the_argsz_of_a_status_comes_back_as_it_was(program: Program) -> None:
    status = program.struct(VFIO_GROUP_STATUS, argsz=100, flags=0xFF)
    assert program.ioctl(program.group(1), VFIO_GROUP_GET_STATUS, status) == 0
    assert status.value == (100, VIABLE)


@profiles()
def test_an_unknown_request_is_enotty(profile: Profile) -> None:
    program = boot(profile)
    assert program.ioctl(program.group(1), 0x3B00) == -ENOTTY


# -- SET_CONTAINER ---------------------------------------------------------------------------------

FULL, EMPTY = True, False  # whether the group has a container already


@pytest.mark.parametrize(
    ("fd", "group", "answers"),
    [
        (-1, EMPTY, {"2013": -EINVAL, "6.1": -EBADF}),
        (-1, FULL, {"2013": -EINVAL, "6.1": -EBADF}),
        (999, EMPTY, {"2013": -EBADF}),
        (999, FULL, {"2013": -EINVAL, "6.1": -EBADF}),
        ("null", EMPTY, {"2013": -EINVAL, "6.12": -EBADFD}),
        ("null", FULL, {"2013": -EINVAL}),
        ("container", EMPTY, {"2013": 0}),
        ("container", FULL, {"2013": -EINVAL}),
    ],
)
@profiles()
def test_what_set_container_takes(
    profile: Profile, fd: int | str, group: bool, answers: dict[str, int]
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    number = (
        fd if isinstance(fd, int) else {"null": program.other(), "container": vmm.container}[fd]
    )
    target = vmm.group if group is FULL else program.group(2)
    before = program.kernel.snapshot()
    result = program.set_container(target, number)
    assert result == answer_since(answers, profile)
    assert (program.kernel.snapshot() == before) == (result != 0)


@profiles()
def test_a_container_fd_that_cannot_be_read_is_efault_before_all_else(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    for address in (0, program.put_at_page_end(INT32.pack(int32(-1)), cut=1)):
        assert program.ioctl(vmm.group, VFIO_GROUP_SET_CONTAINER, address) == -EFAULT


@since({"2013": 0, "6.1": -EPERM})
def test_where_a_group_that_is_not_viable_is_turned_away(profile: Profile, expected: int) -> None:
    program = boot(profile)
    group, container = program.group(5), program.container()
    assert program.set_container(group, container) == expected
    assert program.status(group) == (0 if expected else CONTAINER)
    if not expected:
        must(program.set_iommu(container))
        assert program.device_fd(group, ADDRESS[5]) == -EINVAL


@since({"2013": (0, -EBADF), "6.1": (-ENODEV, -EBADF)})
def test_a_group_that_lost_its_devices_is_judged_after_the_fd(
    profile: Profile, expected: tuple[int, int]
) -> None:
    program = boot(profile)
    group, container = program.group(1), program.container()
    program.kernel.function(ADDRESS[1]).remove()
    closed = program.set_container(group, 999)
    assert (program.set_container(group, container), closed) == expected


# -- UNSET_CONTAINER -------------------------------------------------------------------------------


@profiles()
def test_a_container_is_taken_away_unless_a_device_is_open(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    device = program.device_fd(vmm.group, ADDRESS[1])
    assert program.unset_container(vmm.group) == -EBUSY
    program.close(device)
    assert program.unset_container(vmm.group) == 0
    assert program.unset_container(vmm.group) == -EINVAL


@profiles()
def test_the_last_close_of_a_group_takes_it_out_of_its_container(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    must(program.map_dma(vmm.container, 0))
    program.close(vmm.group)
    group = program.group(1)
    assert program.status(group) == VIABLE
    assert program.kernel.snapshot().vfio_groups[0].dma_mappings == 0


# -- GET_DEVICE_FD ---------------------------------------------------------------------------------


@profiles()
def test_every_call_opens_the_device_anew(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    first, second = (program.device_fd(vmm.group, ADDRESS[1]) for _ in range(2))
    assert program.task.fget(first) is not program.task.fget(second)
    assert program.task.fget(first).name == "VFIO device 0000:00:10.0"
    assert program.kernel.snapshot().vfio_groups[0].open_devices == (ADDRESS[1],)
    program.close(first)
    assert program.unset_container(vmm.group) == -EBUSY


NAMES = ["", "nonsense", "0000:00:11.0", "0000:00:10.0x", "00:10.0", "0000:00:10.\xff"]


@pytest.mark.parametrize("name", NAMES)
@since({"2013": -EINVAL, "6.1": -ENODEV})
def test_a_name_that_is_no_device_of_the_group_is_enodev(
    profile: Profile, expected: int, name: str
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    assert program.device_fd(vmm.group, name) == -ENODEV
    assert program.device_fd(program.group(2), name if name != ADDRESS[2] else "x") == expected


UUID = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3"
OPTIONS = ["vf_token=", "vf_token=no", f"vf_token={UUID}", "other=1", f"  vf_token={UUID} x"]


@pytest.mark.parametrize("options", OPTIONS)
@since({"2013": -ENODEV, "5.10": -EINVAL})
def test_a_function_without_virtual_ones_has_no_options(
    profile: Profile, expected: int, options: str
) -> None:
    vmm = start_vmm(profile)
    assert vmm.program.device_fd(vmm.group, f"{ADDRESS[1]} {options}") == expected
    assert vmm.program.device_fd(vmm.group, f"{ADDRESS[2]} {options}") == -ENODEV


@pytest.mark.parametrize("iommu", [False, True])
@profiles()
def test_a_device_needs_a_container_with_an_iommu(profile: Profile, iommu: bool) -> None:
    program = boot(profile)
    group = program.group(1)
    assert program.device_fd(group, ADDRESS[1]) == -EINVAL
    container = program.container()
    must(program.set_container(group, container))
    if iommu:
        must(program.set_iommu(container))
    assert min(program.device_fd(group, ADDRESS[1]), 0) == (0 if iommu else -EINVAL)


@profiles()
def test_a_name_is_a_string_of_less_than_a_page_before_anything_is_looked_up(
    profile: Profile,
) -> None:
    program = boot(profile)
    group = program.group(1)
    request = VFIO_GROUP_GET_DEVICE_FD
    for address in (0, program.hole(), program.put_at_page_end(b"0000:00:10.0")):
        assert program.ioctl(group, request, address) == -EFAULT
    longest = program.device_fd(group, "x" * 4095)
    assert longest == program.device_fd(group, "x")
    assert program.device_fd(group, "x" * 4096) == -EINVAL


def test_a_name_may_end_with_the_last_byte_of_a_page() -> None:
    vmm = start_vmm()
    program = vmm.program
    address = program.put_at_page_end(b"0000:00:10.0\0")
    assert program.ioctl(vmm.group, VFIO_GROUP_GET_DEVICE_FD, address) >= 0
