# SPDX-License-Identifier: GPL-2.0-only
"""A VFIO group as an object: the devices that are assigned together or not at all.

Rule of this file: one method per ioctl. Its docstring says what must be so, and the errors in the
order Linux checks them; every one of them is an `OSError` with that errno.
"""

from __future__ import annotations

from typing import NamedTuple

from kvm_vfio.client.device import Device
from kvm_vfio.client.handle import Fd, Handle, fd_of
from kvm_vfio.syscalls import Syscalls
from kvm_vfio.uapi.fcntl import O_CLOEXEC, O_RDWR
from kvm_vfio.uapi.layout import INT32
from kvm_vfio.uapi.vfio import (
    VFIO_GROUP_FLAGS_CONTAINER_SET,
    VFIO_GROUP_FLAGS_VIABLE,
    VFIO_GROUP_GET_DEVICE_FD,
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_GROUP_STATUS,
    VFIO_GROUP_UNSET_CONTAINER,
    vfio_group_status,
)


class GroupStatus(NamedTuple):
    """`viable`: no driver in the group does DMA of its own. `container_set`: it is in one."""

    viable: bool
    container_set: bool


class Group(Handle):
    """/dev/vfio/NUMBER, the node of an IOMMU group. `fd` is one that is open already."""

    def __init__(self, syscalls: Syscalls, number: int, *, fd: int | None = None) -> None:
        """ENOENT: no device of the group is bound to VFIO; EBUSY: it is open already."""
        if fd is None:
            fd = syscalls.open(f"/dev/vfio/{number}", O_RDWR | O_CLOEXEC)
        super().__init__(syscalls, fd)
        self.number = number

    def status(self) -> GroupStatus:
        """VFIO_GROUP_GET_STATUS. ENODEV, from Linux 5.19 on: the last device has left."""
        status = vfio_group_status(VFIO_GROUP_STATUS.size, 0)
        flags = self._exchange(VFIO_GROUP_GET_STATUS, VFIO_GROUP_STATUS, status).flags
        return GroupStatus(
            bool(flags & VFIO_GROUP_FLAGS_VIABLE), bool(flags & VFIO_GROUP_FLAGS_CONTAINER_SET)
        )

    def set_container(self, container: Fd) -> None:
        """VFIO_GROUP_SET_CONTAINER.

        EBADF; EINVAL: the group has one; EBADFD (EINVAL before Linux 6.2): no container; EPERM: the
        group is not viable; then as `Container.set_iommu` where the container has an IOMMU.
        """
        self._pass(VFIO_GROUP_SET_CONTAINER, INT32.pack_fields(fd_of(container)))

    def unset_container(self) -> None:
        """VFIO_GROUP_UNSET_CONTAINER. EINVAL: none is set; EBUSY: a device of the group is open."""
        self._ioctl(VFIO_GROUP_UNSET_CONTAINER)

    def device(self, address: str) -> Device:
        """VFIO_GROUP_GET_DEVICE_FD of the device at "0000:00:10.0".

        ENODEV: no device of this group (before Linux 5.19 after EINVAL); EINVAL: no container with
        an IOMMU.
        """
        name = address.encode() + b"\0"
        memory = self.syscalls.buffer(len(name))
        memory.write(name)
        return Device(self.syscalls, self._ioctl(VFIO_GROUP_GET_DEVICE_FD, memory))
