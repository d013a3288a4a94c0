# SPDX-License-Identifier: GPL-2.0-only
"""What is found in a program's calls: the mistakes it made, and no others."""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
import pytest

from kvm_vfio import Container, Device, Group, Kvm, KvmVfio, ModelSyscalls, Vm, model
from kvm_vfio.profiles import PROFILES
from kvm_vfio.trace.explanation import Explanation
from kvm_vfio.trace.history import History
from kvm_vfio.uapi.vfio import VFIO_TYPE1_IOMMU

LINUX = sorted(PROFILES)
TAKES_EARLY_ADD = [name for name in LINUX if not PROFILES[name].member_is_group]


class Vmm:
    """A VMM with two groups that does everything right, unless it is told otherwise."""

    def __init__(self, linux: str, *, snoop_control: bool = True) -> None:
        self.history = History()
        self.linux: ModelSyscalls = model(linux, snoop_control=snoop_control, trace=self.history)
        self.kvm = Kvm(self.linux)
        self.vm: Vm = self.kvm.create_vm()
        self.device: KvmVfio = self.vm.create_kvm_vfio()
        self.container = Container(self.linux)
        self.groups = [Group(self.linux, 1), Group(self.linux, 2)]
        self.devices: list[Device] = []

    def set_up(self) -> None:
        first, second = self.groups
        first.set_container(self.container)
        self.container.set_iommu(VFIO_TYPE1_IOMMU)
        second.set_container(self.container)
        for group in self.groups:
            self.device.add(group)
        self.open_devices()

    def open_devices(self) -> None:
        for group, address in zip(self.groups, ("0000:00:10.0", "0000:00:11.0"), strict=True):
            self.devices.append(group.device(address))

    def delete(self) -> None:
        for group in self.groups:
            self.device.delete(group)

    def close(self, *but: object) -> None:
        everything = (*self.devices, self.device, self.vm, *self.groups, self.container, self.kvm)
        for handle in everything:
            if handle not in but:
                handle.close()
        self.linux.exit()

    def told(self) -> Explanation:
        return self.history.explanation()

    def problems(self) -> list[str]:
        return [problem.kind for problem in self.told().problems]


@pytest.mark.parametrize("snoop_control", [True, False])
@pytest.mark.parametrize("linux", LINUX)
def test_a_program_without_mistakes_has_no_problem(linux: str, snoop_control: bool) -> None:
    vmm = Vmm(linux, snoop_control=snoop_control)
    vmm.set_up()
    assert vmm.problems() == []
    vmm.delete()
    vmm.close()
    told = vmm.told()
    assert (told.problems, told.refusals, told.left_out) == ((), (), 0)
    assert str(told).endswith("\nNo problems.")


@pytest.mark.parametrize("linux", LINUX)
def test_a_program_that_just_exits_has_no_problem(linux: str) -> None:
    vmm = Vmm(linux)
    vmm.set_up()
    vmm.linux.exit()
    assert vmm.problems() == []


@pytest.mark.parametrize("linux", LINUX)
def test_a_device_that_is_unplugged_first_has_no_problem(linux: str) -> None:
    vmm = Vmm(linux)
    vmm.set_up()
    vmm.devices[0].close()
    vmm.device.delete(vmm.groups[0])
    vmm.groups[0].close()
    vmm.linux.exit()
    assert vmm.problems() == []


@pytest.mark.parametrize("linux", LINUX)
def test_a_kvm_vfio_device_closed_before_del(linux: str) -> None:
    vmm = Vmm(linux)
    vmm.set_up()
    vmm.device.delete(vmm.groups[1])
    vmm.close()
    (problem,) = vmm.told().problems
    assert problem.kind == "closed before DEL"
    assert problem.what.startswith(
        "kvm-vfio 1, the KVM-VFIO device of vm 1, was closed while it held group 1 (added by #"
    )
    assert f"Linux {linux} " in problem.what
    assert problem.call.text == "kvm-vfio 1 is closed"
    assert problem.remedy == ("DEL group 1 (KVM_DEV_VFIO_GROUP_DEL), then close the device (fd 5).")


@pytest.mark.parametrize("snoop_control", [True, False])
@pytest.mark.parametrize("linux", TAKES_EARLY_ADD)
def test_a_group_added_before_set_iommu(linux: str, snoop_control: bool) -> None:
    vmm = Vmm(linux, snoop_control=snoop_control)
    first, second = vmm.groups
    first.set_container(vmm.container)
    vmm.device.add(first)
    vmm.container.set_iommu(VFIO_TYPE1_IOMMU)
    (problem,) = vmm.told().problems
    assert problem.kind == "added before SET_IOMMU"
    assert problem.call.text == "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 1 (fd 7))"
    stale = linux == "6.1" and snoop_control
    assert ("executes WBINVD until the next ADD or DEL" in problem.what) == stale
    second.set_container(vmm.container)
    vmm.device.add(second)
    (problem,) = vmm.told().problems
    assert bool(re.search(r" That is #\d+\.$", problem.what)) == stale
    vmm.delete()
    vmm.close()
    assert vmm.problems() == ["added before SET_IOMMU"]


def test_a_group_without_container_added_too_early_is_dangerous() -> None:
    vmm = Vmm("6.1", snoop_control=False)
    vmm.device.add(vmm.groups[0])
    vmm.groups[0].set_container(vmm.container)
    vmm.container.set_iommu(VFIO_TYPE1_IOMMU)
    (problem,) = vmm.told().problems
    assert "the guest can read what a device has not written yet" in problem.what


