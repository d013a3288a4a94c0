# SPDX-License-Identifier: GPL-2.0-only
"""VFIO groups (drivers/vfio/group.c): /dev/vfio/N, one opener, at most one container.

Rule of this file: `container_users` says who needs the container: 1 for being set, one more for
each that uses it. Who counts differs: until 5.18 every open device file and every external user
(a KVM-VFIO device) does, since 5.19 every open device does, and a device holds the group's file
open instead of outliving it.
"""

from __future__ import annotations

from dataclasses import dataclass
from errno import EBADF, EBADFD, EBUSY, EFAULT, EINVAL, EMFILE, ENODEV, EPERM
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row
from kvm_vfio.kernel.vfio.container import Container, ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDevice, VfioDeviceFile
from kvm_vfio.kernel.vfs import DEV
from kvm_vfio.uapi.layout import INT32
from kvm_vfio.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_GROUP_STATUS,
    VFIO_GROUP_UNSET_CONTAINER,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import IommuGroup, PciFunction
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Task

_NAME_LIMIT = 4096  # a device name is at most a page with its NUL


@dataclass(frozen=True, slots=True)
class VfioGroupPicture:
    """One vfio_group: is it open, has it a container, who uses that, which devices are open."""

    number: int
    is_open: bool
    container_users: int
    dma_mappings: int
    open_devices: tuple[str, ...]


class VfioGroup:
    """struct vfio_group: exists while a device of the IOMMU group is bound to VFIO."""

    __slots__ = (
        "container",
        "container_users",
        "devices",
        "iommu_group",
        "kernel",
        "lock",
        "opened_file",
        "vm",
    )

    def __init__(self, iommu_group: IommuGroup) -> None:
        self.kernel: Kernel = iommu_group.kernel
        self.iommu_group = iommu_group
        self.lock = self.kernel.lock("group_lock")
        self.devices: dict[str, VfioDevice] = {}
        self.opened_file: GroupFile | None = None
        self.container: Container | None = None
        self.container_users = 0
        self.vm: Vm | None = None

    @property
    def number(self) -> int:
        """The IOMMU group's number, which is the name under /dev/vfio."""
        return self.iommu_group.number

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return f"VFIO group {self.number}"

    def open(self) -> GroupFile:
        """open(2) of /dev/vfio/N. EBUSY: it is open, or what an earlier open left is in use."""
        with self.lock:
            if self.opened_file is not None:
                raise KernelError(EBUSY, f"{self.name} is open already, and has one opener")
            if self.container is not None:
                raise KernelError(EBUSY, f"{self.name} is still in its container, which is in use")
            self.opened_file = GroupFile(self)
            return self.opened_file

    def add_device(self, function: PciFunction) -> None:
        """vfio_register_group_dev."""
        function.vfio_device = VfioDevice(self, function)
        self.devices[function.static.address] = function.vfio_device
        self.kernel.external.epoch += 1

    def remove_device(self, device: VfioDevice) -> None:
        """vfio_unregister_group_dev; the last device takes the node and the container along.

        NotModelled where Linux waits for user space to let go, which it has asked to do so.
        """
        if device.open_count:
            device.request()
            raise NotModelled(f"unbinding {device.name} waits until its fds are closed")
        if len(self.devices) == 1 and self.container is not None:
            if self.kernel.profile.member_is_group:
                raise NotModelled(f"unbinding {device.name} waits until {self.name} is given up")
            with self.lock:
                self.detach_container()
        self.kernel.external.epoch += 1
        del self.devices[device.function.static.address]
        device.function.vfio_device = None
        self.forget_if_unused()

    def forget_if_unused(self) -> None:
        """Without devices there is no group; until 5.18 an open file still keeps it."""
        if self.devices or (self.kernel.profile.member_is_group and self.opened_file is not None):
            return
        if self.kernel.vfio_groups.get(self.number) is self:
            del self.kernel.vfio_groups[self.number]

    def viable(self) -> bool:
        """Whether user space may own the group: the status flag of that name."""
        if not self.kernel.profile.group_claims_dma:
            return self.iommu_group.viable()
        return self.container is not None or self.iommu_group.viable()

    # -- the container -----------------------------------------------------------------------------

    def set_container(self, container: Container) -> None:
        """Put the group into `container`. What `attach_group` says: EPERM, and more."""
        container.attach_group(self)
        self.container = container
        self.container_users = 1

    def add_container_user(self) -> None:
        """vfio_group_add_container_user. EINVAL: no container, no IOMMU set there, not viable."""
        if self.container is None:
            raise KernelError(EINVAL, f"{self.name} has no container")
        if self.container.iommu is None:
            raise KernelError(EINVAL, f"the container of {self.name} has no IOMMU set")
        if not self.viable():
            raise KernelError(
                EINVAL, f"{self.name} is not viable: {self.iommu_group.intruders()} is in it"
            )
        self.container_users += 1

    def try_dissolve_container(self) -> None:
        """One user less; the last one takes the group out of its container."""
        if self.container_users:
            self.container_users -= 1
            if not self.container_users:
                self.detach_container()

    def detach_container(self) -> None:
        """Take the group out of its container, whoever used it."""
        container, self.container, self.container_users = self.container, None, 0
        if container is not None:
            container.detach_group(self)

    def picture(self) -> VfioGroupPicture:
        """What is held of this group now."""
        iommu = self.container.iommu if self.container else None
        return VfioGroupPicture(
            number=self.number,
            is_open=self.opened_file is not None,
            container_users=self.container_users,
            dma_mappings=len(iommu.mappings) if iommu else 0,
            open_devices=tuple(
                address for address, device in self.devices.items() if device.open_count
            ),
        )


