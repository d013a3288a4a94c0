# SPDX-License-Identifier: GPL-2.0-only
"""A recorded program as a scenario, with the same answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as changed

import pytest

from kvm_vfio import Container, Group, InputError, Kvm, ModelSyscalls, load_machine, model
from kvm_vfio.profiles import PROFILES
from kvm_vfio.scenario.kernels import ModelKernel
from kvm_vfio.scenario.language import parse
from kvm_vfio.scenario.replay import Other, Replay, compare, replay
from kvm_vfio.scenario.runner import Runner
from kvm_vfio.trace.schema import Header, Record
from kvm_vfio.uapi.kvm import KVM_SET_DEVICE_ATTR
from kvm_vfio.uapi.vfio import VFIO_TYPE1_IOMMU


def recorded(program: Callable[[ModelSyscalls], None], linux: str = "6.12") -> Replay:
    records: list[Record] = []
    program(model(linux, "referee", snoop_control=False, trace=records.extend))
    return replay(records)


def differing(made: Replay, linux: str) -> list[Other]:
    kernel = ModelKernel(linux, made.machine, PROFILES[linux])
    with kernel.hands() as hands:
        lines = Runner(hands).run(parse(made.script()))
        return list(compare(made.operations(), lines))


def everything(linux: ModelSyscalls) -> None:
    kvm = Kvm(linux)
    vm, container, group = kvm.create_vm(), Container(linux), Group(linux, 4)
    refused: Callable[[], object]
    for refused in (
        lambda: container.set_iommu(VFIO_TYPE1_IOMMU),
        lambda: Group(linux, 4),
        lambda: Group(linux, 77),
        lambda: group.set_container(kvm),
        lambda: vm.create_device(9),
    ):
        with pytest.raises(OSError, match=r".*"):
            refused()
    container.check_extension(VFIO_TYPE1_IOMMU)
    group.set_container(container)
    container.set_iommu(VFIO_TYPE1_IOMMU)
    container.info()
    memory = linux.mmap(-1, 1 << 16)
    container.map_dma(memory, 0x10000)
    with pytest.raises(FileExistsError):
        container.map_dma(memory, 0x10000)
    with vm.create_kvm_vfio() as device:
        device.add(group)
        for refused in (
            lambda: device.add(group),
            lambda: device.add(container),
            lambda: device.add(linux.socket()),
            lambda: device.delete(99),
            lambda: device.set_attr(7, 7, 0),
            lambda: device.set_attr(1, 1, 0),
            lambda: device.get_attr(1, 1, 0),
            vm.create_kvm_vfio,
            lambda: linux.ioctl(device.fileno(), KVM_SET_DEVICE_ATTR, 0),
        ):
            with pytest.raises(OSError, match=r".*"):
                refused()
        device.has_attr(1, 2)
        with group.device("0000:00:13.0") as e1000e:
            e1000e.info()
            for index in range(9):
                try:
                    e1000e.region_info(index)
                except OSError:
                    assert index == 8
            linux.pread(e1000e.fileno(), 4, 7 << 40)
        device.delete(group)
    container.unmap_dma(0x10000, 1 << 16)
    group.unset_container()
    linux.exit()


@pytest.mark.parametrize("linux", sorted(PROFILES))
def test_a_program_replays_with_its_answers(linux: str) -> None:
    made = recorded(everything, linux)
    assert (made.linux, made.snoop()) == (linux, False)
    assert len(made.operations()) > 30
    assert differing(made, linux) == []


def test_another_kernel_differs_where_it_does() -> None:
    def program(linux: ModelSyscalls) -> None:
        Kvm(linux).create_vm().create_kvm_vfio().add(Group(linux, 1))

    made = recorded(program, "6.12")
    (other,) = differing(made, "5.10")
    assert (other.step.text, other.step.answer) == ("group_add kvm-vfio_3 group_4", "0")
    assert other.answer == "-EINVAL"


def test_what_cannot_be_asked_again_is_a_comment() -> None:
    made = recorded(everything)
    assert (
        "# left out: pread64(device 0000:00:13.0, config space + 0x0, 4 bytes) = 4\n"
        in made.script()
    )


def test_a_fault_is_no_answer_of_a_kernel() -> None:
    records: list[Record] = []
    linux = model(fail=["KVM_CREATE_VM=ENOMEM"], trace=records.extend)
    with pytest.raises(OSError, match="memory"):
        Kvm(linux).create_vm()
    assert replay(records).script() == (
        "kvm_open kvm_1\n"
        "# left out, no answer of a kernel: KVM_CREATE_VM(kvm) = -ENOMEM"
        " (injected: KVM_CREATE_VM=ENOMEM)\n"
    )


def test_devices_that_are_not_there_are_named() -> None:
    made = recorded(everything)
    made.require_devices(load_machine("referee"))
    iommu, *_ = made.machine.iommus
    empty = changed(made.machine, name="empty", iommus=(changed(iommu, groups=()),))
    with pytest.raises(InputError, match=r"used 0000:00:13.0 of .* and empty has no such device"):
        made.require_devices(empty)


def test_a_trace_without_header_is_none() -> None:
    with pytest.raises(InputError):
        replay([])


def test_the_header_alone_is_an_empty_scenario() -> None:
    header = Header(1, "", 0, "6.12", "model", load_machine("referee"))
    assert replay([header]).script() == ""
