# SPDX-License-Identifier: GPL-2.0-only
"""A VFIO device as an object: its regions, its interrupts, its resets.

Rule of this file: one method per ioctl, and beside it what every user of that ioctl would write
again: a region at an offset, configuration space, a mapped BAR. The docstrings say the errors in
the order Linux checks them; every one of them is an `OSError` with that errno.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from errno import ENOSPC
from typing import NamedTuple

from kvm_vfio.client.capabilities import ask_whole, capabilities
from kvm_vfio.client.handle import Fd, Handle, fd_of
from kvm_vfio.syscalls import Buffer, Syscalls
from kvm_vfio.uapi.layout import INT32
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_RESET,
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_INFO,
    VFIO_DEVICE_PCI_HOT_RESET,
    VFIO_DEVICE_RESET,
    VFIO_DEVICE_SET_IRQS,
    VFIO_IRQ_INFO,
    VFIO_IRQ_SET,
    VFIO_IRQ_SET_ACTION_TRIGGER,
    VFIO_IRQ_SET_DATA_EVENTFD,
    VFIO_IRQ_SET_DATA_NONE,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_DEPENDENT_DEVICE,
    VFIO_PCI_HOT_RESET,
    VFIO_PCI_HOT_RESET_INFO,
    VFIO_REGION_INFO,
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT,
    VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
    VFIO_REGION_SPARSE_MMAP_AREA,
    vfio_device_info,
    vfio_irq_info,
    vfio_irq_set,
    vfio_pci_dependent_device,
    vfio_pci_hot_reset,
    vfio_pci_hot_reset_info,
    vfio_region_info,
    vfio_region_sparse_mmap_area,
)


class DeviceInfo(NamedTuple):
    """What kind of device it is, and how many region and IRQ indices it has."""

    flags: int
    regions: int
    irqs: int

    @property
    def pci(self) -> bool:
        """It is a PCI function."""
        return bool(self.flags & VFIO_DEVICE_FLAGS_PCI)

    @property
    def can_reset(self) -> bool:
        """VFIO_DEVICE_RESET works."""
        return bool(self.flags & VFIO_DEVICE_FLAGS_RESET)


class RegionInfo(NamedTuple):
    """A region: `size` bytes at `offset` of the device's file.

    `mappable_areas` are the only parts that can be mapped, where the kernel names parts;
    `msix_mappable` says that a mapping may go over the MSI-X table.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index; VFIO calls it that
    flags: int
    size: int
    offset: int
    mappable_areas: tuple[vfio_region_sparse_mmap_area, ...] = ()
    msix_mappable: bool = False

    @property
    def readable(self) -> bool:
        """It can be read."""
        return bool(self.flags & VFIO_REGION_INFO_FLAG_READ)

    @property
    def writable(self) -> bool:
        """It can be written."""
        return bool(self.flags & VFIO_REGION_INFO_FLAG_WRITE)

    @property
    def mappable(self) -> bool:
        """It can be mapped."""
        return bool(self.flags & VFIO_REGION_INFO_FLAG_MMAP)