class GroupFile(File):
    """The one open file of a group."""

    __slots__ = ("vfio_group",)
    kind = "a VFIO group"
    mount = DEV
    positional = True

    def __init__(self, vfio_group: VfioGroup) -> None:
        super().__init__()
        self.vfio_group = vfio_group
        vfio_group.kernel.vfio_files += 1

    @property
    def name(self) -> str:
        """Which group."""
        return self.vfio_group.name

    def release(self) -> None:
        """vfio_group_fops_release: the opener's share in the container ends."""
        vfio_group = self.vfio_group
        with vfio_group.lock:
            vfio_group.try_dissolve_container()
            vfio_group.opened_file = None
            vfio_group.forget_if_unused()
        vfio_group.kernel.vfio_files -= 1

    def get_status(self, task: Task, arg: int) -> int:
        """VFIO_GROUP_GET_STATUS. EFAULT, EINVAL for argsz; since 5.19 ENODEV without any device."""
        status = VFIO_GROUP_STATUS.unpack(task.copy_from_user(arg, VFIO_GROUP_STATUS.size))
        if status.argsz < VFIO_GROUP_STATUS.size:
            raise KernelError(EINVAL, f"argsz {status.argsz} is less than {VFIO_GROUP_STATUS.size}")
        vfio_group = self.vfio_group
        errno = vfio_group.kernel.profile.status_without_devices_errno
        if errno and not vfio_group.devices:
            raise KernelError(errno, f"the last device of {vfio_group.name} has left")
        flags = VFIO_GROUP_FLAGS_VIABLE if vfio_group.viable() else 0
        if vfio_group.container is not None:
            flags |= VFIO_GROUP_FLAGS_CONTAINER_SET
        task.copy_to_user(arg, VFIO_GROUP_STATUS.pack(status._replace(flags=flags)))
        return 0

    def set_container(self, task: Task, arg: int) -> int:
        """VFIO_GROUP_SET_CONTAINER: `arg` is the address of an int32 with the container's fd.

        EFAULT. Then until 5.18: EINVAL for a negative fd or a group that has a container, EBADF;
        since: EBADF, EINVAL for a group that has one, ENODEV without any device. Then EINVAL (from
        6.2 on EBADFD) for a file that is no container; then what the container says.
        """
        (fd,) = INT32.unpack_fields(task.copy_from_user(arg, INT32.size))
        vfio_group = self.vfio_group
        profile = vfio_group.kernel.profile
        if not profile.set_container_fget_first and (fd < 0 or vfio_group.container_users):
            raise KernelError(EINVAL, f"fd {fd} is negative, or {vfio_group.name} has a container")
        file = task.fget(fd)
        with vfio_group.lock:
            if vfio_group.container is not None:
                raise KernelError(EINVAL, f"{vfio_group.name} has a container already")
            if profile.status_without_devices_errno and not vfio_group.devices:
                raise KernelError(ENODEV, f"the last device of {vfio_group.name} has left")
            if not isinstance(file, ContainerFile):
                raise KernelError(profile.wrong_container_errno, f"{file.name} is no container")
            vfio_group.set_container(file.container)
        return 0

    def unset_container(self, task: Task, arg: int) -> int:
        """VFIO_GROUP_UNSET_CONTAINER. EINVAL: none is set; EBUSY: somebody uses it."""
        vfio_group = self.vfio_group
        with vfio_group.lock:
            if vfio_group.container is None:
                raise KernelError(EINVAL, f"{vfio_group.name} has no container")
            if vfio_group.container_users != 1:
                raise KernelError(EBUSY, f"the container of {vfio_group.name} is in use")
            vfio_group.detach_container()
        return 0

    def get_device_fd(self, task: Task, arg: int) -> int:
        """VFIO_GROUP_GET_DEVICE_FD: `arg` is the address of the device's name. Returns the fd.

        Blanks may follow the name, and a vf_token.

        EFAULT, EINVAL for the string; then EINVAL for a group without a container with an IOMMU
        (until 5.18 also for one not viable) and ENODEV for a name that is no device of the group,
        in that order until 5.18, in the other since.
        """
        name = task.copy_from_user_string(arg, _NAME_LIMIT)
        if len(name) == _NAME_LIMIT:
            raise KernelError(EINVAL, f"a device name has fewer than {_NAME_LIMIT} bytes")
        vfio_group = self.vfio_group
        if vfio_group.kernel.profile.device_lookup_first:
            device = self._device(name)
            self._require_iommu()
        else:
            self._require_iommu()
            if not vfio_group.viable():
                raise KernelError(
                    EINVAL, f"not viable: {vfio_group.iommu_group.intruders()} is in the group"
                )
            device = self._device(name)
        return task.files.install(VfioDeviceFile(device))

    def _device(self, name: bytes) -> VfioDevice:
        """vfio_pci_core_match. ENODEV: no device; EINVAL: an option that no device here has."""
        address, blank, options = name.decode("latin-1").partition(" ")
        options_known = self.vfio_group.kernel.profile.device_name_has_options
        device = self.vfio_group.devices.get(address)
        if device is not None and device.leaving:
            device = None if self.vfio_group.kernel.profile.leaving_device_is_gone else device
        if device is None or (blank and not options_known):
            raise KernelError(ENODEV, f"{name!r} is no device of {self.vfio_group.name}")
        if options.strip(" "):
            raise KernelError(EINVAL, f"{options!r}: only functions with SR-IOV have a vf_token")
        return device

    def _require_iommu(self) -> None:
        container = self.vfio_group.container
        if container is None or container.iommu is None:
            raise KernelError(EINVAL, f"{self.vfio_group.name} is in no container with an IOMMU")

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(VFIO_GROUP_GET_STATUS, get_status, Argument.ARGSZ, errnos=(EFAULT, EINVAL, ENODEV)),
        Row(
            VFIO_GROUP_SET_CONTAINER,
            set_container,
            Argument.FIXED,
            errnos=(EFAULT, EINVAL, EBADF, ENODEV, EBADFD, EPERM),
        ),
        Row(VFIO_GROUP_UNSET_CONTAINER, unset_container, Argument.VALUE, errnos=(EINVAL, EBUSY)),
        Row(
            VFIO_GROUP_GET_DEVICE_FD,
            get_device_fd,
            Argument.STRING,
            errnos=(EFAULT, EINVAL, ENODEV, EMFILE),
        ),
    )
