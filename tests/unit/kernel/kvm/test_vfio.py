# SPDX-License-Identifier: GPL-2.0-only
"""The KVM-VFIO device: who becomes a member, and when KVM hears of it."""

from __future__ import annotations

from collections.abc import Callable
from errno import EBADF, EBUSY, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENXIO

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import PathOnlyFile
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.uapi.layout import INT32, int32
from tests.unit.kernel.program import (
    ADDRESS,
    MACHINE,
    SNOOPING,
    Program,
    Recorder,
    Vmm,
    answer_since,
    boot,
    failing,
    must,
    profiles,
    since,
    start_vmm,
)

GROUP, ADD, DEL = 1, 1, 2


@pytest.fixture
def vmm() -> Vmm:
    return start_vmm()


# -- attributes ------------------------------------------------------------------------------------

UNKNOWN = [(0, 0), (0, 1), (1, 0), (1, 3), (1, 4), (1, 0xFFFF_FFFF), (1, 1 << 32 | 1), (2, 1)]
UNKNOWN += [(1, (1 << 64) - 1), (1, 1 << 32 | 2), (0xFFFF_FFFF, 1)]


def test_there_are_add_and_del_in_one_group(vmm: Vmm) -> None:
    assert vmm.program.has_attr(vmm.device, GROUP, ADD) == 0
    assert vmm.program.has_attr(vmm.device, GROUP, DEL) == 0


