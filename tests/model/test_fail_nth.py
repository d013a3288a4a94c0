# SPDX-License-Identifier: GPL-2.0-only
"""Of a chain of calls that succeeds, the n-th allocation, copy or new fd fails, for every n.

The call it happens in says so and changes nothing, the same call again succeeds, the chain goes on
to the same end, and nothing is left when all is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EFAULT, EMFILE, ENOMEM
from functools import cache
from typing import Any

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import FdTable, File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.uapi import kvm, vfio
from kvm_vfio.uapi.layout import Layout
from tests.model.accounts import Bookkeeper, World, check, check_nothing_is_left
from tests.unit.kernel.program import ADDRESS, MACHINE, Program

Fds = dict[str, int]
Step = Callable[[Program, Fds], int]


def with_room(layout: Layout[Any], request: int, name: str, **fields: int) -> Step:
    """A request whose answer is followed by capabilities, with room for them."""

    def step(program: Program, fds: Fds) -> int:
        blank = layout.unpack(bytes(layout.size))
        head = layout.pack(blank._replace(argsz=256, **fields))
        return program.ioctl(fds[name], request, program.put(head + bytes(256 - len(head))))

    return step


def msix(program: Program, fds: Fds) -> int:
    flags = vfio.VFIO_IRQ_SET_DATA_EVENTFD | vfio.VFIO_IRQ_SET_ACTION_TRIGGER
    head = vfio.vfio_irq_set(24, flags, vfio.VFIO_PCI_MSIX_IRQ_INDEX, 0, 1)
    data = vfio.VFIO_IRQ_SET.pack(head) + fds["eventfd"].to_bytes(4, "little")
    return program.ioctl(fds["opened"], vfio.VFIO_DEVICE_SET_IRQS, program.put(data))


def asked(layout: Layout[Any], request: int, name: str) -> Step:
    return lambda program, fds: program.ioctl(fds[name], request, program.struct(layout))


# The life of a VMM. The result of a step is kept under its name.
STEPS: dict[str, Step] = {
    "kvm": lambda p, fds: p.open("/dev/kvm"),
    "vm": lambda p, fds: p.ioctl(fds["kvm"], kvm.KVM_CREATE_VM),
    "test": lambda p, fds: p.create_device(fds["vm"], flags=kvm.KVM_CREATE_DEVICE_TEST),
    "device": lambda p, fds: p.create_device(fds["vm"]),
    "has ADD": lambda p, fds: p.has_attr(fds["device"], 1, 1),
    "container": lambda p, fds: p.container(),
    "group": lambda p, fds: p.group(4),
    "status": lambda p, fds: p.status(fds["group"]),
    "SET_CONTAINER": lambda p, fds: p.set_container(fds["group"], fds["container"]),
    "SET_IOMMU": lambda p, fds: p.set_iommu(fds["container"]),
    "IOMMU info": with_room(vfio.VFIO_IOMMU_TYPE1_INFO, vfio.VFIO_IOMMU_GET_INFO, "container"),
    "map": lambda p, fds: p.map_dma(fds["container"], 0),
    "map more": lambda p, fds: p.map_dma(fds["container"], 1 << 20),
    "ADD": lambda p, fds: p.add(fds["device"], fds["group"]),
    "opened": lambda p, fds: p.device_fd(fds["group"], ADDRESS[4]),
    "info": asked(vfio.VFIO_DEVICE_INFO, vfio.VFIO_DEVICE_GET_INFO, "opened"),
    "region": with_room(vfio.VFIO_REGION_INFO, vfio.VFIO_DEVICE_GET_REGION_INFO, "opened", index=3),
    "irq": asked(vfio.VFIO_IRQ_INFO, vfio.VFIO_DEVICE_GET_IRQ_INFO, "opened"),
    "eventfd": lambda p, fds: p.number(p.eventfd),
    "MSI-X": msix,
    "unmap": lambda p, fds: p.unmap_dma(fds["container"], 1 << 20),
    "DEL": lambda p, fds: p.delete(fds["device"], fds["group"]),
    "ADD again": lambda p, fds: p.add(fds["device"], fds["group"]),
}

# What has happened although its answer could not be written.
DONE_ALL_THE_SAME = {"device", "unmap"}

COPIES_IN = ("copy_from_user", "copy_from_user_string")
FAULTS = {"allocate": ENOMEM, "copy in": EFAULT, "copy out": EFAULT, "install": EMFILE}


class Faults:
    """Counts the occasions of one kind, and makes one of them fail."""

    def __init__(self, kind: str, nth: int | None = None) -> None:
        self.kind = kind
        self.nth = nth
        self.count = 0

    def occasion(self, kind: str) -> None:
        if kind != self.kind:
            return
        self.count += 1
        if self.count - 1 == self.nth:
            raise KernelError(FAULTS[kind], f"{kind} number {self.nth} fails")

    def before(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def faulty(*arguments: Any) -> Any:  # noqa: ANN401  # as `function` has it
            self.occasion(kind)
            return function(*arguments)

        return faulty


class Table(FdTable):
    """An fd table that can be full. As the kernel's, it drops a file it has no number for."""

    faults: Faults

    def install(self, file: File) -> int:
        try:
            self.faults.occasion("install")
        except KernelError:
            file.put()
            raise
        return super().install(file)


def start(profile: Profile, faults: Faults) -> World:
    books = Bookkeeper()
    allocate = faults.before("allocate", lambda structure: None)
    world = World(Kernel(MACHINE, profile, observer=books, allocate=allocate), books)
    table = Table()
    table.faults = faults
    program = Program(world.kernel, table)
    for name in COPIES_IN:
        setattr(program.task, name, faults.before("copy in", getattr(program.task, name)))
    program.task.copy_to_user = faults.before("copy out", program.task.copy_to_user)
    world.programs = [program]
    return world


@cache
def occasions(profile_name: str, kind: str) -> int:
    """How often the whole chain gives one."""
    faults = Faults(kind)
    world = start(PROFILES[profile_name], faults)
    fds: Fds = {}
    for name, step in STEPS.items():
        fds[name] = step(world.programs[0], fds)
        assert fds[name] >= 0, name
    return faults.count


CASES = [
    (profile, kind, nth)
    for profile in PROFILES
    for kind in FAULTS
    for nth in range(occasions(profile, kind))
]


@pytest.mark.parametrize(("profile", "kind", "nth"), CASES)
def test_a_failure_changes_nothing_and_the_chain_goes_on(profile: str, kind: str, nth: int) -> None:
    world = start(PROFILES[profile], Faults(kind, nth))
    program, kernel = world.programs[0], world.kernel
    fds: Fds = {}
    failed = []
    for name, step in STEPS.items():
        before = kernel.snapshot()
        fds[name] = step(program, fds)
        if fds[name] < 0:
            assert fds[name] == -FAULTS[kind], name
            failed.append(name)
            check(world)
            if kind == "copy out" and name in DONE_ALL_THE_SAME:
                assert kernel.snapshot() != before
                break
            assert kernel.snapshot() == before
            fds[name] = step(program, fds)
        assert fds[name] >= 0, name
    assert len(failed) == 1
    check(world)
    program.exit()
    check_nothing_is_left(world)


@pytest.mark.parametrize("kind", FAULTS)
def test_the_chain_has_occasions_of_every_kind(kind: str) -> None:
    assert min(occasions(profile, kind) for profile in PROFILES) >= 4
