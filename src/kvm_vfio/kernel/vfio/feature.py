# SPDX-License-Identifier: GPL-2.0-only
"""The features of a VFIO device (VFIO_DEVICE_FEATURE), low power among them.

Rule of this file: one table says which feature can be got or set, with how large a structure; what
getting or setting does stands below it. Which kernel has which is in its profile.

A function that a program has sent to low power sleeps until the program touches the device. With a
wake-up eventfd that touch ends it, and is told; without, the function only wakes for the call.
"""

from __future__ import annotations

from errno import EINVAL, ENOTTY
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_FEATURE_DMA_BUF,
    VFIO_DEVICE_FEATURE_GET,
    VFIO_DEVICE_FEATURE_LAYOUT,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_MASK,
    VFIO_DEVICE_FEATURE_PROBE,
    VFIO_DEVICE_FEATURE_SET,
    VFIO_DEVICE_LOW_POWER_ENTRY_WITH_WAKEUP,
    VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.profiles.profile import Profile

_HEAD = VFIO_DEVICE_FEATURE_LAYOUT.size
_GET_OR_SET = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET
_KNOWN = VFIO_DEVICE_FEATURE_MASK | _GET_OR_SET | VFIO_DEVICE_FEATURE_PROBE


class _Feature(NamedTuple):
    """What can be done with it, and the size of the structure behind the head."""

    supported: int
    size: int = 0


_FEATURES = MappingProxyType(
    {
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY: _Feature(VFIO_DEVICE_FEATURE_SET),
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP: _Feature(
            VFIO_DEVICE_FEATURE_SET, VFIO_DEVICE_LOW_POWER_ENTRY_WITH_WAKEUP.size
        ),
        VFIO_DEVICE_FEATURE_LOW_POWER_EXIT: _Feature(VFIO_DEVICE_FEATURE_SET),
        VFIO_DEVICE_FEATURE_DMA_BUF: _Feature(VFIO_DEVICE_FEATURE_GET, 32),
    }
)


class Features:
    """What an open device has of them."""

    __slots__ = ("_has", "_sleeps", "_wakeup")

    def __init__(self, profile: Profile) -> None:
        self._has = profile.device_features
        self._sleeps = False
        self._wakeup: EventFile | None = None

    def ioctl(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_FEATURE.

        EFAULT; EINVAL for argsz, unknown flags, GET with SET; ENOTTY: a feature it has not; EINVAL:
        it cannot be got, or set, or neither is asked for, or too small an argsz; then its own.
        """
        wanted = VFIO_DEVICE_FEATURE_LAYOUT.unpack(task.copy_from_user(arg, _HEAD))
        number, asked = wanted.flags & VFIO_DEVICE_FEATURE_MASK, wanted.flags & _GET_OR_SET
        probe = wanted.flags & VFIO_DEVICE_FEATURE_PROBE
        both = asked == _GET_OR_SET and not probe
        if wanted.argsz < _HEAD or wanted.flags & ~_KNOWN or both:
            raise KernelError(EINVAL, f"argsz {wanted.argsz} or flags {wanted.flags:#x}")
        if number not in self._has:
            raise KernelError(ENOTTY, f"feature {number} is not there")
        if number == VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2:
            raise KernelError(EINVAL, "the device cannot be migrated")
        feature = _FEATURES[number]
        if asked & ~feature.supported:
            raise KernelError(EINVAL, f"feature {number} has no such operation")
        if probe:
            return 0
        if not asked or wanted.argsz < _HEAD + feature.size:
            raise KernelError(EINVAL, "neither GET nor SET, or too little room")
        self._do(task, number, arg + _HEAD)
        return 0

    def _do(self, task: Task, number: int, at: int) -> None:
        if number == VFIO_DEVICE_FEATURE_DMA_BUF:
            raise NotModelled("a dma-buf of a BAR (VFIO_DEVICE_FEATURE_DMA_BUF)")
        if number == VFIO_DEVICE_FEATURE_LOW_POWER_EXIT:
            self.leave()
        elif number == VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY:
            self._enter(None)
        else:
            self._enter(self._wakeup_eventfd(task, at))

    def _wakeup_eventfd(self, task: Task, at: int) -> EventFile:
        layout = VFIO_DEVICE_LOW_POWER_ENTRY_WITH_WAKEUP
        fd = layout.unpack(task.copy_from_user(at, layout.size)).wakeup_eventfd
        if fd < 0:
            raise KernelError(EINVAL, f"fd {fd} is negative")
        file = task.fget(fd)
        if not isinstance(file, EventFile):
            raise KernelError(EINVAL, f"{file.name} is no eventfd")
        return file

    def _enter(self, wakeup: EventFile | None) -> None:
        """vfio_pci_runtime_pm_entry. EINVAL: it is in low power already."""
        if self._sleeps:
            raise KernelError(EINVAL, "the device is in low power already")
        if wakeup is not None:
            wakeup.hold()
        self._sleeps, self._wakeup = True, wakeup

    def leave(self) -> None:
        """vfio_pci_runtime_pm_exit."""
        self._sleeps = False
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            wakeup.let_go()

    def touched(self) -> None:
        """vfio_pci_core_runtime_resume: the program does something with the device."""
        if self._wakeup is not None:
            self._wakeup.signal()
            self.leave()