class Device(Handle):
    """A VFIO device, by its fd. Registers are little-endian; offsets and sizes are in bytes."""

    def __init__(self, syscalls: Syscalls, fd: int) -> None:
        super().__init__(syscalls, fd)
        self._offsets: dict[int, int] = {}

    def info(self) -> DeviceInfo:
        """VFIO_DEVICE_GET_INFO."""
        blank = vfio_device_info(VFIO_DEVICE_INFO.size, 0, 0, 0, 0, 0)
        info = self._exchange(VFIO_DEVICE_GET_INFO, VFIO_DEVICE_INFO, blank)
        return DeviceInfo(info.flags, info.num_regions, info.num_irqs)

    # -- regions -----------------------------------------------------------------------------------

    def region_info(self, index: int) -> RegionInfo:
        """VFIO_DEVICE_GET_REGION_INFO, capabilities included. EINVAL: no such region."""

        def ask(argsz: int) -> bytes:
            data = layout.pack(vfio_region_info(argsz, 0, index, 0, 0, 0)).ljust(argsz, b"\0")
            return self._pass(VFIO_DEVICE_GET_REGION_INFO, data)

        layout = VFIO_REGION_INFO
        answer = ask_whole(ask, layout.size)
        head = layout.unpack(answer[: layout.size])
        found = dict(capabilities(answer, head.cap_offset))
        return RegionInfo(
            head.index,
            head.flags,
            head.size,
            head.offset,
            _areas(found.get(VFIO_REGION_INFO_CAP_SPARSE_MMAP)),
            VFIO_REGION_INFO_CAP_MSIX_MAPPABLE in found,
        )

    def read_region(self, index: int, offset: int, size: int) -> bytes:
        """pread(2) in a region. EINVAL: no such region or past its end; EIO: memory is disabled."""
        return self.syscalls.pread(self._fd, size, self._offset(index) + offset)

    def write_region(self, index: int, offset: int, data: bytes) -> int:
        """pwrite(2) in a region: how many bytes were written. Errors as `read_region`."""
        return self.syscalls.pwrite(self._fd, data, self._offset(index) + offset)

    def _offset(self, index: int) -> int:
        if index not in self._offsets:
            self._offsets[index] = self.region_info(index).offset
        return self._offsets[index]

    def read_config(self, offset: int, size: int) -> int:
        """A register of configuration space, such as (PCI_VENDOR_ID, 2)."""
        data = self.read_region(VFIO_PCI_CONFIG_REGION_INDEX, offset, size)
        return int.from_bytes(data, "little")

    def write_config(self, offset: int, size: int, value: int) -> None:
        """Write a register of configuration space; what cannot be written keeps its value."""
        self.write_region(VFIO_PCI_CONFIG_REGION_INDEX, offset, value.to_bytes(size, "little"))

    def map_bar(self, index: int, *, writable: bool = True) -> Buffer:
        """mmap(2) of a whole BAR. EINVAL: it cannot be mapped, or is not there.

        The mapping keeps the device open until `unmap`.
        """
        region = self.region_info(index)
        return self.syscalls.mmap(self._fd, region.size, region.offset, writable=writable)

    def unmap(self, bar: Buffer) -> None:
        """munmap(2) of what `map_bar` returned."""
        self.syscalls.munmap(bar)

    # -- interrupts --------------------------------------------------------------------------------

    def irq_info(self, index: int) -> vfio_irq_info:
        """VFIO_DEVICE_GET_IRQ_INFO: `flags`, and `count` of vectors. EINVAL: no such index."""
        blank = vfio_irq_info(VFIO_IRQ_INFO.size, 0, index, 0)
        return self._exchange(VFIO_DEVICE_GET_IRQ_INFO, VFIO_IRQ_INFO, blank)

    def set_irqs(
        self, index: int, flags: int, start: int = 0, count: int = 0, data: bytes = b""
    ) -> None:
        """VFIO_DEVICE_SET_IRQS: `flags` is a VFIO_IRQ_SET_DATA_* and a VFIO_IRQ_SET_ACTION_*.

        EINVAL: index, vectors, flags or size of the data; ENOTTY: no such action for this index;
        EBADF, EINVAL: an fd in the data that is not open, or no eventfd.
        """
        head = vfio_irq_set(VFIO_IRQ_SET.size + len(data), flags, index, start, count)
        self._pass(VFIO_DEVICE_SET_IRQS, VFIO_IRQ_SET.pack(head) + data)

    def enable_irqs(self, index: int, eventfds: Sequence[Fd], start: int = 0) -> None:
        """SET_IRQS: vectors from `start` on signal these eventfds; an fd of -1 signals nobody."""
        data = b"".join(INT32.pack_fields(fd_of(eventfd)) for eventfd in eventfds)
        flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER
        self.set_irqs(index, flags, start, len(eventfds), data)

    def trigger_irqs(self, index: int, start: int = 0, count: int = 1) -> None:
        """SET_IRQS: signal as if the device had interrupted. EINVAL: the index is not enabled."""
        self.set_irqs(index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, start, count)

    def disable_irqs(self, index: int) -> None:
        """SET_IRQS: every vector of the index off. EINVAL: the index is not enabled."""
        self.set_irqs(index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER)

    # -- resets ------------------------------------------------------------------------------------

    def reset(self) -> None:
        """VFIO_DEVICE_RESET. EINVAL: the function cannot be reset by itself."""
        self._ioctl(VFIO_DEVICE_RESET)

    def hot_reset_info(self) -> tuple[vfio_pci_dependent_device, ...]:
        """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: who a hot reset takes along. ENODEV: none exists."""
        layout, entry = VFIO_PCI_HOT_RESET_INFO, VFIO_PCI_DEPENDENT_DEVICE
        room = 1
        while True:
            size = layout.size + room * entry.size
            head = layout.pack(vfio_pci_hot_reset_info(size, 0, 0))
            try:
                answer = self._pass(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, head.ljust(size, b"\0"))
            except OSError as error:
                if error.errno != ENOSPC:
                    raise
                room *= 2
                continue
            count = layout.unpack(answer[: layout.size]).count
            return tuple(
                entry.unpack(answer[at : at + entry.size])
                for at in range(layout.size, layout.size + count * entry.size, entry.size)
            )

    def hot_reset(self, groups: Iterable[Fd]) -> None:
        """VFIO_DEVICE_PCI_HOT_RESET, owning `groups`. EINVAL; ENODEV: the bus cannot be reset."""
        fds = [INT32.pack_fields(fd_of(group)) for group in groups]
        size = VFIO_PCI_HOT_RESET.size + INT32.size * len(fds)
        head = vfio_pci_hot_reset(size, 0, len(fds))
        self._pass(VFIO_DEVICE_PCI_HOT_RESET, VFIO_PCI_HOT_RESET.pack(head) + b"".join(fds))


def _areas(capability: bytes | None) -> tuple[vfio_region_sparse_mmap_area, ...]:
    if capability is None:
        return ()
    layout, area = VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT, VFIO_REGION_SPARSE_MMAP_AREA
    count = layout.unpack(capability[: layout.size]).nr_areas
    return tuple(
        area.unpack(capability[at : at + area.size])
        for at in range(layout.size, layout.size + count * area.size, area.size)
    )