@pytest.mark.parametrize("linux", LINUX)
def test_a_group_that_is_kept_open(linux: str) -> None:
    vmm = Vmm(linux)
    vmm.set_up()
    vmm.delete()
    vmm.close(vmm.groups[1])
    (problem,) = vmm.told().problems
    assert problem.kind == "left open"
    assert problem.call.text == 'open("/dev/vfio/2")'
    assert problem.what == (
        "group 2 (fd 8 of python[1], which exited) was still open at the end, though container 1"
        " and kvm-vfio 1, which it was used with, had been closed."
    )
    assert problem.remedy.startswith("Close fd 8 when container 1 and kvm-vfio 1 are closed: ")


@pytest.mark.parametrize(("kept", "what"), [("container", "container 1"), ("device", "kvm-vfio 1")])
def test_other_files_that_are_kept_open(kept: str, what: str) -> None:
    vmm = Vmm("6.12")
    vmm.set_up()
    vmm.delete()
    vmm.close(getattr(vmm, kept))
    (problem,) = vmm.told().problems
    assert problem.what.startswith(f"{what} (fd ")


def test_an_answer_that_is_stale_is_a_problem_as_long_as_it_is() -> None:
    vmm = Vmm("6.1", snoop_control=True)
    vmm.set_up()
    for device in vmm.devices:
        device.close()
    assert vmm.problems() == []
    vmm.groups[0].unset_container()
    vmm.groups[1].unset_container()
    vmm.groups[0].set_container(Container(vmm.linux))
    assert vmm.problems() == ["stale answer"]
    vmm.device.delete(vmm.groups[0])
    assert vmm.problems() == []


def test_a_reference_that_leaks_names_the_call_that_took_it() -> None:
    vmm = Vmm("5.10")
    vmm.set_up()
    for handle in (*vmm.devices, *vmm.groups, vmm.container):
        handle.close()
    vmm.linux.kernel.unload_vfio()
    vmm.device.close()
    vmm.vm.close()
    leaks = [each for each in vmm.told().problems if each.kind == "leaked reference"]
    assert [leak.call.text for leak in leaks] == [
        "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 1 (fd 7))",
        "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 2 (fd 8))",
    ]


def test_the_chain_from_the_vm_to_the_iommu() -> None:
    vmm = Vmm("6.1", snoop_control=False)
    vmm.set_up()
    (vm,) = vmm.told().vms
    assert vm.executed
    (turn,) = vm.turns
    assert turn.cause.text == "KVM_SET_DEVICE_ATTR(kvm-vfio 1, GROUP_ADD, group 1 (fd 7))"
    assert turn.chain == (
        "kvm-vfio 1 holds group 1 since this call",
        (
            "group 1 is noncoherent: its container's domain does not enforce coherency: an IOMMU"
            " lacks snoop control"
        ),
        "group 1 -> container 1 -> domain 1 -> dmar0",
        (
            "Linux 6.1 asks the member's container (VFIO_DMA_CC_IOMMU), and takes a group that has"
            " none for coherent"
        ),
    )


@pytest.mark.parametrize("linux", LINUX)
def test_every_kernel_says_what_it_asks(linux: str) -> None:
    vmm = Vmm(linux, snoop_control=False)
    vmm.set_up()
    (vm,) = vmm.told().vms
    assert vm.executed
    assert vm.because[-1].startswith(f"Linux {linux} asks ")


def test_a_coherent_vm_says_what_it_holds() -> None:
    vmm = Vmm("6.12", snoop_control=True)
    vmm.set_up()
    (vm,) = vmm.told().vms
    assert not vm.executed
    assert vm.because == tuple(
        f"kvm-vfio 1 holds group {n}, whose DMA it takes for coherent" for n in (1, 2)
    )


def test_a_refusal_says_the_rule_and_what_would_satisfy_it() -> None:
    vmm = Vmm("5.10")
    for _ in range(3):
        with pytest.raises(OSError, match="Invalid argument"):
            vmm.device.add(vmm.groups[0])
    (refusal,) = vmm.told().refusals
    assert (refusal.errno, refusal.times) == ("EINVAL", 3)
    assert refusal.rule == "VFIO group 1 has no container"
    assert refusal.remedy == (
        "Call VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU before KVM_DEV_VFIO_GROUP_ADD."
    )
    assert "REFUSED with EINVAL (3 times): KVM_SET_DEVICE_ATTR(kvm-vfio 1" in str(vmm.told())


def test_json_has_all_of_it() -> None:
    vmm = Vmm("6.1", snoop_control=False)
    vmm.set_up()
    vmm.close()
    told = vmm.told()
    assert msgspec.json.decode(told.to_json(), type=Explanation) == told


def test_memory_is_bounded() -> None:
    history = History()
    linux = model("6.12", snoop_control=False, trace=history)
    kvm, group = Kvm(linux), Group(linux, 1)

    def one() -> None:
        with kvm.create_vm() as vm, vm.create_kvm_vfio() as device:
            device.add(group)

    for _ in range(300):
        one()
    told = history.explanation()
    assert len(told.vms) == 201  # the last one is gone only just now
    assert len(told.problems) == 200
    assert told.left_out == 100
    assert told.quiet == 99
    assert len(history._files) == 2
    assert not history._devices


@pytest.mark.parametrize(
    "act",
    [
        lambda vmm: vmm.linux.fork().exit(),
        lambda vmm: vmm.linux.thread().dup(vmm.groups[0].fileno()),
        lambda vmm: vmm.linux.close(vmm.linux.dup(vmm.groups[0].fileno())),
    ],
)
def test_a_file_is_closed_with_its_last_number_anywhere(act: Callable[[Vmm], object]) -> None:
    vmm = Vmm("6.12")
    vmm.set_up()
    act(vmm)
    vmm.delete()
    assert vmm.problems() == []
    assert vmm.groups[0].status().viable
