# SPDX-License-Identifier: GPL-2.0-only
"""A program on the model, for tests: its fds, its memory, and system calls that answer -errno.

`MACHINE` has what the tests need, one IOMMU group of each kind:

    1  0000:00:10.0  MSI, one memory BAR        dmar0, no snoop control, as all down to 6
    2  0000:00:11.0  no interrupts, an I/O BAR
    4  0000:00:13.0  PCI Express, MSI-X, reset
    5  0000:00:14.0, and 14.1 that the serial driver holds: not viable
    6  0000:00:1f.0  no driver
    7  0000:01:00.0  behind a bridge            dmar1, snoop control
    8  0000:02:00.0                             dmar2, no interrupt remapping
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile, FdTable, File, OtherFile
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.memory import PAGE, AddressSpace
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.vfio.external import Member
from kvm_vfio.machine.model import (
    Bar,
    BarKind,
    Iommu,
    IommuGroup,
    Machine,
    Msi,
    Msix,
    PciDevice,
    with_snoop_control,
)
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.kvm import (
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_LAYOUT,
    KVM_CREATE_VM,
    KVM_DEV_TYPE_VFIO,
    KVM_DEV_VFIO_GROUP,
    KVM_DEV_VFIO_GROUP_ADD,
    KVM_DEV_VFIO_GROUP_DEL,
    KVM_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
)
from kvm_vfio.uapi.layout import INT32, Layout, int32
from kvm_vfio.uapi.vfio import (
    VFIO_CHECK_EXTENSION,
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_GROUP_STATUS,
    VFIO_GROUP_UNSET_CONTAINER,
    VFIO_IOMMU_MAP_DMA,
    VFIO_IOMMU_TYPE1_DMA_MAP,
    VFIO_IOMMU_TYPE1_DMA_UNMAP,
    VFIO_IOMMU_UNMAP_DMA,
    VFIO_SET_IOMMU,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1v2_IOMMU,
)

# -- a machine -------------------------------------------------------------------------------------


def edu(address: str, **differs: Any) -> PciDevice:  # noqa: ANN401  # any field of PciDevice
    """The simplest device worth assigning: one BAR, one MSI, an interrupt pin."""
    fields = {"bars": (Bar(0, 1 << 20),), "interrupt_pin": 1, "msi": Msi(), **differs}
    return PciDevice(address, 0x1234, 0x11E8, 0x00FF00, **fields)


TESTDEV = PciDevice(
    "0000:00:11.0", 0x1B36, 0x0005, 0x00FF00, bars=(Bar(0, PAGE), Bar(1, 256, BarKind.IO))
)
NIC = PciDevice(
    "0000:00:13.0",
    0x8086,
    0x10D3,
    0x020000,
    bars=(Bar(0, 0x20000), Bar(1, 0x20000), Bar(2, 0x20, BarKind.IO), Bar(3, 0x4000)),
    interrupt_pin=1,
    power_management=True,
    pci_express=True,
    msi=Msi(),
    msix=Msix(5, table_bar=3, pba_bar=3, pba_offset=0x2000),
    reset=True,
)
SERIAL = PciDevice("0000:00:14.1", 0x1B36, 0x0002, 0x070002, driver="serial")

MACHINE = Machine(
    "test",
    (
        Iommu(
            "dmar0",
            (
                IommuGroup(1, (edu("0000:00:10.0"),)),
                IommuGroup(2, (TESTDEV,)),
                IommuGroup(4, (NIC,)),
                IommuGroup(5, (edu("0000:00:14.0", multifunction=True), SERIAL)),
                IommuGroup(6, (edu("0000:00:1f.0", driver=None),)),
            ),
        ),
        Iommu("dmar1", (IommuGroup(7, (edu("0000:01:00.0"),)),), snoop_control=True),
        Iommu("dmar2", (IommuGroup(8, (edu("0000:02:00.0"),)),), interrupt_remapping=False),
    ),
)
SNOOPING = with_snoop_control(MACHINE, True)
ADDRESS = {g.number: g.devices[0].address for _, g in MACHINE.groups()}


# -- kernels ---------------------------------------------------------------------------------------

Answer = TypeVar("Answer")


def answer_since(answers: Mapping[str, Answer], profile: Profile) -> Answer:
    """The answer of `profile`, from a table that has it where it changes."""
    names = list(PROFILES)
    return [answers[name] for name in names[: names.index(profile.name) + 1] if name in answers][-1]


def since(answers: Mapping[str, Any], name: str = "expected") -> pytest.MarkDecorator:
    """Every profile with its answer, given where it changes: {"2013": 0, "6.1": -EBADF}."""
    assert answers.keys() <= PROFILES.keys()
    rows = [(profile, answer_since(answers, profile)) for profile in PROFILES.values()]
    return pytest.mark.parametrize(("profile", name), rows, ids=list(PROFILES))


def profiles(*names: str) -> pytest.MarkDecorator:
    """These profiles; all of them where none is named."""
    chosen = names or tuple(PROFILES)
    return pytest.mark.parametrize("profile", [PROFILES[name] for name in chosen], ids=chosen)


class Recorder(Observer):
    """Writes down what it hears, in the words of the recorded scenarios."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.references: list[str] = []  # what the KVM-VFIO devices took, dropped and leaked

    def heard(self) -> str:
        """What came since the last time, and forget it."""
        text = " ".join(self.events)
        self.events.clear()
        return text

    def vm_created(self, vm: Vm) -> None:
        self.events.append("vmnew")

    def vm_destroyed(self, vm: Vm) -> None:
        self.events.append("vmdel")

    def noncoherent_dma_registered(self, vm: Vm) -> None:
        self.events.append("reg")

    def noncoherent_dma_unregistered(self, vm: Vm) -> None:
        self.events.append("unreg")

    def assignment_started(self, vm: Vm) -> None:
        self.events.append("asg")

    def assignment_ended(self, vm: Vm) -> None:
        self.events.append("unasg")

    def kvm_set(self, member: Member, vm: Vm | None) -> None:
        self.events.append(f"setkvm({vm.number if vm else 'NULL'})")

    def coherency_asked(self, member: Member, *, coherent: bool) -> None:
        self.events.append(f"coh={coherent:d}")

    def kvm_vfio_released(self, device: KvmVfio) -> None:
        self.events.append("devrel")

    def kvm_vfio_destroyed(self, device: KvmVfio) -> None:
        self.events.append("devdtor")

    def reference_taken(self, device: KvmVfio, member: Member) -> None:
        self.references.append(f"taken {member.name}")

    def reference_dropped(self, device: KvmVfio, member: Member) -> None:
        self.references.append(f"dropped {member.name}")

    def reference_leaked(self, device: KvmVfio, member: Member) -> None:
        self.references.append(f"leaked {member.name}")