@profiles()
def test_any_other_attribute_is_enxio_before_memory_is_looked_at(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    good = program.put(INT32.pack(int32(vmm.group)))
    for group, attr in UNKNOWN:
        assert program.has_attr(vmm.device, group, attr) == -ENXIO
        assert program.set_attr(vmm.device, group, attr, 0) == -ENXIO
        assert program.set_attr(vmm.device, group, attr, good) == -ENXIO


# -- who gets in -----------------------------------------------------------------------------------


@profiles()
@pytest.mark.parametrize("attr", [ADD, DEL])
def test_an_fd_that_cannot_be_read_is_efault(profile: Profile, attr: int) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    fd = INT32.pack(int32(vmm.group))
    bad = [0, 0x1000, program.hole(), program.put_at_page_end(fd, cut=2), 0xFFFF_FFFF_8100_0000]
    for address in [*bad, 1 << 47, (1 << 64) - 1]:
        assert program.set_attr(vmm.device, GROUP, attr, address) == -EFAULT
    assert vmm.heard() == ""


def test_an_fd_may_lie_anywhere_that_can_be_read(vmm: Vmm) -> None:
    program = vmm.program
    fd = INT32.pack(int32(vmm.group))
    odd = program.put(b"\0" + fd) + 1
    for address in (odd, program.put_at_page_end(fd), program.put_at_page_end(fd, writable=False)):
        assert program.set_attr(vmm.device, GROUP, ADD, address) == 0
        assert program.set_attr(vmm.device, GROUP, DEL, address) == 0


@profiles()
def test_an_fd_that_is_not_open_or_o_path_is_ebadf(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    o_path = program.files.install(PathOnlyFile("/dev/vfio/1"))
    for fd in (-1, -100, 999_999, 0x7FFF_FFFF, o_path):
        assert program.add(vmm.device, fd) == -EBADF
        assert program.delete(vmm.device, fd) == -EBADF
    assert vmm.heard() == ""


@since({"2013": -EINVAL, "4.19": -ENOENT})
def test_what_is_no_vfio_file_is_einval_for_add_and_no_member_for_del(
    profile: Profile, expected: int
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    strangers = [program.other(), program.eventfd(), program.open("/dev/kvm")]
    for fd in (*strangers, vmm.container, vmm.vm, vmm.device):
        assert program.add(vmm.device, fd) == -EINVAL
        assert program.delete(vmm.device, fd) == expected
    assert vmm.heard() == ""


@profiles()
def test_a_member_again_is_eexist_also_through_a_dup(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    assert program.add(vmm.device, vmm.group) == 0
    vmm.heard()
    assert program.add(vmm.device, vmm.group) == -EEXIST
    assert program.add(vmm.device, program.dup(vmm.group)) == -EEXIST
    assert vmm.heard() == ""


@profiles()
def test_without_memory_is_enomem_after_all_else_and_nothing_is_held(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    second = vmm.second_group(2)
    before = program.kernel.snapshot()
    program.kernel.allocate = failing(range(99), KernelError(ENOMEM, "no memory"))
    for fd, expected in ((second, -ENOMEM), (vmm.group, -EEXIST), (vmm.container, -EINVAL)):
        assert program.add(vmm.device, fd) == expected
    assert program.kernel.snapshot() == before
    assert program.task.fget(second).references == 1


@profiles()
def test_a_good_group_that_is_no_member_is_enoent_for_del(profile: Profile) -> None:
    vmm = start_vmm(profile)
    before = vmm.program.kernel.snapshot()
    assert vmm.program.delete(vmm.device, vmm.group) == -ENOENT
    assert vmm.program.kernel.snapshot() == before


@since({"2013": (-EINVAL, -EINVAL), "4.19": (-EINVAL, -ENOENT), "6.1": (0, 0)})
def test_whether_a_group_needs_a_container(profile: Profile, expected: tuple[int, int]) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    group = program.group(2)
    assert (program.add(vmm.device, group), program.delete(vmm.device, group)) == expected


@since({"2013": -EINVAL, "6.1": 0})
def test_whether_the_container_needs_an_iommu(profile: Profile, expected: int) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    group = program.group(2)
    must(program.set_container(group, program.container()))
    assert program.add(vmm.device, group) == expected


@since({"2013": -EINVAL, "6.1": 0})
def test_whether_a_group_must_be_viable(profile: Profile, expected: int) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    group = program.group(5)
    program.set_container(group, vmm.container)
    assert program.add(vmm.device, group) == expected


@since({"2013": (-EINVAL, -EINVAL), "4.19": (-EINVAL, -ENOENT), "6.12": (0, 0)})
def test_whether_the_file_of_a_vfio_device_is_a_member_too(
    profile: Profile, expected: tuple[int, int]
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    device = program.device_fd(vmm.group, "0000:00:10.0")
    assert (program.add(vmm.device, device), program.delete(vmm.device, device)) == expected


def test_a_group_and_each_file_of_its_devices_are_members_of_their_own(vmm: Vmm) -> None:
    program = vmm.program
    fds = [vmm.group, *(program.device_fd(vmm.group, "0000:00:10.0") for _ in range(2))]
    assert [program.add(vmm.device, fd) for fd in fds] == [0, 0, 0]
    assert [program.add(vmm.device, fd) for fd in fds] == [-EEXIST] * 3
    assert vmm.model_device().picture().members == (
        "VFIO group 1",
        "VFIO device 0000:00:10.0",
        "VFIO device 0000:00:10.0",
    )
    assert [program.delete(vmm.device, fd) for fd in fds] == [0, 0, 0]


@profiles()
def test_one_group_may_be_a_member_in_two_vms(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    other = program.create_device(program.vm())
    assert program.add(vmm.device, vmm.group) == 0
    assert program.add(other, vmm.group) == 0
    assert [vm.noncoherent_dma for vm in program.kernel.snapshot().vms] == [1, 1]
    assert program.delete(vmm.device, vmm.group) == 0
    assert [vm.noncoherent_dma for vm in program.kernel.snapshot().vms] == [0, 1]


# -- what is held ----------------------------------------------------------------------------------


@profiles()
def test_a_member_outlives_the_fd_of_its_group(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    program.close(vmm.group)
    assert program.group(1) == -EBUSY
    assert vmm.model_device().picture().members == ("VFIO group 1",)
    program.close(vmm.device, vmm.vm)
    assert program.group(1) >= 0


@since({"2013": -EBUSY, "6.1": 0})
def test_whether_a_member_keeps_its_container(profile: Profile, expected: int) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    assert program.unset_container(vmm.group) == expected
    program.delete(vmm.device, vmm.group)
    assert min(program.unset_container(vmm.group), 0) == (0 if expected else -EINVAL)


def test_a_failed_add_or_del_holds_nothing(vmm: Vmm) -> None:
    program = vmm.program
    file = program.task.fget(vmm.group)
    program.delete(vmm.device, vmm.group)
    program.add(vmm.device, vmm.group)
    assert file.references == 2
    program.add(vmm.device, vmm.group)
    assert file.references == 2
    program.delete(vmm.device, vmm.group)
    assert file.references == 1
    assert vmm.recorder.references == ["taken VFIO group 1", "dropped VFIO group 1"]


def test_a_closed_vm_fd_changes_nothing_for_the_device(vmm: Vmm) -> None:
    program = vmm.program
    program.close(vmm.vm)
    assert program.add(vmm.device, vmm.group) == 0
    assert program.delete(vmm.device, vmm.group) == 0


# -- what KVM and VFIO hear, in order --------------------------------------------------------------


@since(
    {
        "2013": ("reg", "unreg"),
        "4.19": ("asg setkvm(1) coh=0 reg", "unasg setkvm(NULL) unreg"),
        "6.18": ("setkvm(1) coh=0 reg", "setkvm(NULL) unreg"),
    }
)
def test_the_first_member_registers_and_the_last_unregisters(
    profile: Profile, expected: tuple[str, str]
) -> None:
    added, deleted = expected
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    assert vmm.heard() == added
    program.delete(vmm.device, vmm.group)
    assert vmm.heard() == deleted


@profiles()
def test_further_members_register_nothing(profile: Profile) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    groups = [vmm.group, vmm.second_group(2), vmm.second_group(4)]
    changes = []
    for call, group in [(program.add, g) for g in groups] + [(program.delete, g) for g in groups]:
        must(call(vmm.device, group))
        changes += [word for word in vmm.heard().split() if word in ("reg", "unreg")]
        changes.append(str(vmm.model_vm().noncoherent_dma_count))
    assert changes == ["reg", "1", "1", "1", "1", "1", "unreg", "0"]


def test_members_are_asked_in_order_until_the_first_no() -> None:
    vmm = start_vmm(machine=SNOOPING)
    program = vmm.program
    groups = {number: vmm.second_group(number) for number in (2, 4)} | {1: vmm.group}
    force = program.kernel.external.force
    for number, coherent in ((1, True), (2, False), (4, True)):
        force(program.file(groups[number], GroupFile), answer=coherent)
    heard = []
    for call, number in [
        (program.add, 1),
        (program.add, 4),
        (program.add, 2),
        (program.delete, 4),
        (program.delete, 2),
        (program.delete, 1),
    ]:
        must(call(vmm.device, groups[number]))
        heard.append(" ".join(w for w in vmm.heard().split() if w[:3] in ("coh", "reg", "unr")))
    assert heard == [
        "coh=1",
        "coh=1 coh=1",
        "coh=1 coh=1 coh=0 reg",
        "coh=1 coh=0",
        "coh=1 unreg",
        "",
    ]


@since(
    {
        "2013": ("devdtor unreg", "vmdel"),
        "4.19": ("", "vmdel devdtor setkvm(NULL) unasg setkvm(NULL) unasg unreg"),
        "6.1": ("devrel setkvm(NULL) unasg setkvm(NULL) unasg unreg", "vmdel"),
        "6.18": ("devrel setkvm(NULL) setkvm(NULL) unreg", "vmdel"),
    }
)
def test_what_the_end_of_a_device_with_members_does(
    profile: Profile, expected: tuple[str, str]
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    program.add(vmm.device, vmm.second_group(2))
    vmm.heard()
    program.close(vmm.device)
    closed = vmm.heard()
    program.close(vmm.vm)
    assert (closed, vmm.heard()) == expected
    assert sorted(vmm.recorder.references[2:]) == ["dropped VFIO group 1", "dropped VFIO group 2"]


# -- coherency -------------------------------------------------------------------------------------


def in_container(program: Program, number: int) -> int:
    group, container = program.group(number), program.container()
    must(program.set_container(group, container), program.set_iommu(container))
    return group


def alone(program: Program, number: int) -> int:
    return program.group(number)


def container_without_iommu(program: Program, number: int) -> int:
    group = program.group(number)
    must(program.set_container(group, program.container()))
    return group


# The machines: no snoop control; snoop control; a mixture, where group 7's IOMMU has it.
@pytest.mark.parametrize(
    ("setting", "machine", "number", "answers"),
    [
        (in_container, MACHINE, 1, {"2013": 1}),
        (in_container, SNOOPING, 1, {"2013": 1, "4.19": 0}),
        (in_container, MACHINE, 7, {"2013": 1, "6.1": 0}),
        (alone, MACHINE, 1, {"2013": -EINVAL, "6.1": 0, "6.12": 1}),
        (alone, SNOOPING, 1, {"2013": -EINVAL, "6.1": 0}),
        (container_without_iommu, MACHINE, 1, {"2013": -EINVAL, "6.1": 1}),
        (container_without_iommu, SNOOPING, 1, {"2013": -EINVAL, "6.1": 1, "6.12": 0}),
    ],
)
@profiles()
def test_who_makes_dma_noncoherent(
    profile: Profile,
    setting: Callable[[Program, int], int],
    machine: Machine,
    number: int,
    answers: dict[str, int],
) -> None:
    """Each answer is the count of registrations after ADD, or its errno."""
    program = boot(profile, machine)
    device = program.create_device(program.vm())
    result = program.add(device, setting(program, number))
    count = program.kernel.snapshot().vms[0].noncoherent_dma
    assert (result or count) == answer_since(answers, profile)


@profiles("6.12", "6.18", "7.3")
@pytest.mark.parametrize(("number", "expected"), [(1, 1), (7, 0)])
def test_a_device_file_is_judged_by_its_iommu(profile: Profile, number: int, expected: int) -> None:
    vmm = start_vmm(profile, group=number)
    program = vmm.program
    program.add(vmm.device, program.device_fd(vmm.group, ADDRESS[number]))
    assert vmm.model_vm().noncoherent_dma_count == expected


@profiles("6.12", "6.18", "7.3")
def test_a_group_whose_last_device_left_is_coherent_from_the_next_change_on(
    profile: Profile,
) -> None:
    vmm = start_vmm(profile)
    program = vmm.program
    program.add(vmm.device, vmm.group)
    program.kernel.function(ADDRESS[1]).remove()
    assert vmm.model_vm().noncoherent_dma_count == 1
    coherent = program.group(7)
    must(program.add(vmm.device, coherent))
    assert vmm.model_vm().noncoherent_dma_count == 0
    assert program.delete(vmm.device, vmm.group) == 0


@pytest.mark.parametrize("watched", [False, True])
def test_an_answer_that_changes_in_between_is_noticed_at_the_next_change_only(
    watched: bool,
) -> None:
    program = boot(PROFILES["6.1"], observer=Recorder() if watched else None)
    vm = program.vm()
    device, container = program.create_device(vm), program.container()
    group, coherent = program.group(1), program.group(7)

    def count() -> int:
        return program.kernel.snapshot().vms[0].noncoherent_dma

    must(program.add(device, group))
    must(program.set_container(group, container))
    assert count() == 0
    must(program.add(device, coherent))
    assert count() == 1
    must(program.unset_container(group))
    assert count() == 1
    must(program.delete(device, coherent))
    assert count() == 0


@since({"2013": "", "4.19": "coh=0 reg", "7.3": ""})
def test_whether_a_failed_del_looks_at_coherency_again(profile: Profile, expected: str) -> None:
    vmm = start_vmm(profile, SNOOPING)
    program = vmm.program
    second = vmm.second_group(2)
    must(program.add(vmm.device, vmm.group))
    (member,) = vmm.model_device().members
    program.kernel.external.force(member, answer=False)
    vmm.heard()
    assert program.delete(vmm.device, second) == -ENOENT
    assert vmm.heard() == expected
    assert program.add(vmm.device, vmm.group) == -EEXIST
    assert vmm.heard() == ""


@pytest.mark.parametrize("observer", [None, Recorder()], ids=["unheard", "heard"])
def test_a_changed_answer_is_asked_for_whether_or_not_anybody_listens(
    observer: Recorder | None,
) -> None:
    program = boot(machine=SNOOPING, observer=observer)
    device = program.create_device(program.vm())
    first, second = program.group(1), program.group(2)
    must(program.add(device, first))
    program.kernel.external.force(program.file(first, GroupFile), answer=False)
    must(program.add(device, second))
    assert program.kernel.snapshot().vms[0].noncoherent_dma == 1


def test_a_forced_answer_can_be_taken_away_again() -> None:
    vmm = start_vmm()
    program = vmm.program
    force = program.kernel.external.force
    member = program.file(vmm.group, GroupFile)
    counts = []
    for answer in (True, None, False):
        force(member, answer=answer)
        must(program.add(vmm.device, vmm.group))
        counts.append(vmm.model_vm().noncoherent_dma_count)
        must(program.delete(vmm.device, vmm.group))
    assert counts == [0, 1, 1]


# -- why -------------------------------------------------------------------------------------------


def test_a_device_that_is_coherent_has_no_reasons() -> None:
    vmm = start_vmm(machine=SNOOPING)
    assert vmm.model_device().noncoherent_because() == []
    vmm.program.add(vmm.device, vmm.group)
    assert vmm.model_device().noncoherent_because() == []


def test_the_reasons_are_the_members_that_are_noncoherent(vmm: Vmm) -> None:
    program = vmm.program
    for group in (vmm.group, program.group(7), vmm.second_group(2)):
        must(program.add(vmm.device, group))
    assert vmm.model_device().noncoherent_because() == [
        "VFIO group 1: dmar0 has no snoop control",
        "VFIO group 2: dmar0 has no snoop control",
    ]


def test_a_reason_that_has_gone_is_said_to_be_gone(vmm: Vmm) -> None:
    program = vmm.program
    program.add(vmm.device, vmm.group)
    program.kernel.external.force(program.file(vmm.group, GroupFile), answer=True)
    (reason,) = vmm.model_device().noncoherent_because()
    assert "the next ADD or DEL" in reason
