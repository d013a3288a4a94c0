# SPDX-License-Identifier: GPL-2.0-only
"""One kernel on one machine: everything that outlives a single call.

Rule of this file: it puts the parts together and holds what is global in Linux. It has no clock and
no globals of its own; two kernels in one process know nothing of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import ENOENT, EWOULDBLOCK

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.iommu.group import IommuGroup, PciFunction
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.kvm.vfio import KvmVfio, KvmVfioPicture
from kvm_vfio.kernel.kvm.vm import Vm
from kvm_vfio.kernel.lock import Lock, LockWatcher
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.pci.resources import assign
from kvm_vfio.kernel.pci.storage import Storage
from kvm_vfio.kernel.task import Files, Mm, Task
from kvm_vfio.kernel.vfio.container import Container, ContainerFile
from kvm_vfio.kernel.vfio.external import ContainerUsers, External, OpenFiles
from kvm_vfio.kernel.vfio.group import GroupFile, VfioGroup, VfioGroupPicture
from kvm_vfio.kernel.x86.cache import Caches
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles.profile import Profile


@dataclass(frozen=True, slots=True)
class VmPicture:
    """One VM: `noncoherent_dma` counts who registered it (KVM-VFIO, legacy assignment)."""

    number: int
    references: int
    noncoherent_dma: int
    assigned_devices: int
    devices: tuple[KvmVfioPicture, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """All that a kernel holds at one moment."""

    vms: tuple[VmPicture, ...]
    vfio_groups: tuple[VfioGroupPicture, ...]


class Kernel:
    """A Linux that runs on `machine` and behaves as `profile` says.

    `observer` hears of every effect. `allocate` is called with the name of a structure before each
    allocation a caller can make fail, and may raise KernelError(ENOMEM). `selects_kvm_vfio` is
    whether the architecture builds the KVM-VFIO device (CONFIG_KVM_VFIO). `open_storage` opens, by
    its path, a file that a device keeps its data in. `now` and `real_time` are the computer's
    clocks (CLOCK_BOOTTIME and CLOCK_REALTIME), in nanoseconds; without them time stands still.
    `caches` are the CPUs'; without them all DMA finds what CPUs have stored.
    `online_cpus` is how many CPUs it has.
    """

    def __init__(
        self,
        machine: Machine,
        profile: Profile,
        *,
        observer: Observer | None = None,
        allocate: Callable[[str], None] | None = None,
        lock_watcher: LockWatcher | None = None,
        selects_kvm_vfio: bool = True,
        open_storage: Callable[[str], Storage] | None = None,
        now: Callable[[], int] | None = None,
        real_time: Callable[[], int] | None = None,
        caches: Caches | None = None,
        online_cpus: int = 1,
    ) -> None:
        self.machine = machine
        self.profile = profile
        self.observer = observer or Observer()
        self.allocate: Callable[[str], None] = allocate or (lambda _structure: None)
        self.lock_watcher = lock_watcher
        self.selects_kvm_vfio = selects_kvm_vfio
        self.now: Callable[[], int] = now or (lambda: 0)
        self.online_cpus = online_cpus
        self.real_time: Callable[[], int] = real_time or (lambda: 0)
        self.open_storage = open_storage or _no_storage
        self.caches = caches

        self.vms: dict[int, Vm] = {}
        self.locked_vm: dict[Mm, int] = {}  # bytes that DMA mappings pin, by whose memory it is
        self.vms_created = 0
        self.kvm_vfio_created = 0
        self.containers_created = 0
        self.domains_created = 0
        self.vfio_loaded = True
        self.vfio_files = 0  # open VFIO files: each pins the module
        users = ContainerUsers if profile.member_is_group else OpenFiles
        self.external: External = users(self)
        self._every_unit_snoops = all(iommu.enforces_coherency for iommu in machine.iommus)
        self.bar_addresses = assign(machine)
        self.iommu_groups = {
            group.number: IommuGroup(self, iommu, group) for iommu, group in machine.groups()
        }
        self.vfio_groups: dict[int, VfioGroup] = {}
        for iommu_group in self.iommu_groups.values():
            for function in iommu_group.functions:
                function.probe(function.static.driver)

    def lock(self, name: str) -> Lock:
        """A new lock of this kernel."""
        return Lock(name, self.lock_watcher)

    def task(self, files: Files, mm: Mm, *, lock_limit: int | None = None) -> Task:
        """A new caller."""
        return Task(self, files, mm, lock_limit=lock_limit)

    def open(self, task: Task, path: str) -> File:
        """open(2) of a device node. ENOENT; then what the device's own open says."""
        if path == "/dev/kvm":
            return KvmSystemFile(self)
        directory, _, name = path.rpartition("/")
        if directory == "/dev/vfio" and self.vfio_loaded:
            if name == "vfio":
                return ContainerFile(self, Container(self))
            if name.isdecimal() and int(name) in self.vfio_groups and str(int(name)) == name:
                return self.vfio_groups[int(name)].open()
        raise KernelError(ENOENT, f"{path} is no device node here")

    def unload_vfio(self) -> None:
        """Take the vfio module out. EWOULDBLOCK while one of its files is open.

        A KVM-VFIO device that holds a group by VFIO's external-user interface pins no module: the
        reference can outlive the code that would drop it.
        """
        if self.vfio_files:
            raise KernelError(EWOULDBLOCK, f"{self.vfio_files} VFIO files are open")
        self.vfio_loaded = False
        self.external.epoch += 1

    def every_unit_snoops(self) -> bool:
        """Whether no IOMMU of this machine is without snoop control (IOMMU_CAP_CACHE_COHERENCY)."""
        return self._every_unit_snoops

    def function(self, address: str) -> PciFunction:
        """The PCI function at `address` ("0000:00:10.0"). KeyError."""
        for group in self.iommu_groups.values():
            for function in group.functions:
                if function.static.address == address:
                    return function
        raise KeyError(address)

    def snapshot(self) -> Picture:
        """All that is held now, as a value: equal pictures mean equal states."""
        return Picture(
            vms=tuple(
                VmPicture(
                    number=vm.number,
                    references=vm.references,
                    noncoherent_dma=vm.noncoherent_dma_count,
                    assigned_devices=len(vm.assigned),
                    devices=tuple(d.picture() for d in vm.devices if isinstance(d, KvmVfio)),
                )
                for vm in self.vms.values()
            ),
            vfio_groups=tuple(group.picture() for group in self.vfio_groups.values()),
        )


def _no_storage(path: str) -> Storage:
    raise NotModelled(f"{path}: this kernel has no files to keep a device's data in")


def open_vfio_group(file: File) -> VfioGroup | None:
    """The vfio_group behind a group's file; None for another file."""
    return file.vfio_group if isinstance(file, GroupFile) else None