# -- programs --------------------------------------------------------------------------------------

Fields = TypeVar("Fields", bound=tuple[Any, ...])
SomeFile = TypeVar("SomeFile", bound=File)


@dataclass
class Struct(Generic[Fields]):
    """A structure in a program's memory."""

    mm: AddressSpace
    layout: Layout[Fields]
    address: int

    @property
    def value(self) -> Fields:
        """What it holds now."""
        return self.layout.unpack(self.mm.read(self.address, self.layout.size))


Argument = int | Struct[Any]


@dataclass
class Program:
    """One process. What is not an answer (NotModelled, a bug) is raised."""

    kernel: Kernel
    files: FdTable = field(default_factory=FdTable)
    mm: AddressSpace = field(default_factory=AddressSpace)
    lock_limit: int | None = None

    def __post_init__(self) -> None:
        self.task = self.kernel.task(self.files, self.mm, lock_limit=self.lock_limit)

    # -- memory

    def put(self, data: bytes) -> int:
        """The address of a copy of `data` in ordinary memory."""
        _, address = self.mm.allocate(len(data))
        self.mm.write(address, data)
        return address

    def put_at_page_end(self, data: bytes, *, cut: int = 0, writable: bool = True) -> int:
        """The same, its last `cut` bytes lying in an unmapped page."""
        region = self.mm.map(max(PAGE, len(data)), writable=writable)
        address = region.end - len(data) + cut
        region.data[address - region.start :] = data[: len(data) - cut]
        return address

    def hole(self) -> int:
        """The address of an unmapped page."""
        return self.mm.map(PAGE).end

    def struct(self, layout: Layout[Fields], **fields: int | bytes) -> Struct[Fields]:
        """A structure; what is not given is 0, but for argsz."""
        blank = layout.unpack(bytes(layout.size))
        if "argsz" in layout.offsets:
            fields.setdefault("argsz", layout.size)
        value = blank._replace(**fields)  # type: ignore[attr-defined]  # a NamedTuple
        return Struct(self.mm, layout, self.put(layout.pack(value)))

    # -- system calls

    def call(self, function: Callable[..., Answer], *arguments: Any) -> Answer | int:  # noqa: ANN401
        try:
            return function(*arguments)
        except KernelError as error:
            return -error.errno

    def number(self, function: Callable[..., int], *arguments: Any) -> int:  # noqa: ANN401
        return self.call(function, *arguments)

    def open(self, path: str) -> int:
        return self.number(lambda: self.files.install(self.kernel.open(self.task, path)))

    def other(self, name: str = "/dev/null") -> int:
        return self.files.install(OtherFile(name))

    def eventfd(self) -> int:
        return self.files.install(EventFile())

    def close(self, *fds: int) -> None:
        for fd in fds:
            file = self.files.remove(fd)
            assert file is not None, f"fd {fd} is not open"
            file.put()

    def exit(self) -> None:
        self.close(*self.files.numbers())

    def dup(self, fd: int) -> int:
        return self.send(fd, self)

    def send(self, fd: int, receiver: Program) -> int:
        """Pass an fd over a socket: the receiver's number for the same file."""
        file = self.task.fget(fd)
        file.get()
        return receiver.files.install(file)

    def fork(self) -> Program:
        return Program(self.kernel, self.files.copy(), self.mm.copy(), self.lock_limit)

    def ioctl(self, fd: int, request: int, arg: Argument = 0) -> int:
        """ioctl(2). What it is refused with is always among the documented errnos."""
        address = arg.address if isinstance(arg, Struct) else arg
        file = self.files.get(fd)
        answer = self.number(lambda: self.task.fget(fd).ioctl(self.task, request, address))
        assert answer >= 0 or file is None or -answer in file.documented(request), answer
        return answer

    def read(self, fd: int, size: int, offset: int | None = None) -> bytes | int:
        return self.call(lambda: self.task.fget(fd).read(self.task, size, offset))

    def write(self, fd: int, data: bytes, offset: int | None = None) -> int:
        return self.number(lambda: self.task.fget(fd).write(self.task, data, offset))

    def file(self, fd: int, kind: type[SomeFile]) -> SomeFile:
        """The model's file behind an fd."""
        file = self.task.fget(fd)
        assert isinstance(file, kind)
        return file

    # -- KVM

    def vm(self) -> int:
        """A new VM; /dev/kvm is closed again."""
        kvm = self.open("/dev/kvm")
        vm = self.ioctl(kvm, KVM_CREATE_VM)
        self.close(kvm)
        return vm

    def create_device(self, vm: int, kind: int = KVM_DEV_TYPE_VFIO, flags: int = 0) -> int:
        """The fd of the new device, or -errno."""
        create = self.struct(KVM_CREATE_DEVICE_LAYOUT, type=kind, flags=flags)
        return self.ioctl(vm, KVM_CREATE_DEVICE, create) or create.value.fd

    def attr(
        self, request: int, fd: int, group: int, attr: int, address: int = 0, flags: int = 0
    ) -> int:
        wanted = self.struct(KVM_DEVICE_ATTR, group=group, attr=attr, addr=address, flags=flags)
        return self.ioctl(fd, request, wanted)

    def has_attr(self, device: int, group: int, attr: int) -> int:
        return self.attr(KVM_HAS_DEVICE_ATTR, device, group, attr)

    def set_attr(self, device: int, group: int, attr: int, address: int) -> int:
        return self.attr(KVM_SET_DEVICE_ATTR, device, group, attr, address)

    def add(self, device: int, fd: int) -> int:
        address = self.put(INT32.pack(int32(fd)))
        return self.set_attr(device, KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD, address)

    def delete(self, device: int, fd: int) -> int:
        address = self.put(INT32.pack(int32(fd)))
        return self.set_attr(device, KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_DEL, address)

    # -- VFIO

    def container(self) -> int:
        return self.open("/dev/vfio/vfio")

    def group(self, number: int) -> int:
        return self.open(f"/dev/vfio/{number}")

    def status(self, group: int) -> int:
        """The flags, or -errno."""
        status = self.struct(VFIO_GROUP_STATUS)
        return self.ioctl(group, VFIO_GROUP_GET_STATUS, status) or status.value.flags

    def set_container(self, group: int, container: int) -> int:
        return self.ioctl(group, VFIO_GROUP_SET_CONTAINER, self.put(INT32.pack(int32(container))))

    def unset_container(self, group: int) -> int:
        return self.ioctl(group, VFIO_GROUP_UNSET_CONTAINER)

    def set_iommu(self, container: int, kind: int | None = None) -> int:
        """The best type1 the kernel has, where none is given."""
        best = VFIO_TYPE1v2_IOMMU if self.kernel.profile.type1v2 else VFIO_TYPE1_IOMMU
        return self.ioctl(container, VFIO_SET_IOMMU, best if kind is None else kind)

    def extension(self, container: int, extension: int) -> int:
        return self.ioctl(container, VFIO_CHECK_EXTENSION, extension)

    def device_fd(self, group: int, name: str) -> int:
        return self.ioctl(group, VFIO_GROUP_GET_DEVICE_FD, self.put(name.encode() + b"\0"))

    def map_dma(self, container: int, iova: int, size: int = PAGE, **differs: int) -> int:
        fields = {"flags": VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, **differs}
        if "vaddr" not in fields:
            fields["vaddr"] = self.mm.map(size).start
        wanted = self.struct(VFIO_IOMMU_TYPE1_DMA_MAP, iova=iova, size=size, **fields)
        return self.ioctl(container, VFIO_IOMMU_MAP_DMA, wanted)

    def unmap_dma(self, container: int, iova: int, size: int = PAGE, **differs: int) -> int:
        """How many bytes were unmapped, or -errno."""
        wanted = self.struct(VFIO_IOMMU_TYPE1_DMA_UNMAP, iova=iova, size=size, **differs)
        return self.ioctl(container, VFIO_IOMMU_UNMAP_DMA, wanted) or wanted.value.size


