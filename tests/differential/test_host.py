# SPDX-License-Identifier: GPL-2.0-only
"""The model beside this computer's own KVM: the same calls, the same answers.

Everything that needs no VFIO group: VMs, the KVM-VFIO device and its attributes, fds of every kind,
memory of every kind, closing in any order, forking. Where kernels differ, the running one is asked
how it behaves, and the model gets a profile that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from errno import EINVAL
from itertools import product

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvm_vfio.client import Kvm
from kvm_vfio.client.in_process import ModelSyscalls
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.machine.load import load_machine
from kvm_vfio.profiles import PROFILES, DeviceEnd, Profile
from kvm_vfio.syscalls import Buffer, Syscalls
from kvm_vfio.uapi.fcntl import O_RDONLY, O_RDWR
from kvm_vfio.uapi.kvm import (
    KVM_CAP_DEVICE_CTRL,
    KVM_CAP_VM_TYPES,
    KVM_CHECK_EXTENSION,
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_LAYOUT,
    KVM_CREATE_VM,
    KVM_DEV_TYPE_VFIO,
    KVM_DEVICE_ATTR,
    KVM_GET_API_VERSION,
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
)
from kvm_vfio.uapi.layout import INT32, Request
from tests.differential.sides import (
    MEMORY,
    NOT_MEMORY,
    OTHER_FILES,
    HostSide,
    ModelSide,
    Outcome,
    Side,
    close,
    outcome,
)
from tests.support import NOT_A_PACKAGE

pytestmark = pytest.mark.kvm

SIDES = (0, 1)
MOST_FILES = 10
PRESET_FD = 0xDEADBEEF
CAPABILITIES = (KVM_CAP_DEVICE_CTRL, 0xFFFFF, 2**31 - 1)  # those whose value is known
ADDRESSES = (*MEMORY, *NOT_MEMORY)
VFS_REQUESTS = (0x5421, 0x5450, 0x5451, 0x5452)  # answered before any file is asked


# -- what the running kernel is like --------------------------------------------------------------


def system_attributes(host: HostSide) -> frozenset[tuple[int, int]] | None:
    """The attributes of /dev/kvm, None where it does not know the request."""
    found = set()
    with Kvm(host.syscalls) as kvm:
        for attr_group, attr in product(range(4), range(5)):
            memory = host.memory("rw", KVM_DEVICE_ATTR.pack_fields(0, attr_group, attr, 0))
            try:
                host.syscalls.ioctl(kvm.fileno(), KVM_HAS_DEVICE_ATTR, memory)
            except OSError as error:
                if error.errno == EINVAL:
                    return None
            else:
                found.add((attr_group, attr))
    return frozenset(found)


def device_checks_mm(host: HostSide) -> bool:
    with Kvm(host.syscalls) as kvm, kvm.create_vm() as vm, vm.create_kvm_vfio() as device:
        return host.in_child(lambda _: int(device.has_attr(1, 1))) == "EIO"


def device_ends_with_vm(host: HostSide) -> bool:
    with Kvm(host.syscalls) as kvm, kvm.create_vm() as vm:
        vm.create_kvm_vfio().close()
        second = outcome(lambda: vm.create_device(KVM_DEV_TYPE_VFIO))
        if isinstance(second, int):
            host.syscalls.close(second)
        return second == "EBUSY"


@pytest.fixture(scope="module")
def running() -> Profile:
    """The running kernel, as far as this file can see it."""
    host = HostSide()
    with Kvm(host.syscalls) as kvm:
        known = kvm.check_extension(KVM_CAP_DEVICE_CTRL)
        with kvm.create_vm() as vm:
            if not vm.has_kvm_vfio():
                pytest.skip(f"KVM-VFIO is not built in; boot a kernel that has it {NOT_A_PACKAGE}")
    return replace(
        PROFILES["6.18"],
        name="this computer's",
        capabilities=frozenset({KVM_CAP_DEVICE_CTRL} if known else ()),
        system_attributes=system_attributes(host),
        device_checks_mm=device_checks_mm(host),
        device_end=DeviceEnd.DESTROYED_WITH_VM
        if device_ends_with_vm(host)
        else DeviceEnd.RELEASED_ON_CLOSE,
    )


# -- what is passed -------------------------------------------------------------------------------


@dataclass(eq=False)
class Pair:
    """One open file on both sides; once closed, -1 on both."""

    fds: tuple[int, ...]
    read_only: bool = False  # EBADF and EACCES of it are not modelled


CLOSED = Pair((-1, -1))
INVALID = [CLOSED, Pair((-2, -2)), Pair((0x7FFF_FFFF, 0x7FFF_FFFF))]

u32s = st.sampled_from([0, 1, 2, 3, 4, 5, 2**31 - 1, 2**32 - 1]) | st.integers(0, 2**32 - 1)
u64s = st.sampled_from([0, 1, 2, 3, 4, 1 << 32 | 1, 2**64 - 1]) | st.integers(0, 2**64 - 1)
members = st.tuples(st.just(1), st.sampled_from([1, 2]))  # ADD and DEL
attributes = st.one_of(members, members, st.tuples(st.just(1), u64s), st.tuples(u32s, u64s))
struct_places = st.sampled_from([*["buffer"] * 25, *ADDRESSES])
value_places = st.sampled_from([*["rw"] * 25, *ADDRESSES])
attr_requests = st.sampled_from(
    [KVM_SET_DEVICE_ATTR] * 4 + [KVM_HAS_DEVICE_ATTR] * 2 + [KVM_GET_DEVICE_ATTR]
)
device_types = st.sampled_from([*[4] * 20, *range(17), 100, 0xFFFF_FFFF])
create_flags = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 0xFFFF_FFFE, 0xFFFF_FFFF])
vm_types = st.sampled_from([*[0] * 8, *range(1, 8), 31, 32, 63, 2**31, 2**32, 2**64 - 1])
rarely = st.sampled_from([*[False] * 9, True])
foreign_requests = st.one_of(
    st.sampled_from(VFS_REQUESTS),
    st.builds(lambda number: 0x3B00 | number, st.integers(100, 121)),  # VFIO's
    st.builds(
        lambda direction, size, number: direction << 30 | size << 16 | 0xAF00 | number,
        st.integers(0, 3),
        st.integers(0, 64),
        st.integers(0, 255),
    ),
)


class Beside(RuleBasedStateMachine):
    """Two programs in step, one on the model and one on the running kernel."""

    systems = Bundle("systems")
    vms = Bundle("vms")
    devices = Bundle("devices")
    others = Bundle("others")
    ours = systems | vms | devices | devices
    anything = ours | others

    profile = PROFILES["6.18"]  # the running kernel's, once that has been asked
    machine = load_machine("default")

    def __init__(self) -> None:
        super().__init__()
        self.kernel = Kernel(self.machine, self.profile)
        self.sides: tuple[Side, ...] = (ModelSide(ModelSyscalls(self.kernel)), HostSide())
        self.at_first = [side.fds() for side in self.sides]
        self.open: list[Pair] = []

    # -- both at once ------------------------------------------------------------------------------

    def both(
        self, call: Callable[[int, Syscalls], Outcome], *, in_child: bool = False
    ) -> list[Pair]:
        """Make a call on both sides, with the same outcome; the files it opened."""
        before = [side.fds() for side in self.sides]
        results = [self.outcome(at, call, in_child=in_child) for at in SIDES]
        new = [self.sides[at].fds() - before[at] for at in SIDES]
        opened = ["fd" if results[at] in new[at] else results[at] for at in SIDES]
        assert opened[0] == opened[1]
        assert len(new[0]) == len(new[1]) <= 1
        pairs = [Pair(fds) for fds in zip(*new, strict=True)]
        self.open += pairs
        return pairs

    def outcome(
        self, at: int, call: Callable[[int, Syscalls], Outcome], *, in_child: bool
    ) -> Outcome:
        side = self.sides[at]
        if in_child:
            return side.in_child(lambda syscalls: call(at, syscalls))
        return outcome(lambda: call(at, side.syscalls))

    def ioctl(
        self, file: Pair, request: int, args: Sequence[int | Buffer], *, in_child: bool = False
    ) -> list[Pair]:
        """The same request on the same file on both sides."""
        return self.both(
            lambda at, syscalls: syscalls.ioctl(file.fds[at], request, args[at]), in_child=in_child
        )

    def place(self, kind: str, contents: Sequence[bytes]) -> list[int | Buffer]:
        """A structure on each side, in memory of a kind."""
        return [self.place_on(self.sides[at], kind, contents[at]) for at in SIDES]

    def place_on(self, side: Side, kind: str, data: bytes) -> int | Buffer:
        if kind in NOT_MEMORY:
            return NOT_MEMORY[kind]
        if kind != "buffer":
            return side.memory(kind, data)
        buffer = side.syscalls.buffer(len(data))
        buffer.write(data)
        return buffer

    # -- opening and closing -----------------------------------------------------------------------

    def make_vm(self) -> Pair:
        (kvm,) = self.both(lambda _, syscalls: syscalls.open("/dev/kvm", O_RDWR))
        (vm,) = self.ioctl(kvm, KVM_CREATE_VM, (0, 0))
        return vm

    @initialize(target=vms)
    def begin_with_a_vm(self) -> Pair:
        return self.make_vm()

    @initialize(target=devices, keep_vm=st.booleans())
    def begin_with_a_device(self, keep_vm: bool) -> Pair:
        vm = self.make_vm()
        data = KVM_CREATE_DEVICE_LAYOUT.pack_fields(KVM_DEV_TYPE_VFIO, PRESET_FD, 0)
        (device,) = self.ioctl(vm, KVM_CREATE_DEVICE, self.place("buffer", [data, data]))
        if not keep_vm:
            self.close(vm)
        return device

    @precondition(lambda self: len(self.open) < MOST_FILES)
    @rule(target=systems, flags=st.sampled_from([O_RDWR, O_RDWR, O_RDONLY]))
    def open_kvm(self, flags: int) -> Pair:
        (kvm,) = self.both(lambda _, syscalls: syscalls.open("/dev/kvm", flags))
        kvm.read_only = flags == O_RDONLY
        return kvm

    @precondition(lambda self: len(self.open) < MOST_FILES)
    @rule(target=others, kind=st.sampled_from(OTHER_FILES))
    def open_other(self, kind: str) -> Pair:
        (file,) = self.both(lambda at, _: self.sides[at].open_other(kind))
        return file

    @rule(target=vms, kvm=systems, machine_type=vm_types)
    def create_vm(self, kvm: Pair, machine_type: int) -> MultipleResults[Pair]:
        if 0 < machine_type < 32 and self.host_vm_types() >> machine_type & 1:
            machine_type = 0  # confidential VMs, say: the model has none
        return multiple(*self.ioctl(kvm, KVM_CREATE_VM, (machine_type, machine_type)))

    def host_vm_types(self) -> int:
        with Kvm(self.sides[1].syscalls) as kvm:
            return kvm.check_extension(KVM_CAP_VM_TYPES)

    @rule(
        target=devices,
        vm=vms | vms | vms | vms | vms | vms | anything,
        device_type=device_types,
        flags=create_flags,
        place=struct_places,
        in_child=rarely,
    )
    def create_device(
        self, vm: Pair, device_type: int, flags: int, place: str, in_child: bool
    ) -> MultipleResults[Pair]:
        data = KVM_CREATE_DEVICE_LAYOUT.pack_fields(device_type, PRESET_FD, flags)
        where = self.place(place, [data, data])
        made = self.ioctl(vm, KVM_CREATE_DEVICE, where, in_child=in_child)
        if place in ("buffer", "rw", "odd", "page end") and not in_child:
            self.look_at_created(where, data, made)
        return multiple(*made)

    @rule(vm=vms)
    def create_again(self, vm: Pair) -> None:
        """Whether a VM may have a second device depends on what became of the first."""
        data = KVM_CREATE_DEVICE_LAYOUT.pack_fields(KVM_DEV_TYPE_VFIO, PRESET_FD, 0)
        where = self.place("buffer", [data, data])
        for _ in range(2):
            first = self.ioctl(vm, KVM_CREATE_DEVICE, where)
            second = self.ioctl(vm, KVM_CREATE_DEVICE, where)
            for device in first + second:
                self.close(device)

    def look_at_created(self, where: Sequence[int | Buffer], data: bytes, made: list[Pair]) -> None:
        """The fd is in the structure if one was made; nothing else has changed."""
        layout = KVM_CREATE_DEVICE_LAYOUT
        for at in SIDES:
            there = where[at]
            if isinstance(there, int):
                after = self.sides[at].look(there, layout.size)
            else:
                after = there.read()
            fd = made[0].fds[at] if made else PRESET_FD
            assert layout.unpack(after) == layout.unpack(data)._replace(fd=fd)

    @rule(target=devices, device=devices)
    def dup_device(self, device: Pair) -> MultipleResults[Pair]:
        return multiple(*self.dup(device))

    @rule(target=others, file=anything)
    def dup_anything(self, file: Pair) -> MultipleResults[Pair]:
        return multiple(*self.dup(file))

    def dup(self, file: Pair) -> list[Pair]:
        return self.both(lambda at, syscalls: syscalls.dup(file.fds[at]))

    @rule(file=anything, really=st.sampled_from([True, False, False]))
    def close_some(self, file: Pair, really: bool) -> None:
        if really:
            self.close(file)

    def close(self, file: Pair) -> None:
        fds, file.fds = file.fds, CLOSED.fds
        self.both(lambda at, syscalls: close(syscalls, fds[at]))
        if file in self.open:
            self.open.remove(file)

    # -- asking ------------------------------------------------------------------------------------

    @rule(
        device=devices,
        attribute=attributes,
        value_place=st.sampled_from([*["rw"] * 10, *ADDRESSES]),
        member=st.one_of(anything, st.sampled_from(INVALID)),
    )
    def set_attr(
        self, device: Pair, attribute: tuple[int, int], value_place: str, member: Pair
    ) -> None:
        """ADD and DEL of files of every kind, and all that is neither."""
        where = self.place_attr(attribute, 0, "buffer", value_place, member)
        self.ioctl(device, KVM_SET_DEVICE_ATTR, where)

    @rule(
        file=devices | devices | devices | devices | anything,
        request=attr_requests,
        attribute=attributes,
        flags=u32s,
        place=struct_places,
        value_place=value_places,
        member=st.one_of(anything, st.sampled_from(INVALID)),
        in_child=rarely,
    )
    def any_attr(
        self,
        file: Pair,
        request: Request,
        attribute: tuple[int, int],
        flags: int,
        place: str,
        value_place: str,
        member: Pair,
        in_child: bool,
    ) -> None:
        """Every request, on every file, with every structure."""
        where = self.place_attr(attribute, flags, place, value_place, member)
        self.ioctl(file, request, where, in_child=in_child)

    def place_attr(
        self,
        attribute: tuple[int, int],
        flags: int,
        place: str,
        value_place: str,
        member: Pair,
    ) -> list[int | Buffer]:
        """A kvm_device_attr on each side, whose value is the fd of `member` there."""
        values = self.place(value_place, [INT32.pack_fields(fd) for fd in member.fds])
        contents = [KVM_DEVICE_ATTR.pack_fields(flags, *attribute, value) for value in values]
        return self.place(place, contents)

    @rule(
        file=ours,
        request=foreign_requests,
        high=st.sampled_from([0, 0, 0, 1 << 32]),
        place=value_places,
        value=st.sampled_from([0, 1]),
    )
    def foreign_ioctl(self, file: Pair, request: int, high: int, place: str, value: int) -> None:
        where = self.place(place, [INT32.pack_fields(value)] * 2)
        self.ioctl(file, request | high, where)

    @rule(file=systems | vms, capability=st.sampled_from(CAPABILITIES))
    def check_extension(self, file: Pair, capability: int) -> None:
        self.ioctl(file, KVM_CHECK_EXTENSION, (capability, capability))

    @rule(file=systems, argument=st.sampled_from([0, 0, 1, 2**32]))
    def api_version(self, file: Pair, argument: int) -> None:
        self.ioctl(file, KVM_GET_API_VERSION, (argument, argument))

    @rule(file=ours, size=st.sampled_from([0, 1, 16]))
    def read_and_write(self, file: Pair, size: int) -> None:
        if file.read_only:
            return
        self.both(lambda at, syscalls: len(syscalls.read(file.fds[at], size)))
        self.both(lambda at, syscalls: syscalls.write(file.fds[at], bytes(size)))
        self.both(lambda at, syscalls: len(syscalls.pread(file.fds[at], size, 0)))
        self.both(lambda at, syscalls: syscalls.pwrite(file.fds[at], bytes(size), 0))

    @rule(file=ours, size=st.sampled_from([0, 1, 4096]), offset=st.sampled_from([0, 1, 4096]))
    def map(self, file: Pair, size: int, offset: int) -> None:
        if file.read_only or file.fds == CLOSED.fds:  # without a file, mmap is another call
            return
        self.both(lambda at, syscalls: len(syscalls.mmap(file.fds[at], size, offset)))

    @rule(file=ours)
    def seek(self, file: Pair) -> None:
        self.both(lambda at, _: self.sides[at].lseek(file.fds[at]))

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        for pair in self.open.copy():
            self.close(pair)
        for side in self.sides:
            side.forget_memory()
        assert [side.fds() for side in self.sides] == self.at_first
        assert self.kernel.snapshot().vms == ()


def test_the_model_answers_as_this_computers_kvm(running: Profile) -> None:
    machine = type("BesideThisKernel", (Beside,), {"profile": running})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
