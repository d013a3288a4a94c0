# SPDX-License-Identifier: GPL-2.0-only
"""A real Linux under QEMU beside the model: recordings again, random scripts, whole structures."""

from __future__ import annotations

import doctest
import struct
from dataclasses import dataclass
from errno import EAGAIN, EBADF, EFAULT, errorcode
from itertools import product
from pathlib import Path

import pytest

from kvm_vfio.client import Container, Group, Kvm
from kvm_vfio.client.in_process import model
from kvm_vfio.errors import InputError
from kvm_vfio.guest import packages
from kvm_vfio.guest.batch import Batch, Register, Unanswered
from kvm_vfio.guest.channel import GuestDied
from kvm_vfio.guest.guest import Event
from kvm_vfio.guest.process import CLOSE, EVENTFD2, MEMFD_CREATE, OPEN, READ, GuestSyscalls
from kvm_vfio.scenario.conform import Recording, judge, recordings
from kvm_vfio.scenario.fuzz import Campaign
from kvm_vfio.scenario.kernels import GuestKernel, model_kernel, run
from kvm_vfio.scenario.language import parse
from kvm_vfio.syscalls import Syscalls
from kvm_vfio.uapi import kvm, vfio

LINUX = "6.1"
TOP = 1 << 64
pytestmark = [pytest.mark.qemu, pytest.mark.gcc, pytest.mark.guest]


# -- scripts --------------------------------------------------------------------------------------

RECORDINGS = [each for each in recordings() if each.linux == LINUX]


@pytest.mark.parametrize("name", sorted({recording.script.stem for recording in RECORDINGS}))
def test_a_guest_answers_as_recorded(linux: GuestKernel, name: str) -> None:
    assert linux.can_force, "the headers of the kernel were there when this was written"
    assert judge(linux, recorded(name, snoop=linux.snoop)).disagreements == []


def recorded(name: str, *, snoop: bool) -> Recording:
    return next(r for r in RECORDINGS if r.script.stem == name and r.snoop == snoop)


def test_random_scripts_find_no_difference(linux: GuestKernel) -> None:
    campaign = Campaign(model_kernel(LINUX, snoop=linux.snoop), linux)
    found = [each for seed in range(30) if (each := campaign.script(seed))]
    assert (found, campaign.coverage.died) == ([], [])
    assert campaign.coverage.calls > 3000


def test_a_script_leaves_nothing_to_the_next(linux: GuestKernel) -> None:
    script = parse(
        "kvm_open k\nvm_create v\ndev_create d v\ncontainer_open c\ngroup_open g @00:10.0\n"
        "set_container g c\nset_iommu c\ngroup_add d g\nget_device_fd x g 00:10.0\n"
        "unbind 00:14.1\nmkfile f /tmp/left\nopen n /tmp/left"
    )
    first = list(run(linux, script))
    assert list(run(linux, script)) == first
    assert next(run(linux, parse("open n /tmp/left"))).startswith("1 open n /tmp/left => -ENOENT")


@pytest.mark.parametrize("line", ["unbind 00:99.0", "bind x vfio-pci", "group_open g @00:99.0"])
def test_a_device_that_is_not_there_is_told(linux: GuestKernel, line: str) -> None:
    with pytest.raises(InputError, match="there is no device"):
        list(run(linux, parse(line)))


def test_a_guest_that_dies_says_in_what_and_comes_again(kernel: packages.GuestKernel) -> None:
    guest = GuestKernel(LINUX, snoop=False)
    try:
        script = parse("mkfile f /proc/sysrq-trigger\nopen t /proc/sysrq-trigger wo\nkvm_open k")
        with guest.hands() as hands:
            hands.open("t", "/proc/sysrq-trigger", 1)
            hands.write("t", b"c")
            with pytest.raises(GuestDied, match=r"Linux 6\.1: the guest ended in .*panic"):
                hands.flush()
        answers = list(run(guest, script))
        assert answers[2].startswith("3 kvm_open k => fd")
        assert guest.boots == 2
    finally:
        guest.close()


# -- the waist ------------------------------------------------------------------------------------