def boot(
    profile: Profile = DEFAULT,
    machine: Machine = MACHINE,
    **options: Any,  # noqa: ANN401  # any option of Kernel
) -> Program:
    """A program on a fresh kernel."""
    return Program(Kernel(machine, profile, **options))


@dataclass
class Vmm:
    """A program with a VM, its KVM-VFIO device, and one group whose container has an IOMMU."""

    program: Program
    recorder: Recorder
    vm: int
    device: int
    container: int
    group: int

    def heard(self) -> str:
        """What the kernel told its observer since the last time."""
        return self.recorder.heard()

    def second_group(self, number: int) -> int:
        """Another group, in the same container."""
        group = self.program.group(number)
        must(group, self.program.set_container(group, self.container))
        return group

    def model_device(self) -> KvmVfio:
        """The KVM-VFIO device behind the fd."""
        device = self.program.file(self.device, KvmDeviceFile).device
        assert isinstance(device, KvmVfio)
        return device

    def model_vm(self) -> Vm:
        """The VM behind the device."""
        return self.model_device().vm


def start_vmm(
    profile: Profile = DEFAULT,
    machine: Machine = MACHINE,
    group: int = 1,
    **options: Any,  # noqa: ANN401  # any option of Kernel
) -> Vmm:
    recorder = Recorder()
    program = boot(profile, machine, observer=recorder, **options)
    vm = program.vm()
    device, container = program.create_device(vm), program.container()
    vmm = Vmm(program, recorder, vm, device, container, program.group(group))
    must(program.set_container(vmm.group, container), program.set_iommu(container))
    recorder.heard()
    return vmm


def must(*results: int) -> None:
    """The set-up of a test has worked."""
    assert all(result >= 0 for result in results), results


def failing(numbers: Iterable[int], error: KernelError) -> Callable[[str], None]:
    """An allocator whose calls with these numbers, counted from 0, fail."""
    counter = iter(range(1 << 30))
    wanted = set(numbers)

    def allocate(_structure: str) -> None:
        if next(counter) in wanted:
            raise error

    return allocate
