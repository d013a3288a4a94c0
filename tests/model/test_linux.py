# SPDX-License-Identifier: GPL-2.0-only
"""Random programs on the model: whatever they do, in whatever order, the books are right.

Each call is made on two kernels that differ in one thing: one has an observer that listens to every
question about coherency. Answers and states must be the same.

More examples: pytest tests/model --hypothesis-profile=slow
"""

from __future__ import annotations

from collections.abc import Callable
from errno import (
    EBADF,
    EBADFD,
    EBUSY,
    EEXIST,
    EFAULT,
    EINVAL,
    EIO,
    ENODEV,
    ENOENT,
    ENOTTY,
    ENXIO,
    EOVERFLOW,
    EPERM,
    EWOULDBLOCK,
    errorcode,
)
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.file import EventFile, File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.external import Member
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.uapi import kvm, vfio
from tests.model.accounts import Bookkeeper, Watchful, World, check, check_nothing_is_left
from tests.unit.kernel.program import ADDRESS, MACHINE, SNOOPING, Program


class Operation(NamedTuple):
    """A method of `Program`: the file that its first argument is, and the errnos it documents."""

    file: type[File] | None
    errnos: set[int]


VFIO_NODE = Operation(None, {ENOENT, EBUSY})
OPERATIONS = {
    "vm": Operation(None, set()),
    "other": Operation(None, set()),
    "eventfd": Operation(None, set()),
    "container": VFIO_NODE,
    "group": VFIO_NODE,
    "create_device": Operation(VmFile, {EIO, ENODEV, EBUSY}),
    "assign": Operation(VmFile, {EIO, ENOTTY, EINVAL, EEXIST}),
    "deassign": Operation(VmFile, {EIO, ENOTTY, ENODEV}),
    "has_attr": Operation(KvmDeviceFile, {EIO, ENXIO}),
    "set_attr": Operation(KvmDeviceFile, {EIO, ENXIO, EFAULT}),
    "add": Operation(KvmDeviceFile, {EIO, EBADF, EINVAL, EEXIST}),
    "delete": Operation(KvmDeviceFile, {EIO, EBADF, EINVAL, ENOENT}),
    "status": Operation(GroupFile, {ENODEV}),
    "set_container": Operation(GroupFile, {EBADF, EBADFD, EINVAL, ENODEV, EPERM}),
    "unset_container": Operation(GroupFile, {EINVAL, EBUSY}),
    "device_fd": Operation(GroupFile, {EINVAL, ENODEV}),
    "set_iommu": Operation(ContainerFile, {EINVAL, ENODEV, EPERM}),
    "extension": Operation(ContainerFile, set()),
    "map_dma": Operation(ContainerFile, {EINVAL, EEXIST, EFAULT, EOVERFLOW, ENOENT}),
    "unmap_dma": Operation(ContainerFile, {EINVAL, EOVERFLOW}),
    "msi": Operation(VfioDeviceFile, {EBADF, EINVAL}),
    "reset": Operation(VfioDeviceFile, {EINVAL}),
}
# Of a file of another kind. A request number of one kind of VFIO file may be another's.
WRONG_FILE = {EBADF, ENOTTY, EINVAL, EIO, ENODEV}

# A small number picks an fd of the right kind, a negative one any number, open or not.
pick = st.integers(-2, 12)
pages = st.integers(0, 15)
addresses = st.sampled_from([*ADDRESS.values(), "0000:00:14.1", "nonsense"])
numbers = st.sampled_from([1, 1, 2, 2, 4, 4, 7, 7, 5, 6, 8, 99])
orders = st.permutations(["set_container", "set_iommu", "device_fd", "add"])


class Fd(NamedTuple):
    """A number, and the program whose it is."""

    program: int
    number: int


class Caller(Program):
    """A program with the few calls that only this test makes."""

    def assign(self, vm: int, number: int, slot: int) -> int:
        flags = kvm.KVM_DEV_ASSIGN_ENABLE_IOMMU
        layout = kvm.KVM_ASSIGNED_PCI_DEV
        wanted = self.struct(layout, assigned_dev_id=number, devfn=slot << 3, flags=flags)
        return self.ioctl(vm, kvm.KVM_ASSIGN_PCI_DEVICE, wanted)

    def deassign(self, vm: int, number: int) -> int:
        wanted = self.struct(kvm.KVM_ASSIGNED_PCI_DEV, assigned_dev_id=number)
        return self.ioctl(vm, kvm.KVM_DEASSIGN_PCI_DEVICE, wanted)

    def msi(self, device: int, event: int) -> int:
        """Let MSI signal an eventfd; disable it with -1."""
        data = vfio.VFIO_IRQ_SET_DATA_NONE if event < 0 else vfio.VFIO_IRQ_SET_DATA_EVENTFD
        flags = data | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
        head = vfio.vfio_irq_set(24, flags, vfio.VFIO_PCI_MSI_IRQ_INDEX, 0, int(event >= 0))
        address = self.put(vfio.VFIO_IRQ_SET.pack(head) + event.to_bytes(4, "little", signed=True))
        return self.ioctl(device, vfio.VFIO_DEVICE_SET_IRQS, address)

    def reset(self, device: int) -> int:
        return self.ioctl(device, vfio.VFIO_DEVICE_RESET)

    def fork(self) -> Caller:
        return Caller(self.kernel, self.files.copy(), self.mm.copy())


