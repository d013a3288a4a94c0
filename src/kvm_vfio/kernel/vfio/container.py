# SPDX-License-Identifier: GPL-2.0-only
"""VFIO containers (drivers/vfio/container.c): /dev/vfio/vfio, groups that share one IOMMU context.

Rule of this file: a container without groups has no IOMMU. The first SET_IOMMU gives it one, for
the groups it has; later groups are attached as they come; the last to leave takes it away.
"""

from __future__ import annotations

from errno import EINVAL, ENODEV, ENOTTY, EPERM
from typing import TYPE_CHECKING, ClassVar

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File, Mapping
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row
from kvm_vfio.kernel.vfio.type1 import TYPE1_IOCTLS, Type1, type1_extension
from kvm_vfio.kernel.vfs import DEV
from kvm_vfio.uapi.vfio import (
    VFIO_API_VERSION,
    VFIO_CHECK_EXTENSION,
    VFIO_GET_API_VERSION,
    VFIO_SET_IOMMU,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.kernel.vfio.group import VfioGroup


class Container:
    """struct vfio_container: its groups in the order they came, and its IOMMU driver's state."""

    __slots__ = ("iommu", "kernel", "lock", "number", "vfio_groups")

    def __init__(self, kernel: Kernel) -> None:
        kernel.containers_created += 1
        self.kernel = kernel
        self.number = kernel.containers_created
        self.lock = kernel.lock("container->group_lock")
        self.vfio_groups: list[VfioGroup] = []
        self.iommu: Type1 | None = None

    def extension(self, extension: int) -> int:
        """VFIO_CHECK_EXTENSION: of the IOMMU set, or of every IOMMU driver there is."""
        return type1_extension(self.kernel.profile, self.iommu, extension)

    def attach_group(self, vfio_group: VfioGroup) -> None:
        """vfio_container_attach_group. EPERM: the group is not viable; what the IOMMU says."""
        iommu_group = vfio_group.iommu_group
        with self.lock:
            if self.kernel.profile.group_claims_dma and not iommu_group.viable():
                raise KernelError(
                    EPERM, f"{vfio_group.name} is not viable: {iommu_group.intruders()} is in it"
                )
            if self.iommu is not None:
                self.iommu.attach_group(iommu_group)
            self.kernel.external.epoch += 1
            iommu_group.owner = vfio_group
            self.vfio_groups.append(vfio_group)
            self.kernel.observer.group_attached(vfio_group, self)

    def detach_group(self, vfio_group: VfioGroup) -> None:
        """vfio_group_detach_container: the last group takes the IOMMU and every mapping along."""
        with self.lock:
            self.kernel.external.epoch += 1
            if self.iommu is not None:
                self.iommu.detach_group(vfio_group.iommu_group)
            vfio_group.iommu_group.owner = None
            self.vfio_groups.remove(vfio_group)
            if self.iommu is not None and not self.vfio_groups:
                self.iommu.release()
                self.iommu = None
            self.kernel.observer.group_detached(vfio_group, self)

    def set_iommu(self, kind: int) -> None:
        """vfio_ioctl_set_iommu. EINVAL: no group, or set already; ENODEV; what attaching says."""
        with self.lock:
            if not self.vfio_groups:
                raise KernelError(EINVAL, "the container has no group")
            if self.iommu is not None:
                raise KernelError(EINVAL, "the container has an IOMMU already")
            if type1_extension(self.kernel.profile, None, kind) <= 0:
                raise KernelError(ENODEV, f"no IOMMU driver offers type {kind}")
            iommu = Type1(self.kernel, kind)
            for vfio_group in self.vfio_groups:
                iommu.attach_group(vfio_group.iommu_group)
            self.kernel.external.epoch += 1
            self.iommu = iommu
            self.kernel.observer.iommu_set(self)


class ContainerFile(File):
    """An open /dev/vfio/vfio. Groups hold the container too, so it can outlive this file."""

    __slots__ = ("container",)
    kind = "a VFIO container"
    link = "/dev/vfio/vfio"
    mount = DEV
    ioctl_errnos = (EINVAL, ENOTTY)
    positional = True

    def __init__(self, kernel: Kernel, container: Container) -> None:
        super().__init__()
        self.container = container
        kernel.vfio_files += 1

    def release(self) -> None:
        """vfio_fops_release: the groups in it stay in it."""
        self.container.kernel.vfio_files -= 1

    @classmethod
    def tables(cls) -> tuple[IoctlTable, ...]:
        """The container's own requests, then its IOMMU's."""
        return *super().tables(), cls.iommu_ioctls

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """The container's own requests; all others are its IOMMU's. EINVAL while it has none."""
        handler = self.ioctls.handlers.get(request)
        if handler is not None:
            return handler(self, task, arg)
        if self.container.iommu is None:
            raise KernelError(EINVAL, "the container has no IOMMU to answer")
        return self.container.iommu.ioctl(task, request, arg)

    def mmap(
        self, task: Task, size: int, offset: int, *, writable: bool, executable: bool = False
    ) -> Mapping:
        """mmap(2): ENODEV; EINVAL where it is left to the IOMMU, which maps nothing."""
        raise KernelError(
            self.container.kernel.profile.container_mmap_errno, "a container cannot be mapped"
        )

    def get_api_version(self, task: Task, arg: int) -> int:
        """VFIO_GET_API_VERSION."""
        return VFIO_API_VERSION

    def check_extension(self, task: Task, arg: int) -> int:
        """VFIO_CHECK_EXTENSION: 0 for an unknown one."""
        return self.container.extension(arg)

    def set_iommu(self, task: Task, arg: int) -> int:
        """VFIO_SET_IOMMU. EINVAL, ENODEV, EPERM: see `Container.set_iommu`, `Type1`."""
        self.container.set_iommu(arg)
        return 0

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(VFIO_GET_API_VERSION, get_api_version, Argument.VALUE),
        Row(VFIO_CHECK_EXTENSION, check_extension, Argument.VALUE),
        Row(VFIO_SET_IOMMU, set_iommu, Argument.VALUE, errnos=(EINVAL, ENODEV, EPERM)),
    )
    iommu_ioctls: ClassVar[IoctlTable] = TYPE1_IOCTLS