def test_files_and_memory_are_a_process_s(process: GuestSyscalls) -> None:
    event = process.eventfd(7)
    other = process.dup(event)
    assert process.read(other, 8) == struct.pack("<Q", 7)
    assert process.write(event, struct.pack("<Q", 9)) == 8
    assert process.read(other, 8) == struct.pack("<Q", 9)
    with pytest.raises(BlockingIOError) as blocked:
        process.read(other, 8)
    assert blocked.value.errno == EAGAIN
    process.close(event)
    with pytest.raises(OSError, match="Bad file descriptor") as closed:
        process.close(event)
    assert closed.value.errno == EBADF
    with pytest.raises(FileNotFoundError):
        process.open("/dev/vfio/99", 2)


def test_mapped_memory_is_read_and_written(process: GuestSyscalls) -> None:
    memory = process.mmap(-1, 8192)
    memory.write(b"there", 4094)
    assert memory.read(7, 4093) == b"\0there\0"
    assert len(memory) == 8192
    with pytest.raises(ValueError, match="do not fit"):
        memory.write(b"long", 8190)
    process.munmap(memory)
    with pytest.raises(OSError, match="Bad address") as gone:
        memory.read()
    assert gone.value.errno == EFAULT
    read_only = process.mmap(-1, 4096, writable=False)
    with pytest.raises(OSError, match="Bad address"):
        read_only.write(b"x")


def test_a_buffer_is_what_the_call_left_in_it(process: GuestSyscalls) -> None:
    layout = vfio.VFIO_GROUP_STATUS
    buffer = process.buffer(layout.size)
    assert buffer.read() == bytes(layout.size)
    group = process.open("/dev/vfio/1", 2)
    buffer.write(layout.pack(layout.type(layout.size, 0)))
    assert process.ioctl(group, vfio.VFIO_GROUP_GET_STATUS, buffer) == 0
    assert layout.unpack(buffer.read()).flags == vfio.VFIO_GROUP_FLAGS_VIABLE
    assert buffer.read(4, 4) == buffer.read(offset=4)


def test_large_files_are_read_in_parts(process: GuestSyscalls) -> None:
    path = process.buffer(8)
    path.write(b"big\0")
    process.read(process.open("/dev/zero", 0), 1)  # what was written to a buffer has arrived
    batch = Batch()
    batch.call(MEMFD_CREATE, path.address, 0, into=1)
    batch.call(77, Register(1), 3 << 20)
    made = batch.call(32, Register(1))
    process.guest.perform(batch)
    assert len(process.read(made.result, 3 << 20)) == 1 << 20
    assert len(process.pread(made.result, 1 << 19, 1 << 20)) == 1 << 19
    assert process.pwrite(made.result, b"xyz", 5) == 3
    assert process.pread(made.result, 4, 4) == b"\0xyz"


def test_effects_are_seen(process: GuestSyscalls) -> None:
    system = process.open("/dev/kvm", 2)
    process.events()
    vm = process.ioctl(system, kvm.KVM_CREATE_VM)
    (created,) = process.events()
    process.close(vm)
    assert process.events() == [Event("vmdel", created.argument)]
    assert created.name == "vmnew"


def test_typed_objects_work_on_it(process: GuestSyscalls) -> None:
    container, group = Container(process), Group(process, 3)
    group.set_container(container)
    container.set_iommu()
    vm = Kvm(process).create_vm()
    device = vm.create_kvm_vfio()
    device.add(group)
    executed = "VM 1: WBINVD is executed: noncoherent DMA is registered (1)"
    assert process.explain() == executed
    with pytest.raises(FileExistsError) as error:
        device.add(group)
    assert error.value.__notes__ == [f"KVM_SET_DEVICE_ATTR: Linux {process.guest.kernel.release}"]
    device.close()
    assert process.explain() == "VM 1: WBINVD is a no-op: nobody has registered noncoherent DMA"
    assert [event.name for event in process.events()][-4:] == [
        *("devrel", "setkvm", "unasg", "unreg")
    ]
    vm.close()
    assert process.explain() == ""


