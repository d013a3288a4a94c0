# SPDX-License-Identifier: GPL-2.0-only
"""A program on the model: its files, its memory, its children, and how it is told no."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio import Container, Device, Group, Kvm, KvmVfio, ModelSyscalls, Vm, model
from kvm_vfio.errors import InputError, NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kvm.vm import Vm as KernelVm
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.machine.load import load_machine
from kvm_vfio.syscalls import MemoryBuffer, Syscalls
from kvm_vfio.uapi.fcntl import O_PATH, O_RDWR
from kvm_vfio.uapi.kvm import KVM_CREATE_VM, KVM_GET_API_VERSION
from tests.unit.client.refusal import errno_of, note_of


@pytest.fixture
def linux() -> ModelSyscalls:
    return model()


def kvm_vfio_with_group(linux: ModelSyscalls) -> tuple[Vm, KvmVfio, Group]:
    vm = Kvm(linux).create_vm()
    device, group = vm.create_kvm_vfio(), Group(linux, 1)
    device.add(group)
    return vm, device, group


def device_of_group_1(linux: ModelSyscalls) -> Device:
    group, container = Group(linux, 1), Container(linux)
    group.set_container(container)
    container.set_iommu()
    return group.device("0000:00:10.0")


def test_it_is_the_waist(linux: ModelSyscalls) -> None:
    waist: Syscalls = linux  # checked by mypy
    assert waist.ioctl(waist.open("/dev/kvm", O_RDWR), KVM_GET_API_VERSION) == 12


# -- being told no --------------------------------------------------------------------------------


def test_an_errno_is_the_oserror_of_its_kind_with_the_reason_as_a_note(
    linux: ModelSyscalls,
) -> None:
    _, device, group = kvm_vfio_with_group(linux)
    with pytest.raises(FileExistsError) as refused:
        device.add(group)
    assert str(refused.value) == f"[Errno {errno.EEXIST}] {os.strerror(errno.EEXIST)}"
    assert refused.value.__notes__ == ["KVM_SET_DEVICE_ATTR: VFIO group 1 is a member already"]
    assert isinstance(refused.value.__cause__, KernelError)


def test_a_request_without_a_name_is_named_by_its_number(linux: ModelSyscalls) -> None:
    note = note_of(lambda: linux.ioctl(Kvm(linux).fileno(), 0x1234))
    assert note == "ioctl 0x1234: /dev/kvm has no ioctl 0x00001234"


@pytest.mark.parametrize("fd", [-1, 3, 1 << 31])
def test_every_call_on_an_fd_that_is_not_open_is_ebadf(linux: ModelSyscalls, fd: int) -> None:
    calls: list[Callable[[], object]] = [
        lambda: linux.close(fd),
        lambda: linux.dup(fd),
        lambda: linux.ioctl(fd, 0),
        lambda: linux.read(fd, 8),
        lambda: linux.write(fd, b""),
        lambda: linux.pread(fd, 8, 0),
        lambda: linux.pwrite(fd, b"", 0),
        lambda: linux.lseek(fd, 0),
        lambda: linux.send(fd, linux),
    ]
    assert {errno_of(call) for call in calls} == {"EBADF"}


def test_an_argument_is_taken_as_64_bits(linux: ModelSyscalls) -> None:
    fd = Kvm(linux).fileno()
    assert linux.ioctl(fd, KVM_GET_API_VERSION, 1 << 64) == 12
    assert errno_of(lambda: linux.ioctl(fd, KVM_GET_API_VERSION, -1)) == "EINVAL"


def test_a_bug_in_the_model_is_not_an_answer(
    linux: ModelSyscalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: File, size: int) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(File, "lseek", broken)
    with pytest.raises(ZeroDivisionError):
        linux.lseek(linux.eventfd(), 0)


# -- files ----------------------------------------------------------------------------------------


def test_a_program_begins_with_three_files(linux: ModelSyscalls) -> None:
    assert linux.open("/dev/kvm", O_RDWR) == 3


@pytest.mark.parametrize(
    "path", ["/dev/vfio/99", "/dev/vfio/01", "/dev/iommu", "/dev/vfio/devices/vfio0", "/dev/vfio/"]
)
@pytest.mark.parametrize("flags", [O_RDWR, O_PATH])
def test_a_node_that_is_not_there(linux: ModelSyscalls, path: str, flags: int) -> None:
    assert errno_of(lambda: linux.open(path, flags)) == "ENOENT"


@pytest.mark.parametrize("path", ["/dev/kvm", "/dev/vfio/vfio", "/dev/vfio/1", "/tmp"])
def test_a_path_only_fd_can_be_duplicated_and_nothing_else(linux: ModelSyscalls, path: str) -> None:
    fd = linux.open(path, O_PATH)
    linux.close(linux.dup(fd))
    assert errno_of(lambda: linux.ioctl(fd, KVM_GET_API_VERSION)) == "EBADF"
    Group(linux, 1).close()  # which a path-only fd does not open


def test_without_vfio_its_nodes_are_gone(linux: ModelSyscalls) -> None:
    linux.kernel.unload_vfio()
    for flags in (O_RDWR, O_PATH):
        assert errno_of(partial(linux.open, "/dev/vfio/1", flags)) == "ENOENT"


def test_what_is_in_other_files_is_not_made_up(linux: ModelSyscalls) -> None:
    fds = [linux.open("/etc/passwd", 0), *linux.pipe(), linux.memfd(), linux.socket()]
    for fd in fds:
        with pytest.raises(NotModelled):
            linux.read(fd, 8)
        with pytest.raises(NotModelled):
            linux.mmap(fd, PAGE)


def test_an_eventfd_counts(linux: ModelSyscalls) -> None:
    fd = linux.eventfd(3)
    linux.write(fd, (4).to_bytes(8, "little"))
    assert linux.read(fd, 8) == (7).to_bytes(8, "little")
    assert errno_of(lambda: linux.read(fd, 8)) == "EAGAIN"


def test_the_last_close_of_a_shared_file_releases_it(linux: ModelSyscalls) -> None:
    group = Group(linux, 1)
    second = linux.dup(group.fileno())
    group.close()
    assert errno_of(lambda: Group(linux, 1)) == "EBUSY"
    linux.close(second)
    Group(linux, 1).close()


# -- memory ---------------------------------------------------------------------------------------


@given(
    size=st.integers(1, 100_000),
    data=st.data(),
)
def test_a_buffer_holds_what_is_written(size: int, data: st.DataObject) -> None:
    linux = model()
    buffer, neighbour = linux.buffer(size), linux.buffer(16)
    offset = data.draw(st.integers(0, size))
    content = data.draw(st.binary(max_size=min(size - offset, 100)))
    buffer.write(content, offset)
    expected = bytes(offset) + content + bytes(size - offset - len(content))
    assert buffer.read() == expected
    assert buffer.read(len(content), offset) == content
    assert linux.mm.read(buffer.address, size) == expected
    assert neighbour.read() == bytes(16)


@pytest.mark.parametrize(("size", "offset"), [(5, 0), (4, 1), (1, 4), (1, 5)])
def test_what_does_not_fit_is_not_written(linux: ModelSyscalls, size: int, offset: int) -> None:
    buffer = linux.buffer(4)
    with pytest.raises(ValueError, match=r"."):
        buffer.write(b"x" * size, offset)
    assert buffer.read() == bytes(4)


def test_a_mapping_is_the_pages_it_covers(linux: ModelSyscalls) -> None:
    buffer = linux.mmap(-1, 5)
    assert buffer.address % PAGE == 0
    assert buffer.read() == bytes(5)
    assert linux.mm.read(buffer.address, PAGE) == bytes(PAGE)


def test_a_mapping_that_is_gone_is_gone_for_the_kernel_and_for_python(
    linux: ModelSyscalls,
) -> None:
    buffer = linux.mmap(-1, PAGE)
    linux.munmap(buffer)
    with pytest.raises(ValueError, match="released"):
        buffer.read()
    with pytest.raises(KernelError):
        linux.mm.read(buffer.address, 1)
    with pytest.raises(ValueError, match="once"):
        linux.munmap(buffer)


def test_ordinary_memory_cannot_be_unmapped(linux: ModelSyscalls) -> None:
    with pytest.raises(ValueError, match="mmap"):
        linux.munmap(linux.buffer(PAGE))


def test_mmaps_own_checks(linux: ModelSyscalls) -> None:
    fd = Kvm(linux).fileno()
    assert errno_of(lambda: linux.mmap(-1, PAGE, 1)) == "EINVAL"
    assert errno_of(lambda: linux.mmap(99, 0)) == "EBADF"
    assert errno_of(lambda: linux.mmap(fd, 0)) == "EINVAL"
    assert errno_of(lambda: linux.mmap(fd, PAGE)) == "ENODEV"


def test_memory_by_its_address(linux: ModelSyscalls) -> None:
    buffer = linux.buffer(8)
    buffer.write(b"12345678")
    assert linux.at(buffer.address + 2, 3).read() == b"345"
    with pytest.raises(ValueError, match="mapped"):
        linux.at(0x1000, 1)


# -- threads, children, other processes -----------------------------------------------------------


def test_a_thread_shares_everything(linux: ModelSyscalls) -> None:
    vm, _, _ = kvm_vfio_with_group(linux)
    thread = linux.thread()
    assert Vm(thread, vm.fileno()).has_kvm_vfio()
    fd = thread.eventfd()
    linux.close(fd)
    buffer = thread.buffer(4)
    assert linux.at(buffer.address, 4).read() == bytes(4)


def test_a_child_has_the_files_and_a_copy_of_the_memory(linux: ModelSyscalls) -> None:
    vm, device, _ = kvm_vfio_with_group(linux)
    buffer = linux.buffer(4)
    buffer.write(b"mine")
    child = linux.fork()
    assert errno_of(Vm(child, vm.fileno()).has_kvm_vfio) == "EIO"
    assert errno_of(lambda: KvmVfio(child, device.fileno()).delete(0)) == "EIO"
    inherited = child.at(buffer.address, 4)
    assert inherited.read() == b"mine"
    inherited.write(b"ours")
    assert buffer.read() == b"mine"


def test_a_child_shares_a_mapped_bar(linux: ModelSyscalls) -> None:
    device = device_of_group_1(linux)
    bar = device.map_bar(0)
    child = linux.fork()
    child.at(bar.address, 4).write(b"abcd")
    assert bar.read(4) == b"abcd"
    device.close()
    linux.munmap(bar)
    assert linux.kernel.snapshot().vfio_groups[0].open_devices
    child.exit()
    assert not linux.kernel.snapshot().vfio_groups[0].open_devices


def test_an_fd_passed_to_another_process_is_the_same_file(linux: ModelSyscalls) -> None:
    other = ModelSyscalls(linux.kernel)
    group = Group(linux, 1)
    passed = linux.send(group.fileno(), other)
    group.close()
    assert Group(other, 1, fd=passed).status().viable
    assert errno_of(lambda: Group(linux, 1)) == "EBUSY"


def test_exit_gives_everything_back(linux: ModelSyscalls) -> None:
    empty = linux.kernel.snapshot()
    vm, device, _ = kvm_vfio_with_group(linux)
    linux.dup(device.fileno())
    vm.close()
    other_group = Group(linux, 2)
    container = Container(linux)
    other_group.set_container(container)
    container.set_iommu()
    container.map_dma(linux.mmap(-1, PAGE), 0)
    other_group.device("0000:00:11.0").map_bar(0)
    assert linux.kernel.snapshot() != empty
    linux.exit()
    assert linux.kernel.snapshot() == empty
    assert linux.files.numbers() == []


def test_exit_closes_the_lowest_fd_first(linux: ModelSyscalls) -> None:
    closed: list[str] = []

    class Noted(File):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.noted = name

        def release(self) -> None:
            closed.append(self.noted)

    for name in ("first", "second", "third"):
        linux.files.install(Noted(name))
    linux.exit()
    assert closed == ["first", "second", "third"]


def test_a_process_may_lock_as_much_as_its_limit(linux: ModelSyscalls) -> None:
    limited = ModelSyscalls(linux.kernel, lock_limit=PAGE)
    for process in (limited, limited.thread(), limited.fork()):
        group, container = Group(process, 1), Container(process)
        group.set_container(container)
        container.set_iommu()
        memory = process.mmap(-1, 2 * PAGE)
        assert errno_of(partial(container.map_dma, memory, 0)) == "ENOMEM"
        group.close()


# -- explaining -----------------------------------------------------------------------------------


def test_every_vm_is_explained(linux: ModelSyscalls) -> None:
    first, device, group = kvm_vfio_with_group(linux)
    second = Kvm(linux).create_vm()
    executed = "VM 1: WBINVD is executed: KVM-VFIO device: VFIO group 1: dmar0 has no snoop control"
    no_op = "VM 2: WBINVD is a no-op: no device it uses can bypass the CPU caches"
    assert linux.explain() == f"{executed}\n{no_op}"
    assert linux.explain(first) == executed
    assert linux.explain(second.fileno()) == no_op
    first.close()
    assert linux.explain() == f"{executed}\n{no_op}"  # the device keeps its VM
    device.delete(group)
    assert linux.explain().splitlines()[0] == no_op.replace("VM 2", "VM 1")


def test_several_reasons_stand_in_one_line(linux: ModelSyscalls) -> None:
    _, device, _ = kvm_vfio_with_group(linux)
    device.add(Group(linux, 2))
    reason = "KVM-VFIO device: VFIO group {}: dmar0 has no snoop control"
    reasons = "; ".join(map(reason.format, (1, 2)))
    assert linux.explain() == f"VM 1: WBINVD is executed: {reasons}"


def test_only_a_vm_can_be_explained(linux: ModelSyscalls) -> None:
    with pytest.raises(ValueError, match="fd 3 is no VM"):
        linux.explain(Kvm(linux))


# -- making one -----------------------------------------------------------------------------------


def test_the_profile_is_chosen_by_its_name() -> None:
    assert Kvm(model("6.12")).check_extension(89) == 1
    assert Kvm(model("5.10")).check_extension(89) == 0
    with pytest.raises(InputError, match=r"no profile '3.11'; there are 2013, 4.19, 5.10"):
        model("3.11")


def test_the_machine_is_a_name_or_a_description() -> None:
    described = replace(load_machine("default"), name="mine")
    assert model(machine="referee").kernel.machine.name == "referee"
    assert model(machine=described).kernel.machine is described
    with pytest.raises(InputError, match="no-such-machine"):
        model(machine="no-such-machine")


@pytest.mark.parametrize(("snoop_control", "word"), [(True, "no-op"), (False, "executed")])
def test_snoop_control_decides(*, snoop_control: bool, word: str) -> None:
    linux = model(machine="referee", snoop_control=snoop_control)
    kvm_vfio_with_group(linux)
    assert word in linux.explain()


def test_an_observer_hears() -> None:
    class Ear(Observer):
        heard: list[int]

        def vm_created(self, vm: KernelVm) -> None:
            self.heard.append(vm.number)

    ear = Ear()
    ear.heard = []
    linux = model(observer=ear)
    linux.ioctl(Kvm(linux).fileno(), KVM_CREATE_VM)
    assert ear.heard == [1]


def test_two_models_know_nothing_of_each_other() -> None:
    Group(model(), 1)
    Group(model(), 1).close()


def test_a_buffer_knows_its_length(linux: ModelSyscalls) -> None:
    assert len(MemoryBuffer(0x1000, memoryview(bytearray(5)))) == 5
    assert len(linux.buffer(7)) == 7