class Linux(RuleBasedStateMachine):
    """Two kernels, up to three programs on each."""

    def __init__(self, profile: Profile, machine: Machine) -> None:
        super().__init__()
        self.profile = profile
        self.worlds = [
            World(Kernel(machine, profile, observer=books), books)
            for books in (Watchful(), Bookkeeper())
        ]
        for world in self.worlds:
            world.programs = [Caller(world.kernel)]

    # -- how a rule acts

    def both(self, act: Callable[[World], Any]) -> Any:  # noqa: ANN401  # what `act` answers
        """Do it in both worlds. A refusal changes nothing."""
        before = [world.kernel.snapshot() for world in self.worlds]
        answers = [attempt(act, world) for world in self.worlds]
        assert answers[0] == answers[1]
        if answers[0] is NotModelled:
            assert [world.kernel.snapshot() for world in self.worlds] == before
        return answers[0]

    def call(self, where: Fd, name: str, *arguments: Any, **differs: int) -> None:  # noqa: ANN401
        """One call of one program, in both worlds: an errno is documented, and changes nothing."""
        operation = OPERATIONS[name]
        if operation.file is not None:
            arguments = (where.number, *arguments)
        file = self.file(where)
        before = self.worlds[0].kernel.snapshot()
        answer = self.both(
            lambda w: getattr(w.programs[where.program], name)(*arguments, **differs)
        )
        if answer is NotModelled or answer >= 0:
            return
        right = operation.file is None or isinstance(file, operation.file)
        allowed = operation.errnos if right else WRONG_FILE
        assert -answer in allowed, f"{name}: {errorcode[-answer]}"
        if name != "delete" or not self.profile.failed_del_updates_coherency:
            assert self.worlds[0].kernel.snapshot() == before

    def fds(self, *kinds: type[File]) -> list[Fd]:
        """Every fd of these kinds, with the program that has it."""
        return [
            Fd(index, fd)
            for index, each in enumerate(self.worlds[0].programs)
            for fd in each.files.numbers()
            if isinstance(each.files.get(fd), kinds)
        ]

    def fd(self, choice: int, *kinds: type[File]) -> Fd:
        """One of these kinds, unless `choice` is negative or there is none."""
        if choice < 0:
            everything = [*self.fds(File), Fd(0, -1), Fd(0, 999)]
            return everything[choice * 7 % len(everything)]
        right = self.fds(*kinds)
        return right[choice % len(right)] if right else Fd(0, 999)

    def beside(self, where: Fd, choice: int, *kinds: type[File]) -> int:
        """The number of an fd of these kinds in the same program."""
        if choice < 0:
            return self.fd(choice).number
        right = [fd.number for fd in self.fds(*kinds) if fd.program == where.program]
        return right[choice % len(right)] if right else 999

    def file(self, where: Fd) -> File | None:
        return self.worlds[0].programs[where.program].files.get(where.number)

    def anywhere(self, choice: int) -> Fd:
        """Some program."""
        return Fd(choice % len(self.worlds[0].programs), -1)

    # -- files

    @initialize(chosen=st.lists(numbers, unique=True, max_size=3), order=orders)
    def start(self, chosen: list[int], order: list[str]) -> None:
        for number in chosen:
            self.use_group(number, order)

    @rule(number=numbers, order=orders)
    def use_group(self, number: int, order: list[str]) -> None:
        """Come to a group as a VMM does, in some order, using what is there already."""
        first = Fd(0, -1)
        for kind, name in ((VmFile, "vm"), (ContainerFile, "container")):
            if not self.fds(kind):
                self.call(first, name)
        if not self.fds(KvmDeviceFile):
            self.call(self.fd(0, VmFile), "create_device")
        device = self.fd(0, KvmDeviceFile)
        self.call(device, "group", number)
        group = Fd(device.program, self.beside(device, number, GroupFile))
        container = Fd(device.program, self.beside(device, number, ContainerFile))
        for step in order:
            match step:
                case "add":
                    self.call(device, "add", group.number)
                case "set_container":
                    self.call(group, "set_container", container.number)
                case "set_iommu":
                    self.call(container, "set_iommu")
                case "device_fd":
                    self.call(group, "device_fd", ADDRESS.get(number, "nonsense"))
        self.failed_delete(0)

    @rule(p=pick, what=st.sampled_from(["vm", "container", "eventfd", "other"]))
    def open(self, p: int, what: str) -> None:
        self.call(self.anywhere(p), what)

    @rule(p=pick, number=numbers)
    def open_group(self, p: int, number: int) -> None:
        self.call(self.anywhere(p), "group", number)

    @rule(x=pick, to=pick)
    def pass_or_dup(self, x: int, to: int) -> None:
        fd, receiver = self.fd(x, File), self.anywhere(to).program

        def act(world: World) -> int:
            sender = world.programs[fd.program]
            return sender.number(sender.send, fd.number, world.programs[receiver])

        self.both(act)

    @rule(x=pick, kind=st.sampled_from([File, VmFile, KvmDeviceFile, GroupFile, VfioDeviceFile]))
    def close(self, x: int, kind: type[File]) -> None:
        where = self.fd(x, kind)
        if self.file(where):
            self.both(lambda w: w.programs[where.program].close(where.number))

    @precondition(lambda self: len(self.worlds[0].programs) < 3)
    @rule(p=pick)
    def fork(self, p: int) -> None:
        parent = self.anywhere(p).program
        self.both(lambda w: w.programs.append(w.programs[parent].fork()))

    @precondition(lambda self: len(self.worlds[0].programs) > 1)
    @rule(p=pick)
    def exit(self, p: int) -> None:
        which = self.anywhere(p).program
        self.both(lambda w: w.programs.pop(which).exit())

    # -- KVM

    @rule(v=pick, kind=st.sampled_from([4, 4, 4, 9]), flags=st.sampled_from([0, 0, 1]))
    def create_device(self, v: int, kind: int, flags: int) -> None:
        self.call(self.fd(v, VmFile), "create_device", kind, flags)

    @rule(d=pick, x=pick, name=st.sampled_from(["add", "add", "delete"]))
    def add_or_delete(self, d: int, x: int, name: str) -> None:
        device = self.fd(d, KvmDeviceFile)
        self.call(device, name, self.beside(device, x, GroupFile, VfioDeviceFile))

    @rule(d=pick, group=st.integers(0, 2), attr=st.integers(0, 4))
    def attributes(self, d: int, group: int, attr: int) -> None:
        device = self.fd(d, KvmDeviceFile)
        self.call(device, "has_attr", group, attr)
        self.call(device, "set_attr", group, attr, 0)

    @rule(v=pick, number=st.integers(0, 2), slot=st.sampled_from([0x10, 0x11, 0x1E]))
    def assign(self, v: int, number: int, slot: int) -> None:
        self.call(self.fd(v, VmFile), "assign", number, slot)

    @rule(v=pick, number=st.integers(0, 2))
    def deassign(self, v: int, number: int) -> None:
        self.call(self.fd(v, VmFile), "deassign", number)

    # -- VFIO

    @rule(g=pick, c=pick)
    def set_container(self, g: int, c: int) -> None:
        group = self.fd(g, GroupFile)
        self.call(group, "set_container", self.beside(group, c, ContainerFile))

    @rule(g=pick)
    def unset_container(self, g: int) -> None:
        self.call(self.fd(g, GroupFile), "unset_container")

    @rule(c=pick, kind=st.sampled_from([None, None, None, 1, 6, 8, 9]))
    def set_iommu(self, c: int, kind: int | None) -> None:
        self.call(self.fd(c, ContainerFile), "set_iommu", kind)

    @rule(g=pick, c=pick, extension=st.integers(1, 10))
    def ask(self, g: int, c: int, extension: int) -> None:
        self.call(self.fd(g, GroupFile), "status")
        self.call(self.fd(c, ContainerFile), "extension", extension)

    @rule(g=pick, name=st.one_of(st.none(), st.none(), addresses))
    def device_fd(self, g: int, name: str | None) -> None:
        """Of the group's own device, where none is named."""
        group = self.fd(g, GroupFile)
        file = self.file(group)
        own = ADDRESS[file.vfio_group.number] if isinstance(file, GroupFile) else "nonsense"
        self.call(group, "device_fd", name or own)

    @rule(c=pick, at=pages, size=st.integers(0, 4), good=st.booleans())
    def map_dma(self, c: int, at: int, size: int, good: bool) -> None:
        differs = {} if good else {"vaddr": 0}
        self.call(self.fd(c, ContainerFile), "map_dma", at * PAGE, size * PAGE, **differs)

    @rule(c=pick, at=pages, size=st.integers(0, 16))
    def unmap_dma(self, c: int, at: int, size: int) -> None:
        self.call(self.fd(c, ContainerFile), "unmap_dma", at * PAGE, size * PAGE)

    @rule(c=pick, to=pick, which=pages)
    def move_mapping(self, c: int, to: int, which: int) -> None:
        """Take the addresses of all mappings away; a program gives one back."""
        giver, taker = self.fd(c, ContainerFile), self.fd(to, ContainerFile)
        flags = vfio.VFIO_DMA_UNMAP_FLAG_ALL | vfio.VFIO_DMA_UNMAP_FLAG_VADDR
        self.call(giver, "unmap_dma", 0, 0, flags=flags)
        file = self.file(taker)
        iommu = file.container.iommu if isinstance(file, ContainerFile) else None
        mappings = [(each.start, each.size) for each in iommu.mappings] if iommu else []
        start, size = mappings[which % len(mappings)] if mappings else (which * PAGE, PAGE)
        self.call(taker, "map_dma", start, size, flags=vfio.VFIO_DMA_MAP_FLAG_VADDR)

    @rule(d=pick, e=pick)
    def msi(self, d: int, e: int) -> None:
        device = self.fd(d, VfioDeviceFile)
        self.call(device, "msi", self.beside(device, e, EventFile))
        self.call(device, "reset")

    # -- the administrator

    @rule(address=addresses, driver=st.sampled_from(["vfio-pci", "vfio-pci", "pci-stub", "serial"]))
    def rebind(self, address: str, driver: str) -> None:
        """Unbind a device, or bind it where it has no driver."""
        kernel = self.worlds[0].kernel
        if address == "nonsense" or not kernel.vfio_loaded:
            return
        if kernel.function(address).driver is None:
            self.both(lambda w: w.kernel.function(address).probe(driver))
        else:
            self.both(lambda w: w.kernel.function(address).remove())

    @precondition(lambda self: self.profile.member_is_group)
    @rule(closing=st.booleans())
    def unload_vfio(self, closing: bool) -> None:
        if closing:
            for where in self.fds(ContainerFile, GroupFile, VfioDeviceFile):
                self.both(lambda w: w.programs[where.program].close(where.number))  # noqa: B023
        answer = self.both(lambda w: w.programs[0].call(w.kernel.unload_vfio))
        assert answer == -EWOULDBLOCK or answer is None
        self.failed_delete(0)

    @rule(d=pick, which=pages, answer=st.sampled_from([None, False, True]))
    def force(self, d: int, which: int, answer: bool | None) -> None:
        """Change the answer of a member, and let its device look again."""
        where = self.fd(d, KvmDeviceFile)
        file = self.file(where)
        if not isinstance(file, KvmDeviceFile) or not members(file):
            return

        def act(world: World) -> None:
            file = world.programs[where.program].files.get(where.number)
            assert isinstance(file, KvmDeviceFile)
            there = members(file)
            world.kernel.external.force(there[which % len(there)], answer=answer)

        self.both(act)
        self.failed_delete(d)

    def failed_delete(self, d: int) -> None:
        """DEL of what is no member: where such a DEL looks at coherency, it does."""
        device = self.fd(d, KvmDeviceFile)
        self.call(device, "delete", device.number)

    # -- what must hold

    @invariant()
    def the_books_are_right(self) -> None:
        for world in self.worlds:
            check(world)

    @invariant()
    def listening_changes_nothing(self) -> None:
        first, second = (world.kernel.snapshot() for world in self.worlds)
        assert first == second

    def teardown(self) -> None:
        for world in self.worlds:
            for each in world.programs:
                each.exit()
            check_nothing_is_left(world)


def members(file: KvmDeviceFile) -> list[Member]:
    assert isinstance(file.device, KvmVfio)
    return list(file.device.members)


def attempt(act: Callable[[World], Any], world: World) -> Any:  # noqa: ANN401  # what `act` answers
    try:
        return act(world)
    except NotModelled:
        return NotModelled


EXAMPLES = settings().max_examples * 3 // 10


@pytest.mark.parametrize("machine", [MACHINE, SNOOPING], ids=["mixed", "snooping"])
@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_the_books_are_right_whatever_programs_do(profile: Profile, machine: Machine) -> None:
    run_state_machine_as_test(
        lambda: Linux(profile, machine),  # type: ignore[arg-type]  # any maker of one will do
        settings=settings(max_examples=EXAMPLES, stateful_step_count=60),
    )