def test_the_example_of_the_readme_runs_on_it(
    process: GuestSyscalls, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    imports, *steps = doctest.DocTestParser().get_examples(readme)
    names: dict[str, object] = {}
    exec(imports.source, names)  # noqa: S102 - the example is ours
    names["model"] = lambda _linux: process
    for step in steps:
        exec(step.source, names)  # noqa: S102
    explained, refused, reason = capsys.readouterr().out.splitlines()
    assert explained == "VM 1: WBINVD is executed: noncoherent DMA is registered (1)"
    assert refused == "[Errno 17] File exists"
    assert reason.startswith("KVM_SET_DEVICE_ATTR: Linux 6.1")


def test_a_call_that_never_returns_is_given_up(process: GuestSyscalls) -> None:
    batch = Batch()
    batch.call(EVENTFD2, 0, 0, into=1)
    data = process.buffer(8)
    stuck = batch.call(READ, Register(1), data.address, 8, what="read of an eventfd")
    after = batch.call(CLOSE, Register(1))
    process.guest.perform(batch)
    with pytest.raises(Unanswered, match="read of an eventfd did not come back"):
        _ = stuck.result
    assert after.result == 0


def test_batches_have_no_limit(process: GuestSyscalls) -> None:
    batch = Batch()
    answers = [batch.call(OPEN, 0, number) for number in range(60_000)]
    process.guest.perform(batch)
    assert {answer.raw for answer in answers} == {-EFAULT}


# -- structures -----------------------------------------------------------------------------------


@dataclass
class Mapper:
    """A container with a group and type1, on any kernel."""

    syscalls: Syscalls

    def __post_init__(self) -> None:
        self.group = self.syscalls.open("/dev/vfio/1", 2)
        self.container = self.syscalls.open("/dev/vfio/vfio", 2)
        fd = self.syscalls.buffer(4)
        fd.write(struct.pack("<i", self.container))
        self.syscalls.ioctl(self.group, vfio.VFIO_GROUP_SET_CONTAINER, fd)
        self.syscalls.ioctl(self.container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
        self.memory = self.syscalls.mmap(-1, 1 << 16)
        self.buffer = self.syscalls.buffer(64)

    def ask(self, request: int, data: bytes) -> tuple[str, bytes]:
        """The result, and the structure afterwards."""
        self.buffer.write(data)
        try:
            result = str(self.syscalls.ioctl(self.container, request, self.buffer))
        except OSError as error:
            result = errorcode[error.errno or 0]
        return result, self.buffer.read(len(data))

    def map(self, flags: int, vaddr: int | None, iova: int, size: int, argsz: int = 32) -> str:
        layout = vfio.VFIO_IOMMU_TYPE1_DMA_MAP
        vaddr = self.memory.address if vaddr is None else vaddr
        data = layout.pack(layout.type(argsz, flags, vaddr, iova, size))
        return self.ask(vfio.VFIO_IOMMU_MAP_DMA, data)[0]

    def unmap(self, flags: int, iova: int, size: int, argsz: int = 24) -> tuple[str, int]:
        layout = vfio.VFIO_IOMMU_TYPE1_DMA_UNMAP
        data = layout.pack(layout.type(argsz, flags, iova, size))
        result, left = self.ask(vfio.VFIO_IOMMU_UNMAP_DMA, data)
        return result, layout.unpack(left).size

    def clear(self) -> tuple[str, int]:
        return self.unmap(vfio.VFIO_DMA_UNMAP_FLAG_ALL, 0, 0)


@pytest.fixture(params=range(4))
def maps(request: pytest.FixtureRequest) -> list[tuple[int, int | None, int, int]]:
    """A quarter of all mappings there are to ask for: flags, vaddr, iova, size."""
    every = list(
        product(
            (3, 0, 8, 4),
            (None, 0x1800, TOP - 0x1000, 0),
            (0, 0x1000, 0x1001, TOP - 0x1000, TOP - 0x800, 1 << 39, 0xFEE0_0000),
            (0, 0x1000, 0x1800, 0x2000, TOP - 0x1000),
        )
    )
    return every[request.param :: 4]


def test_mappings_are_taken_and_refused_alike(
    process: GuestSyscalls, maps: list[tuple[int, int | None, int, int]]
) -> None:
    sides = [Mapper(model(LINUX, "referee", snoop_control=False)), Mapper(process)]
    for wanted in maps:
        ours, theirs = ((side.map(*wanted), side.clear()) for side in sides)
        assert ours == theirs, wanted


def test_unmappings_are_answered_alike(process: GuestSyscalls) -> None:
    sides = [Mapper(model(LINUX, "referee", snoop_control=False)), Mapper(process)]
    unmaps = product(
        (0, 2, 4),
        (0, 0x1000, 0x1001, 0x2000, TOP - 0x1000),
        (0, 0x1000, 0x1800, 0x2000, TOP - 0x1000),
    )
    for wanted in unmaps:
        for side in sides:
            side.clear()
            assert side.map(3, None, 0x1000, 0x2000) == "0"
        ours, theirs = (side.unmap(*wanted) for side in sides)
        assert ours == theirs, wanted
