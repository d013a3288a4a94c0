# SPDX-License-Identifier: GPL-2.0-only
"""(c) The same call where there is little and where there is much, on the model.

What is compared takes turns in one process, through the client. A crowd is: members of the
KVM-VFIO device that is called, mappings in the container that is called, or VMs beside the one that
is called, each with its device and its groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from random import Random

from benchmarks.machines import many_groups
from benchmarks.measure import Call, Finding, compare, in_batches, take_turns
from kvm_vfio.client import Container, Group, Kvm, KvmVfio, model
from kvm_vfio.syscalls import Syscalls
from kvm_vfio.uapi.kvm import KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD
from kvm_vfio.uapi.vfio import VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU

LIMIT = 1.3
CALLS = 50  # in one batch
GROUPS_OF_A_VM = 8
PAGE = 4096
FIRST_IOVA = 1 << 32


def container_of(process: Syscalls, groups: list[Group], kind: int) -> Container:
    container = Container(process)
    for number, group in enumerate(groups):
        group.set_container(container)
        if number == 0:
            container.set_iommu(kind)
    return container


def add_and_delete(device: KvmVfio, group: Group) -> Call:
    def once() -> None:
        device.add(group)
        device.delete(group)

    return once


def members(count: int, linux: str, *, snoop_control: bool) -> Call:
    """ADD and DEL of one more group where `count` groups are members."""
    process = model(linux, many_groups(count + 1), snoop_control=snoop_control)
    groups = [Group(process, number) for number in range(1, count + 2)]
    container_of(process, groups, VFIO_TYPE1_IOMMU)  # 2013 has no other
    device = Kvm(process).create_vm().create_kvm_vfio()
    one_more = groups.pop()
    for group in groups:
        device.add(group)
    return add_and_delete(device, one_more)


def mappings(count: int, *, shuffled: bool) -> Call:
    """MAP_DMA and UNMAP_DMA of one more page, in one after the other of the gaps of `count`."""
    process = model(machine=many_groups(1))
    container = container_of(process, [Group(process, 1)], VFIO_TYPE1v2_IOMMU)
    memory = process.mmap(-1, PAGE)
    places = list(range(FIRST_IOVA, FIRST_IOVA + 2 * PAGE * count, 2 * PAGE))
    for iova in places:
        container.map_dma(memory, iova)
    if shuffled:
        Random(1).shuffle(places)
    gaps = cycle([iova + PAGE for iova in places])  # numbers made anew lie in their order

    def once() -> None:
        iova = next(gaps)
        container.map_dma(memory, iova)
        container.unmap_dma(iova, PAGE)

    return once


def vm(kvm: Kvm, number: int) -> tuple[KvmVfio, list[Group]]:
    """One more VM, the `number`th from 0: its device, and the groups that are members."""
    device = kvm.create_vm().create_kvm_vfio()
    first = 1 + number * GROUPS_OF_A_VM
    groups = [Group(kvm.syscalls, first + n) for n in range(GROUPS_OF_A_VM)]
    for group in groups:
        device.add(group)
    return device, groups


def vms(count: int) -> dict[str, Call]:
    """Calls on one VM of `count`, and one more VM."""
    kvm = Kvm(model(machine=many_groups(count * GROUPS_OF_A_VM)))
    device, groups = [vm(kvm, number) for number in range(count)][count // 2]
    device.delete(groups[0])

    def create() -> None:
        with kvm.create_vm() as another, another.create_kvm_vfio():
            pass

    return {
        "HAS_ATTR": lambda: device.has_attr(KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD),
        "ADD and DEL": add_and_delete(device, groups[0]),
        "a VM with its device, made and closed": create,
    }


def grown(rounds: int, case: str, few: str, many: str, *calls: Call) -> Finding:
    """`calls`: the call among few, the call among many."""
    named = zip((few, many), calls, strict=True)
    meters = {name: in_batches(call, CALLS) for name, call in named}
    samples = take_turns(rounds, meters)
    return compare("c", f"{case}: {many}", samples, many, few, LIMIT)


def findings(rounds: int) -> Iterator[Finding]:
    for linux in ("2013", "6.12"):
        for snoop_control in (False, True):
            calls = (members(n, linux, snoop_control=snoop_control) for n in (10, 1_000))
            case = f"ADD and DEL, Linux {linux}{', snoop control' * snoop_control}"
            yield grown(rounds, case, "10 groups", "1,000 groups", *calls)
    for order in ("in sequence", "at random"):
        calls = (mappings(n, shuffled=order == "at random") for n in (10, 65_000))
        case = f"MAP_DMA and UNMAP_DMA {order}"
        yield grown(rounds, case, "10 mappings", "65,000 mappings", *calls)
    one, thousand = vms(1), vms(1_000)
    for case, call in one.items():
        yield grown(rounds, case, "1 VM", "1,000 VMs of 8 groups", call, thousand[case])
