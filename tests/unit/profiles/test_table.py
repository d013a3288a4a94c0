# SPDX-License-Identifier: GPL-2.0-only
"""Every field of a profile has a small scenario whose answer is another wherever the field is.

A new field wants a row in `SCENARIOS`, a changed value an answer there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from errno import (
    EBADF,
    EBADFD,
    EBUSY,
    EFAULT,
    EINVAL,
    EIO,
    ENODEV,
    ENOENT,
    ENOSPC,
    ENOTTY,
    ENXIO,
    EOVERFLOW,
    EPERM,
)
from itertools import pairwise
from typing import Any, NamedTuple

import pytest

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.kernel.pci.edu import Edu
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.machine.load import load_machine
from kvm_vfio.machine.model import Iommu, IommuGroup, Machine
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.supervisor.sysfs import sys_tree
from kvm_vfio.supervisor.tree import Directory
from kvm_vfio.uapi import kvm, kvm_vm, kvm_x86, vfio
from kvm_vfio.uapi.fs import FS_IOC_SETFLAGS
from tests.unit.kernel.program import (
    ADDRESS,
    MACHINE,
    SNOOPING,
    Program,
    answer_since,
    boot,
    must,
    start_vmm,
)

# -- the scenarios ---------------------------------------------------------------------------------


def what_kvm_says_of_itself(profile: Profile) -> tuple[int, ...] | str:
    program = boot(profile)
    kvm_fd = program.open("/dev/kvm")
    asked = (kvm.KVM_CAP_DISABLE_QUIRKS2, kvm.KVM_CAP_MAX_VCPUS)
    try:
        return tuple(program.ioctl(kvm_fd, kvm.KVM_CHECK_EXTENSION, cap) for cap in asked)
    except NotModelled:
        return "nobody has recorded it"


def quirks_of_a_vm(profile: Profile) -> int | str:
    """How many a VM lets be disabled; what else of it differs is in test_vm.py."""
    program = boot(profile)
    vm = program.vm()

    def disabled(quirk: int) -> bool:
        cap = kvm.KVM_CAP_DISABLE_QUIRKS2
        wanted = program.struct(kvm_vm.KVM_ENABLE_CAP_LAYOUT, cap=cap, arg0=1 << quirk)
        return program.ioctl(vm, kvm_vm.KVM_ENABLE_CAP, wanted) == 0

    try:
        return sum(map(disabled, range(64)))
    except NotModelled:
        return "nobody has measured it"


def a_listed_msr_that_is_no_feature(profile: Profile) -> int | str:
    program = boot(profile)
    asked = program.put(kvm_x86.KVM_MSRS.pack_fields(1, 0) + bytes([0x10]) + bytes(15))
    try:
        return program.ioctl(program.open("/dev/kvm"), kvm_x86.KVM_GET_MSRS, asked)
    except NotModelled:
        return 0


def asked_of_a_vcpu(
    ask: Callable[[Program, int], Any], unrecorded: object = 0
) -> Callable[[Profile], Any]:
    """What a fresh vCPU answers; `unrecorded` where the model has none."""

    def run(profile: Profile) -> Any:  # noqa: ANN401  # whatever `ask` returns
        program = boot(profile)
        try:
            vcpu = program.ioctl(program.vm(), kvm.KVM_CREATE_VCPU)
        except NotModelled:
            return unrecorded
        return ask(program, vcpu)

    return run


def a_wide_number_of_a_vcpu(profile: Profile) -> int:
    program = boot(profile)
    try:
        return min(program.ioctl(program.vm(), kvm.KVM_CREATE_VCPU, 1 << 32), 0)
    except NotModelled:
        return 0


def x87_of_an_area_without_it(program: Program, vcpu: int) -> int:
    area = bytearray(4096)
    area[0] = 0x55
    program.ioctl(vcpu, kvm_x86.KVM_SET_XSAVE, program.put(bytes(area)))
    read = program.put(bytes(4096))
    program.ioctl(vcpu, kvm_x86.KVM_GET_XSAVE, read)
    return program.mm.read(read, 1)[0]


def setting_events(**fields: int) -> Callable[[Program, int], int]:
    def ask(program: Program, vcpu: int) -> int:
        events = program.struct(kvm_x86.KVM_VCPU_EVENTS, **fields)
        return program.ioctl(vcpu, kvm_x86.KVM_SET_VCPU_EVENTS, events)

    return ask


def a_triple_fault_unknown_or_not_enabled(program: Program, vcpu: int) -> int:
    """Both are EINVAL; one that is known has had its other effects by then."""
    flags = kvm_x86.KVM_VCPUEVENT_VALID_TRIPLE_FAULT
    setting_events(flags=flags, interrupt_injected=1)(program, vcpu)
    events = program.struct(kvm_x86.KVM_VCPU_EVENTS)
    program.ioctl(vcpu, kvm_x86.KVM_GET_VCPU_EVENTS, events)
    return events.value.interrupt_injected


def setting_sregs(**fields: int) -> Callable[[Program, int], int]:
    def ask(program: Program, vcpu: int) -> int:
        sregs = program.struct(kvm_x86.KVM_SREGS)
        program.ioctl(vcpu, kvm_x86.KVM_GET_SREGS, sregs)
        changed = program.struct(kvm_x86.KVM_SREGS, **{**sregs.value._asdict(), **fields})
        return program.ioctl(vcpu, kvm_x86.KVM_SET_SREGS, changed)

    return ask


def the_count_of_no_leaves(program: Program, vcpu: int) -> int:
    head = program.struct(kvm_x86.KVM_CPUID2, nent=7)
    program.ioctl(vcpu, kvm_x86.KVM_GET_CPUID2, head)
    return head.value.nent


def nmis_that_wait(program: Program, vcpu: int) -> int:
    for _ in range(3):
        program.ioctl(vcpu, kvm_x86.KVM_NMI)
    events = program.struct(kvm_x86.KVM_VCPU_EVENTS)
    program.ioctl(vcpu, kvm_x86.KVM_GET_VCPU_EVENTS, events)
    return events.value.nmi_pending


def debugging_after_an_exception(program: Program, vcpu: int) -> int:
    setting_events(exception_injected=1, exception_nr=13)(program, vcpu)
    control = kvm_x86.KVM_GUESTDBG_ENABLE | kvm_x86.KVM_GUESTDBG_INJECT_DB
    debug = program.struct(kvm_x86.KVM_GUEST_DEBUG, control=control)
    return program.ioctl(vcpu, kvm_x86.KVM_SET_GUEST_DEBUG, debug)


def clearing_the_gif(program: Program, vcpu: int) -> int:
    state = program.struct(kvm_x86.KVM_NESTED_STATE, format=1, size=128)
    return program.ioctl(vcpu, kvm_x86.KVM_SET_NESTED_STATE, state)


def setting_an_mp_state(state: int, *, smm: bool) -> Callable[[Profile], int]:
    def run(profile: Profile) -> int:
        program = boot(profile)
        vm = program.vm()
        try:
            program.ioctl(vm, kvm_vm.KVM_CREATE_IRQCHIP)
        except NotModelled:
            return 0 if not smm else -EINVAL
        vcpu = program.ioctl(vm, kvm.KVM_CREATE_VCPU)
        setting_events(flags=kvm_x86.KVM_VCPUEVENT_VALID_SMM, smi_smm=int(smm))(program, vcpu)
        wanted = program.struct(kvm_x86.KVM_MP_STATE, mp_state=state)
        return program.ioctl(vcpu, kvm_x86.KVM_SET_MP_STATE, wanted)

    return run


def async_page_faults_without_memory(profile: Profile) -> int:
    program = boot(profile)
    vm = program.vm()
    try:
        program.ioctl(vm, kvm_vm.KVM_CREATE_IRQCHIP)
    except NotModelled:
        return 9
    vcpu = program.ioctl(vm, kvm.KVM_CREATE_VCPU)
    head, entry = kvm_x86.KVM_MSRS.pack_fields(1, 0), kvm_x86.KVM_MSR_ENTRY
    at = program.put(head + entry.pack_fields(0x4B564D02, 0, 9))
    assert program.ioctl(vcpu, kvm_x86.KVM_SET_MSRS, at) == 0
    assert program.ioctl(vcpu, kvm_x86.KVM_GET_MSRS, at) == 1
    return program.mm.read(at + 16, 1)[0]


def what_a_refused_msr_leaves(program: Program, vcpu: int) -> int:
    entry = kvm_x86.KVM_MSRS.pack_fields(1, 0) + kvm_x86.KVM_MSR_ENTRY.pack_fields(0x802, 0, 0x55)
    at = program.put(entry)
    assert program.ioctl(vcpu, kvm_x86.KVM_GET_MSRS, at) == 0
    return program.mm.read(at + 16, 1)[0]


def a_fault_after_a_bad_mtrr(program: Program, vcpu: int) -> int:
    bad = kvm_x86.KVM_MSRS.pack_fields(1, 0) + kvm_x86.KVM_MSR_ENTRY.pack_fields(0x201, 0, 1)
    assert program.ioctl(vcpu, kvm_x86.KVM_SET_MSRS, program.put(bad)) == 0
    events = program.struct(kvm_x86.KVM_VCPU_EVENTS)
    program.ioctl(vcpu, kvm_x86.KVM_GET_VCPU_EVENTS, events)
    return events.value.exception_nr


def bsp_bit_that_was_not_set(program: Program, vcpu: int) -> int:
    setting_sregs(apic_base=0xFEE00800)(program, vcpu)
    sregs = program.struct(kvm_x86.KVM_SREGS)
    program.ioctl(vcpu, kvm_x86.KVM_GET_SREGS, sregs)
    return sregs.value.apic_base >> 8 & 1


def device_control_capability(profile: Profile) -> int:
    program = boot(profile)
    kvm_fd = program.open("/dev/kvm")
    return program.ioctl(kvm_fd, kvm.KVM_CHECK_EXTENSION, kvm.KVM_CAP_DEVICE_CTRL)


def attributes_of_dev_kvm(profile: Profile) -> tuple[int, ...]:
    program = boot(profile)
    kvm_fd = program.open("/dev/kvm")
    return tuple(program.has_attr(kvm_fd, *attr) for attr in ((0, 0), (1, 0), (1, 1)))


def setting_flags_of_a_vm(profile: Profile) -> int:
    vmm = start_vmm(profile)
    return vmm.program.ioctl(vmm.vm, FS_IOC_SETFLAGS, 0)


def child_asks_the_device(profile: Profile) -> int:
    vmm = start_vmm(profile)
    return vmm.program.fork().has_attr(vmm.device, 1, 1)


def closing_the_device(profile: Profile) -> str:
    vmm = start_vmm(profile)
    vmm.program.close(vmm.device)
    return vmm.heard()


def deassigning_a_stranger(profile: Profile) -> int:
    program = boot(profile)
    wanted = program.struct(kvm.KVM_ASSIGNED_PCI_DEV)
    return program.ioctl(program.vm(), kvm.KVM_DEASSIGN_PCI_DEVICE, wanted)


def heard_of_add(word: str) -> Callable[[Profile], bool]:
    def scenario(profile: Profile) -> bool:
        vmm = start_vmm(profile)
        must(vmm.program.add(vmm.device, vmm.group))
        return word in vmm.heard().split()

    return scenario


def registrations(profile: Profile) -> tuple[int, int]:
    """Of a group in a container where all snoop; of one without a container where none does."""
    vmm = start_vmm(profile, SNOOPING)
    must(vmm.program.add(vmm.device, vmm.group))
    program = boot(profile)
    result = program.add(program.create_device(program.vm()), program.group(1))
    count = program.kernel.snapshot().vms[0].noncoherent_dma
    return vmm.model_vm().noncoherent_dma_count, result or count


def adding_a_group_alone(profile: Profile) -> int:
    vmm = start_vmm(profile)
    return vmm.program.add(vmm.device, vmm.program.group(2))


def adding_a_device_file(profile: Profile) -> int:
    vmm = start_vmm(profile)
    return vmm.program.add(vmm.device, vmm.program.device_fd(vmm.group, ADDRESS[1]))


def deleting_what_is_no_group(profile: Profile) -> int:
    vmm = start_vmm(profile)
    return vmm.program.delete(vmm.device, vmm.vm)


def registrations_after_a_failed_del(profile: Profile) -> int:
    vmm = start_vmm(profile, SNOOPING)
    second = vmm.second_group(2)
    must(vmm.program.add(vmm.device, vmm.group))
    (member,) = vmm.model_device().members
    vmm.program.kernel.external.force(member, answer=False)
    assert vmm.program.delete(vmm.device, second) == -ENOENT
    return vmm.model_vm().noncoherent_dma_count


def setting_a_container(number: int, fd: Callable[[Program], int]) -> Callable[[Profile], int]:
    def scenario(profile: Profile) -> int:
        program = boot(profile)
        return program.set_container(program.group(number), fd(program))

    return scenario


def mapping_a_container(profile: Profile) -> object:
    program = boot(profile)
    file = program.task.fget(program.container())
    return program.call(lambda: file.mmap(program.task, PAGE, 0, writable=True))


def a_wrong_name_without_a_container(profile: Profile) -> int:
    program = boot(profile)
    return program.device_fd(program.group(1), "nonsense")


def vms_that_an_open_device_keeps(profile: Profile) -> int:
    vmm = start_vmm(profile)
    must(vmm.program.add(vmm.device, vmm.group))
    must(vmm.program.device_fd(vmm.group, ADDRESS[1]))
    vmm.program.close(vmm.device, vmm.vm)
    return len(vmm.program.kernel.snapshot().vms)


def status_when_the_last_device_has_left(profile: Profile) -> int:
    program = boot(profile)
    group = program.group(1)
    program.kernel.function(ADDRESS[1]).remove()
    return program.status(group)


def bytes_of_device_info(profile: Profile) -> int:
    vmm = start_vmm(profile)
    program = vmm.program
    device = program.device_fd(vmm.group, ADDRESS[1])
    address = program.put((64).to_bytes(4, "little") + b"\xff" * 60)
    must(program.ioctl(device, vfio.VFIO_DEVICE_GET_INFO, address))
    return len(program.mm.read(address, 64).rstrip(b"\xff"))


def flags_of_an_irq(group: int, index: int) -> Callable[[Profile], int]:
    def scenario(profile: Profile) -> int:
        vmm = start_vmm(profile, group=group)
        device = vmm.program.device_fd(vmm.group, ADDRESS[group])
        info = vmm.program.struct(vfio.VFIO_IRQ_INFO, index=index)
        return vmm.program.ioctl(device, vfio.VFIO_DEVICE_GET_IRQ_INFO, info) or info.value.flags

    return scenario


def mapping_a_bar_to_execute(profile: Profile) -> int:
    vmm = start_vmm(profile)
    file = vmm.program.file(vmm.program.device_fd(vmm.group, ADDRESS[1]), VfioDeviceFile)
    task = vmm.program.task
    return vmm.program.number(lambda: len(file.mmap(task, PAGE, 0, writable=True, executable=True)))


# The e1000e of the recordings: power management at 0xc8, error reporting at 0x100.
E1000E = next(d for _, d in load_machine("referee").devices() if d.address == "0000:00:13.0")
CONFIG, POWER, CORRECTABLE_MASK = 7 << 40, (7 << 40) + 0xCC, (7 << 40) + 0x114


def on_the_e1000e(at: int, *, power: int | None = None) -> Callable[[Profile], int]:
    """A read of 2 bytes at `at`, after the power state has been written."""

    def scenario(profile: Profile) -> int:
        machine = Machine("test", (Iommu("dmar0", (IommuGroup(4, (E1000E,)),)),))
        vmm = start_vmm(profile, group=4, machine=machine)
        device = vmm.program.device_fd(vmm.group, E1000E.address)
        if power is not None:
            vmm.program.write(device, power.to_bytes(2, "little"), POWER)
        data = vmm.program.read(device, 2, at)
        return data if isinstance(data, int) else int.from_bytes(data, "little")

    return scenario


def features_that_are_there(profile: Profile) -> list[int]:
    vmm = start_vmm(profile)
    device = vmm.program.device_fd(vmm.group, ADDRESS[1])
    probe = vfio.VFIO_DEVICE_FEATURE_PROBE
    heads = [vfio.VFIO_DEVICE_FEATURE_LAYOUT.pack_fields(8, probe | n) for n in range(16)]
    answers = [
        vmm.program.ioctl(device, vfio.VFIO_DEVICE_FEATURE, vmm.program.put(head)) for head in heads
    ]
    return [number for number, answer in enumerate(answers) if answer == 0]


def a_name_with_a_blank(profile: Profile) -> int | str:
    vmm = start_vmm(profile)
    answer = vmm.program.device_fd(vmm.group, f"{ADDRESS[1]} ")
    return answer if answer < 0 else "there"


def in_sysfs(path: str) -> Callable[[Profile], object]:
    """What is at a path in /sys; None: nothing."""

    def scenario(profile: Profile) -> object:
        here: object = sys_tree(Kernel(MACHINE, profile))
        for step in path.split("/"):
            here = here.get(step) if isinstance(here, Directory) else None
        return here

    return scenario


def opening_a_device_that_leaves(profile: Profile) -> int | str:
    vmm = start_vmm(profile)
    vmm.program.device_fd(vmm.group, ADDRESS[1])
    with pytest.raises(NotModelled):
        vmm.program.kernel.function(ADDRESS[1]).remove()
    answer = vmm.program.device_fd(vmm.group, ADDRESS[1])
    return answer if answer < 0 else "there"


def an_fd_below_minus_one_as_request_interrupt(profile: Profile) -> int:
    vmm = start_vmm(profile)
    device = vmm.program.device_fd(vmm.group, ADDRESS[1])
    flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
    head = vfio.VFIO_IRQ_SET.pack_fields(24, flags, vfio.VFIO_PCI_REQ_IRQ_INDEX, 0, 1)
    at = vmm.program.put(head + (-2).to_bytes(4, "little", signed=True))
    return vmm.program.ioctl(device, vfio.VFIO_DEVICE_SET_IRQS, at)


def eight_bytes_of_edu(profile: Profile) -> int:
    """The device takes 4 bytes at a time there; what it takes not reads as all ones."""
    machine = Machine("test", (Iommu("dmar0", (IommuGroup(1, (Edu.at(ADDRESS[1]),)),)),))
    vmm = start_vmm(profile, machine, group=1)
    device = vmm.program.device_fd(vmm.group, ADDRESS[1])
    data = vmm.program.read(device, 8, 0)
    assert isinstance(data, bytes)
    return int.from_bytes(data, "little", signed=True)


def a_hot_reset_of_no_group(profile: Profile) -> int:
    vmm = start_vmm(profile)
    device = vmm.program.device_fd(vmm.group, ADDRESS[1])
    wanted = vmm.program.struct(vfio.VFIO_PCI_HOT_RESET)
    return vmm.program.ioctl(device, vfio.VFIO_DEVICE_PCI_HOT_RESET, wanted)


def extension(number: int, machine: Machine = MACHINE, group: int = 1) -> Callable[[Profile], int]:
    def scenario(profile: Profile) -> int:
        vmm = start_vmm(profile, machine, group)
        return vmm.program.extension(vmm.container, number)

    return scenario


def setting_an_iommu(kind: int) -> Callable[[Profile], int]:
    def scenario(profile: Profile) -> int:
        program = boot(profile)
        container = program.container()
        must(program.set_container(program.group(1), container))
        return program.set_iommu(container, kind)

    return scenario


def stopping_dirty_tracking(profile: Profile) -> int:
    vmm = start_vmm(profile)
    layout, flags = vfio.VFIO_IOMMU_TYPE1_DIRTY_BITMAP, vfio.VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP
    # Version 2 where there is one: version 1 has no tracking.
    return vmm.program.ioctl(
        vmm.container, vfio.VFIO_IOMMU_DIRTY_PAGES, vmm.program.struct(layout, flags=flags)
    )


def unmapping_by_a_child(profile: Profile) -> int:
    vmm = start_vmm(profile)
    must(vmm.program.map_dma(vmm.container, 0))
    return vmm.program.fork().unmap_dma(vmm.container, 0)


def mapping(iova: int, size: int = PAGE) -> Callable[[Profile], int]:
    def scenario(profile: Profile) -> int:
        vmm = start_vmm(profile)
        return vmm.program.map_dma(vmm.container, iova, size, vaddr=PAGE)

    return scenario


def unmapping_up_to_the_end_of_all(profile: Profile) -> int:
    vmm = start_vmm(profile)
    must(vmm.program.map_dma(vmm.container, 8 * PAGE))
    return vmm.program.unmap_dma(vmm.container, PAGE, (1 << 64) - PAGE)


def iommu_info(profile: Profile) -> vfio.vfio_iommu_type1_info:
    vmm = start_vmm(profile)
    info = vmm.program.struct(vfio.VFIO_IOMMU_TYPE1_INFO)
    must(vmm.program.ioctl(vmm.container, vfio.VFIO_IOMMU_GET_INFO, info))
    return info.value


def one_mapping_too_many(profile: Profile) -> int:
    """Of 65,536; the mappings before it are not made one by one, but only counted."""
    vmm = start_vmm(profile)
    program = vmm.program
    iommu = program.file(vmm.container, ContainerFile).container.iommu
    assert iommu is not None
    iommu.mappings._at = dict.fromkeys(range(1, 65536))  # type: ignore[assignment]  # for len
    return program.map_dma(vmm.container, 0)


class Scenario(NamedTuple):
    """What is done on a kernel of a profile, and the answers, given where they change."""

    run: Callable[[Profile], Any]
    answers: dict[str, Any]


SCENARIOS = {
    "vfs_sets_file_attributes": Scenario(setting_flags_of_a_vm, {"2013": -ENOTTY, "6.1": -EFAULT}),
    "kvm_recording": Scenario(
        what_kvm_says_of_itself,
        {
            "2013": "nobody has recorded it",
            "5.10": (0, 288),
            "6.1": (127, 1024),
            "6.12": (2047, 4096),
            "6.18": (1023, 4096),
            "7.3": (4095, 4096),
        },
    ),
    "capabilities": Scenario(device_control_capability, {"2013": 0, "6.12": 1}),
    "system_attributes": Scenario(
        attributes_of_dev_kvm,
        {
            "2013": (-EINVAL, -EINVAL, -EINVAL),
            "6.1": (0, -ENXIO, -ENXIO),
            "6.12": (0, 0, -ENXIO),
            "7.3": (0, 0, 0),
        },
    ),
    "listed_msrs_read_zero": Scenario(a_listed_msr_that_is_no_feature, {"2013": 0, "6.12": 1}),
    "xsave_by_component": Scenario(
        asked_of_a_vcpu(x87_of_an_area_without_it, 0x55), {"2013": 0x55, "6.1": 0x7F}
    ),
    "triple_fault_events": Scenario(
        asked_of_a_vcpu(a_triple_fault_unknown_or_not_enabled), {"2013": 0, "6.1": 1}
    ),
    "vcpu_id_is_long": Scenario(a_wide_number_of_a_vcpu, {"2013": 0, "6.12": -EINVAL}),
    "sregs_check_cr0": Scenario(
        asked_of_a_vcpu(setting_sregs(cr0=1 << 32)), {"2013": 0, "6.1": -EINVAL}
    ),
    "sregs_check_efer": Scenario(
        asked_of_a_vcpu(setting_sregs(efer=1 << 12)),
        {"2013": 0, "6.12": -EINVAL, "6.18": 0, "7.3": -EINVAL},
    ),
    "get_cpuid2_counts": Scenario(
        asked_of_a_vcpu(the_count_of_no_leaves, 7), {"2013": 7, "6.12": 0}
    ),
    "pending_nmis_counted": Scenario(asked_of_a_vcpu(nmis_that_wait, 1), {"2013": 1, "6.12": 2}),
    "debugger_waits_for_injected": Scenario(
        asked_of_a_vcpu(debugging_after_an_exception), {"2013": 0, "7.3": -EBUSY}
    ),
    "gif_needs_svme": Scenario(
        asked_of_a_vcpu(clearing_the_gif, -EINVAL), {"2013": -EINVAL, "7.3": 0}
    ),
    "failed_async_pf_is_kept": Scenario(async_page_faults_without_memory, {"2013": 9, "7.3": 0}),
    "mp_states_checked": Scenario(setting_an_mp_state(7, smm=False), {"2013": 0, "6.1": -EINVAL}),
    "blocked_init_is_refused": Scenario(
        setting_an_mp_state(kvm_x86.KVM_MP_STATE_INIT_RECEIVED, smm=True),
        {"2013": -EINVAL, "6.18": 0},
    ),
    "refused_msrs_read_zero": Scenario(
        asked_of_a_vcpu(what_a_refused_msr_leaves, 0x55), {"2013": 0x55, "6.12": 0}
    ),
    "bad_mtrr_injects_gp": Scenario(
        asked_of_a_vcpu(a_fault_after_a_bad_mtrr, 13), {"2013": 13, "6.1": 0}
    ),
    "apic_base_gains_bsp": Scenario(
        asked_of_a_vcpu(bsp_bit_that_was_not_set, 1), {"2013": 1, "6.1": 0}
    ),
    "cpuid_counts_before_it_is_set": Scenario(
        asked_of_a_vcpu(setting_sregs(cr4=1 << 20)), {"2013": 0, "6.18": -EINVAL}
    ),
    "device_checks_mm": Scenario(child_asks_the_device, {"2013": 0, "5.10": -EIO}),
    "device_end": Scenario(closing_the_device, {"2013": "devdtor", "4.19": "", "6.1": "devrel"}),
    "legacy_assignment": Scenario(deassigning_a_stranger, {"2013": -ENODEV, "4.19": -ENOTTY}),
    "reports_assignment": Scenario(
        heard_of_add("asg"), {"2013": False, "4.19": True, "6.18": False}
    ),
    "tells_member_its_kvm": Scenario(heard_of_add("setkvm(1)"), {"2013": False, "4.19": True}),
    "vm": Scenario(
        quirks_of_a_vm,
        {
            "2013": "nobody has measured it",
            "5.10": 0,
            "6.1": 7,
            "6.12": 11,
            "6.18": 10,
            "7.3": 12,
        },
    ),
    "coherency": Scenario(
        registrations, {"2013": (1, -EINVAL), "4.19": (0, -EINVAL), "6.1": (0, 0), "6.12": (0, 1)}
    ),
    "member_is_group": Scenario(adding_a_group_alone, {"2013": -EINVAL, "6.1": 0}),
    "accepts_device_file": Scenario(adding_a_device_file, {"2013": -EINVAL, "6.12": 0}),
    "del_looks_up_again": Scenario(deleting_what_is_no_group, {"2013": -EINVAL, "4.19": -ENOENT}),
    "failed_del_updates_coherency": Scenario(
        registrations_after_a_failed_del, {"2013": 1, "7.3": 0}
    ),
    "group_claims_dma": Scenario(
        setting_a_container(5, Program.container), {"2013": 0, "6.1": -EPERM}
    ),
    "set_container_fget_first": Scenario(
        setting_a_container(1, lambda program: -1), {"2013": -EINVAL, "6.1": -EBADF}
    ),
    "container_mmap_errno": Scenario(mapping_a_container, {"2013": -EINVAL, "6.1": -ENODEV}),
    "wrong_container_errno": Scenario(
        setting_a_container(1, Program.other), {"2013": -EINVAL, "6.12": -EBADFD}
    ),
    "device_lookup_first": Scenario(
        a_wrong_name_without_a_container, {"2013": -EINVAL, "6.1": -ENODEV}
    ),
    "device_name_has_options": Scenario(a_name_with_a_blank, {"2013": -ENODEV, "5.10": "there"}),
    "leaving_device_is_gone": Scenario(
        opening_a_device_that_leaves, {"2013": "there", "6.12": -ENODEV}
    ),
    "device_open_holds_vm": Scenario(vms_that_an_open_device_keeps, {"2013": 0, "6.12": 1}),
    "status_without_devices_errno": Scenario(
        status_when_the_last_device_has_left, {"2013": 1, "6.1": -ENODEV}
    ),
    "info_size": Scenario(bytes_of_device_info, {"2013": 16, "5.10": 20, "6.12": 24}),
    "msix_grows": Scenario(flags_of_an_irq(4, 2), {"2013": 9, "6.12": 1}),
    "every_device_reports_errors": Scenario(flags_of_an_irq(1, 3), {"2013": -EINVAL, "7.3": 9}),
    "region_access_width": Scenario(eight_bytes_of_edu, {"2013": 0x010000ED, "6.12": -1}),
    "hot_reset_counts_first": Scenario(a_hot_reset_of_no_group, {"2013": -ENODEV, "6.12": -EINVAL}),
    "anonymous_files_noexec": Scenario(mapping_a_bar_to_execute, {"2013": PAGE, "6.18": -EPERM}),
    "device_features": Scenario(
        features_that_are_there,
        {"2013": [], "6.1": [3, 4, 5], "7.3": [3, 4, 5, 11]},
    ),
    "config_hides_pme": Scenario(on_the_e1000e(POWER, power=0x0100), {"2013": 0x0100, "6.1": 0}),
    "low_power_blocks_memory": Scenario(on_the_e1000e(0, power=3), {"2013": 0x0241, "6.1": -EIO}),
    "aer_reports_advisory": Scenario(
        on_the_e1000e(CORRECTABLE_MASK), {"2013": 0xE000, "7.3": 0xC000}
    ),
    "negative_eventfd_errno": Scenario(
        an_fd_below_minus_one_as_request_interrupt, {"2013": 0, "6.12": -EINVAL}
    ),
    "iommu_group_type": Scenario(
        in_sysfs("kernel/iommu_groups/4/type"), {"2013": b"DMA\n", "6.1": b"DMA-FQ\n"}
    ),
    "sysfs_reset_method": Scenario(
        in_sysfs(f"devices/pci0000:00/{ADDRESS[4]}/reset_method"), {"2013": None, "6.1": b"flr\n"}
    ),
    "domain_scope": Scenario(extension(vfio.VFIO_DMA_CC_IOMMU, group=7), {"2013": 0, "6.1": 1}),
    "type1v2": Scenario(setting_an_iommu(vfio.VFIO_TYPE1v2_IOMMU), {"2013": -ENODEV, "4.19": 0}),
    "dma_cc_extension": Scenario(
        extension(vfio.VFIO_DMA_CC_IOMMU, SNOOPING), {"2013": 0, "4.19": 1}
    ),
    "nesting_extension": Scenario(
        extension(vfio.VFIO_TYPE1_NESTING_IOMMU), {"2013": 0, "4.19": 1, "6.18": 0}
    ),
    "nesting_errno": Scenario(
        setting_an_iommu(vfio.VFIO_TYPE1_NESTING_IOMMU),
        {"2013": -ENODEV, "6.1": -EINVAL, "6.18": -ENODEV},
    ),
    "dirty_page_tracking": Scenario(stopping_dirty_tracking, {"2013": -ENOTTY, "5.10": 0}),
    "unmap_all": Scenario(extension(vfio.VFIO_UNMAP_ALL), {"2013": 0, "6.1": 1}),
    "update_vaddr": Scenario(extension(vfio.VFIO_UPDATE_VADDR), {"2013": 0, "6.1": 1}),
    "unmap_checks_mm": Scenario(unmapping_by_a_child, {"2013": PAGE, "4.19": 0, "6.1": PAGE}),
    "unreachable_iova_errno": Scenario(mapping(1 << 39), {"2013": -EFAULT, "5.10": -EINVAL}),
    "dma_overflow_errno": Scenario(
        mapping((1 << 64) - PAGE, 2 * PAGE), {"2013": -EINVAL, "6.18": -EOVERFLOW}
    ),
    "dma_range_end_wraps": Scenario(unmapping_up_to_the_end_of_all, {"2013": 0, "6.18": PAGE}),
    "type1_capabilities": Scenario(
        lambda profile: iommu_info(profile).flags, {"2013": 1, "5.10": 3}
    ),
    "type1_page_sizes": Scenario(
        lambda profile: iommu_info(profile).iova_pgsizes,
        {"2013": 0xFFFF_FFFF_FFFF_F000, "6.1": 0x4020_1000},
    ),
    "dma_entry_limit": Scenario(one_mapping_too_many, {"2013": 0, "5.10": -ENOSPC}),
}

# Where another field that changes in the same kernel decides alone.
DECIDED_BY_ANOTHER = {
    ("coherency", "6.1"): "member_is_group: who has no container is no member, or is coherent",
    ("nesting_errno", "6.18"): "nesting_extension: what is not offered cannot be set",
}

# -- the tests -------------------------------------------------------------------------------------

FIELDS = [field.name for field in fields(Profile) if field.name not in ("name", "measured")]
CHANGES = [
    (field, before, after)
    for before, after in pairwise(PROFILES.values())
    for field in FIELDS
    if getattr(before, field) != getattr(after, field)
]


def test_every_field_has_a_scenario_and_changes_somewhere() -> None:
    assert list(SCENARIOS) == FIELDS
    assert {field for field, _, _ in CHANGES} == set(FIELDS)


def test_a_field_changes_exactly_where_its_scenarios_answer_does() -> None:
    changes = {(field, after.name) for field, _, after in CHANGES}
    first = next(iter(PROFILES))
    documented = {
        (field, name)
        for field, scenario in SCENARIOS.items()
        for name in scenario.answers
        if name != first
    }
    assert changes == documented


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
@pytest.mark.parametrize("field", SCENARIOS)
def test_the_scenario_answers_as_the_profile_says(field: str, profile: Profile) -> None:
    run, answers = SCENARIOS[field]
    assert run(profile) == answer_since(answers, profile)


@pytest.mark.parametrize(
    ("field", "before", "after"),
    CHANGES,
    ids=[f"{field}-{after.name}" for field, _, after in CHANGES],
)
def test_it_is_this_field_that_changes_the_answer(
    field: str, before: Profile, after: Profile
) -> None:
    run, answers = SCENARIOS[field]
    mixed = replace(after, **{field: getattr(before, field)})
    same = run(mixed) == answer_since(answers, after)
    assert same == ((field, after.name) in DECIDED_BY_ANOTHER)


def test_profiles_are_named_and_say_which_release_answered() -> None:
    assert all(name == profile.name for name, profile in PROFILES.items())
    measured = {profile.name: profile.measured for profile in PROFILES.values()}
    assert (measured.pop("2013"), measured.pop("4.19")) == ("", "")
    assert all(release.startswith(f"{name}.") for name, release in measured.items())
    assert PROFILES["6.12"] is DEFAULT
