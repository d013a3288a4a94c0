# SPDX-License-Identifier: GPL-2.0-only
"""The books of a kernel: who holds what, counted anew from what can be reached.

Every count that the model keeps must equal a count made here, and nothing may be left when every
file is closed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kvm_vfio.kernel.file import EventFile, File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import Vm, VmFile
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.task import Mm
from kvm_vfio.kernel.vfio.container import Container, ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDevice, VfioDeviceFile
from kvm_vfio.kernel.vfio.external import Member
from kvm_vfio.kernel.vfio.group import GroupFile, VfioGroup
from tests.unit.kernel.program import Program

VFIO_FILES = (ContainerFile, GroupFile, VfioDeviceFile)


class Bookkeeper(Observer):
    """Counts what KVM is told, and what leaked. It leaves the questions unwatched."""

    def __init__(self) -> None:
        self.registered: Counter[Vm] = Counter()
        self.leaked: Counter[VfioGroup] = Counter()

    def noncoherent_dma_registered(self, vm: Vm) -> None:
        self.registered[vm] += 1

    def noncoherent_dma_unregistered(self, vm: Vm) -> None:
        self.registered[vm] -= 1

    def reference_leaked(self, device: KvmVfio, member: Member) -> None:
        assert isinstance(member, VfioGroup), "only a vfio_group can leak"
        self.leaked[member] += 1


class Watchful(Bookkeeper):
    """The same, but it listens to every question, so that none is left out."""

    def coherency_asked(self, member: Member, *, coherent: bool) -> None:
        pass


class World:
    """One kernel with the programs that run on it."""

    def __init__(self, kernel: Kernel, books: Bookkeeper) -> None:
        self.kernel = kernel
        self.books = books
        self.programs = [Program(kernel)]
        self.groups = set(kernel.vfio_groups.values())  # also those that unbinding took away

    # -- what there is

    def kvm_vfios(self) -> Iterator[KvmVfio]:
        for vm in self.kernel.vms.values():
            for device in vm.devices:
                assert isinstance(device, KvmVfio)
                yield device

    def vfio_devices(self) -> Iterator[VfioDevice]:
        for group in self.groups:
            yield from group.devices.values()

    def held_files(self) -> Iterator[File]:
        """Every file, as often as something holds a reference on it."""
        for program in self.programs:
            for fd in program.files.numbers():
                file = program.files.peek(fd)
                assert file is not None
                yield file
        for device in self.kvm_vfios():
            yield from (member for member in device.members if isinstance(member, File))
        for opened in self.vfio_devices():
            group_file = opened.vfio_group.opened_file
            if opened.open_count and group_file and not self.kernel.profile.member_is_group:
                yield group_file

    def held_events(self) -> Iterator[EventFile]:
        """Every eventfd, as often as something that signals it or waits for it holds it."""
        for opened in self.vfio_devices():
            irqs = opened.irqs
            yield from (*irqs.triggers.values(), *irqs.single.values())
            if irqs.unmask is not None:
                yield irqs.unmask

    def containers(self) -> set[Container]:
        files = {file for file in self.held_files() if isinstance(file, ContainerFile)}
        in_groups = {group.container for group in self.groups if group.container}
        return {file.container for file in files} | in_groups


def check(world: World) -> None:
    """Every count is right."""
    world.groups |= set(world.kernel.vfio_groups.values())
    held = Counter(world.held_files())
    for file, count in held.items():
        assert file.references == count, f"{file.name}: {file.references}, held by {count}"
    for event, count in Counter(world.held_events()).items():
        assert event.holders == count, f"an eventfd: {event.holders}, held by {count}"
    files = list(held)
    _check_vms(world, files)
    _check_vfio(world, files)


def _check_vms(world: World, files: list[File]) -> None:
    holders: Counter[Vm] = Counter()
    for file in files:
        if isinstance(file, VmFile):
            holders[file.vm] += 1
        elif isinstance(file, KvmDeviceFile):
            holders[file.device.vm] += 1
    holders.update(device.held_vm for device in world.vfio_devices() if device.held_vm)
    assert {vm: vm.references for vm in world.kernel.vms.values()} == dict(holders)
    for vm in world.kernel.vms.values():
        devices = [device for device in vm.devices if isinstance(device, KvmVfio)]
        registrars = sum(device.noncoherent for device in devices) + vm.assigned_noncoherent
        assert vm.noncoherent_dma_count == registrars == world.books.registered[vm]
        assert len(devices) <= 1
        reports = world.kernel.profile.reports_assignment
        assert vm.device_count == reports * sum(len(device.members) for device in devices)
    assert all(
        world.books.registered[vm] == 0 for vm in world.books.registered if not vm.references
    )


def _check_vfio(world: World, files: list[File]) -> None:
    assert world.kernel.vfio_files == sum(isinstance(file, VFIO_FILES) for file in files)
    opens = Counter(file.device for file in files if isinstance(file, VfioDeviceFile))
    assert {d: d.open_count for d in world.vfio_devices() if d.open_count} == dict(opens)
    group_files = {file.vfio_group: file for file in files if isinstance(file, GroupFile)}
    assert {g: g.opened_file for g in world.groups if g.opened_file} == group_files
    for group in world.groups:
        _check_container_of(world, group)
    locked: Counter[Mm] = Counter()
    for container in world.containers():
        assert (container.iommu is None) or container.vfio_groups
        for group in container.vfio_groups:
            assert group.container is container
        for mapping in container.iommu.mappings if container.iommu else ():
            locked[mapping.mm] += mapping.size
    assert world.kernel.locked_vm == dict(locked)


def _check_container_of(world: World, group: VfioGroup) -> None:
    assert (group.container is None) == (group.container_users == 0)
    assert group.iommu_group.owner is None or group.iommu_group.owner in world.groups
    if group.container is None:
        return
    assert group in group.container.vfio_groups
    assert group.iommu_group.owner is group
    opens = [device.open_count for device in group.devices.values()]
    if world.kernel.profile.member_is_group:
        members = sum(group in device.members for device in world.kvm_vfios())
        users = (group.opened_file is not None) + sum(opens) + members + world.books.leaked[group]
    else:
        users = 1 + sum(count > 0 for count in opens)
    assert group.container_users == users


def check_nothing_is_left(world: World) -> None:
    """After the last close: no VM, no open group or device, no container, no mapping."""
    check(world)
    kernel, leaked = world.kernel, world.books.leaked
    assert not list(world.held_files())
    assert kernel.snapshot().vms == ()
    assert kernel.vfio_files == 0
    for group in world.groups:
        assert (group.container is not None) == bool(leaked[group])
    if not +leaked:
        assert kernel.locked_vm == {}
        assert all(group.owner is None for group in kernel.iommu_groups.values())
