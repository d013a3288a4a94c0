# SPDX-License-Identifier: GPL-2.0-only
"""The buses of a VM: which of its devices hears a guest's write (virt/kvm/kvm_main.c, kvm_io_bus).

Rule of this file: it knows ranges and how many there may be, and no device in particular.
"""

from __future__ import annotations

from enum import Enum
from errno import ENOSPC
from typing import Protocol

from kvm_vfio.kernel.error import KernelError

_MOST_DEVICES = 1000  # NR_IOBUS_DEVS


class Bus(Enum):
    """enum kvm_bus, but for the one that only makes KVM_MMIO_BUS faster."""

    MMIO = "memory"
    PIO = "ports"
    VIRTIO_CCW_NOTIFY = "virtio-ccw notifications"


class IoDevice(Protocol):
    """struct kvm_io_device."""

    def write(self, address: int, data: bytes) -> bool:
        """A guest writes: whether that was for this device."""


class IoBuses:
    """Every bus, with its devices in the order of their coming.

    Linux sorts them by address; the order decides only between devices that overlap. The registers
    of interrupt controllers and of the PIT are not modelled: they only take their places.
    """

    __slots__ = ("_devices", "_places")

    def __init__(self) -> None:
        self._devices: dict[Bus, dict[IoDevice, None]] = {bus: {} for bus in Bus}
        self._places = dict.fromkeys(Bus, 0)  # taken, of those there are

    def take(self, bus: Bus, count: int = 1) -> None:
        """Take places. ENOSPC."""
        if self._places[bus] + count > _MOST_DEVICES:
            raise KernelError(ENOSPC, f"there are {_MOST_DEVICES} devices on the VM's {bus.value}")
        self._places[bus] += count

    def give_back(self, bus: Bus, count: int = 1) -> None:
        """Give places back."""
        self._places[bus] -= count

    def register(self, bus: Bus, device: IoDevice) -> None:
        """kvm_io_bus_register_dev. ENOSPC."""
        self.take(bus)
        self._devices[bus][device] = None

    def register_ioeventfd(self, bus: Bus, device: IoDevice) -> None:
        """The same for an ioeventfd, which needs a free place and takes none. ENOSPC."""
        self.register(bus, device)
        self._places[bus] -= 1

    def unregister(self, bus: Bus, device: IoDevice) -> None:
        """kvm_io_bus_unregister_dev."""
        del self._devices[bus][device]
        self._places[bus] -= 1

    def unregister_ioeventfd(self, bus: Bus, device: IoDevice) -> None:
        """The same for an ioeventfd."""
        del self._devices[bus][device]

    def write(self, bus: Bus, address: int, data: bytes) -> bool:
        """kvm_io_bus_write: a guest writes; whether a device of KVM's own took it."""
        return any(device.write(address, data) for device in self._devices[bus])
