# SPDX-License-Identifier: GPL-2.0-only
"""VFIO devices (drivers/vfio/pci): the regions, interrupts and reset of one PCI function.

Rule of this file: a BAR is memory here, but where the function has a model: its registers are.

A device's file shows the function as regions, each at an offset of its own: BARs 0 to 5, the ROM,
configuration space, VGA.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EBADF, EBUSY, EFAULT, EINVAL, EIO, ENODEV, ENOTTY, EPERM, ERANGE
from typing import TYPE_CHECKING, ClassVar, cast

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File, Mapping
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support, not_modelled
from kvm_vfio.kernel.pci.config import hardware
from kvm_vfio.kernel.vfio.argsz import capability_chain, info_bytes, read_argsz
from kvm_vfio.kernel.vfio.config import ConfigSpace
from kvm_vfio.kernel.vfio.feature import Features
from kvm_vfio.kernel.vfio.irqs import Irqs
from kvm_vfio.machine.model import Bar, BarKind
from kvm_vfio.uapi.pci import PCI_MSIX_ENTRY_SIZE, PCI_STATUS, PCI_STATUS_INTERRUPT
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_FLAGS_PCI,
    VFIO_DEVICE_FLAGS_RESET,
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_INFO,
    VFIO_DEVICE_IOEVENTFD,
    VFIO_DEVICE_PCI_HOT_RESET,
    VFIO_DEVICE_RESET,
    VFIO_DEVICE_SET_IRQS,
    VFIO_IRQ_INFO,
    VFIO_IRQ_INFO_AUTOMASKED,
    VFIO_IRQ_INFO_EVENTFD,
    VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE,
    VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_HOT_RESET,
    VFIO_PCI_HOT_RESET_INFO,
    VFIO_PCI_INTX_IRQ_INDEX,
    VFIO_PCI_MSI_IRQ_INDEX,
    VFIO_PCI_MSIX_IRQ_INDEX,
    VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS,
    VFIO_PCI_ROM_REGION_INDEX,
    VFIO_PCI_VGA_REGION_INDEX,
    VFIO_REGION_INFO,
    VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP,
    VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT,
    VFIO_REGION_INFO_FLAG_CAPS,
    VFIO_REGION_INFO_FLAG_MMAP,
    VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE,
    VFIO_REGION_SPARSE_MMAP_AREA,
    vfio_info_cap_header,
    vfio_region_info,
    vfio_region_info_cap_sparse_mmap,
    vfio_region_sparse_mmap_area,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import PciFunction
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.pci.model import Area, DeviceModel
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.kernel.vfio.group import VfioGroup

_PAGE = 4096
_REGION_SHIFT = 40
_READ_WRITE = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE
_ROOT_BUS = "00"


def _sparse_mmap(areas: list[Area]) -> bytes:
    """The sparse mmap capability, with a blank header."""
    head = vfio_region_info_cap_sparse_mmap(*vfio_info_cap_header(0, 0, 0), len(areas), 0)
    bodies = (vfio_region_sparse_mmap_area(area.offset, area.size) for area in areas)
    return VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT.pack(head) + b"".join(
        map(VFIO_REGION_SPARSE_MMAP_AREA.pack, bodies)
    )


class VfioDevice:
    """struct vfio_device: a PCI function that vfio-pci drives, with what its openers share.

    `bars` maps a BAR index to its memory; what is not there is made, zeroed, at the first use.
    `held_vm` is the VM that the first open keeps alive, in kernels where it does. `leaving`: its
    driver is being taken away, which waits for the last close.
    """

    __slots__ = (
        "_table",
        "_table_bar",
        "bars",
        "config",
        "features",
        "function",
        "held_vm",
        "irqs",
        "leaving",
        "model",
        "open_count",
        "register_bars",
        "registers",
        "static_bars",
        "trapped_bars",
        "vfio_group",
    )

    def __init__(self, vfio_group: VfioGroup, function: PciFunction) -> None:
        self.vfio_group = vfio_group
        self.function = function
        self.static_bars: dict[int, Bar] = {bar.index: bar for bar in function.static.bars}
        profile = vfio_group.kernel.profile
        self.config = ConfigSpace(
            hardware(function.static, profile, function.addresses), profile, self.reset
        )
        self.irqs = Irqs(function.static, profile)
        self.features = Features(profile)
        msix = function.static.msix
        self._table_bar, self._table = -1, (0, 0)
        if msix is not None:
            end = msix.table_offset + msix.vectors * PCI_MSIX_ENTRY_SIZE
            self._table_bar, self._table = msix.table_bar, (msix.table_offset, end)
        self.bars: dict[int, Mapping] = {}
        self.model = function.model
        behaviour = function.static.behaviour
        self.register_bars = self.model.register_bars() if self.model else frozenset()
        self.trapped_bars = self.register_bars if behaviour and behaviour.trap else frozenset()
        self.registers = self._whole_registers()
        self.open_count = 0
        self.leaving = False
        self.held_vm: Vm | None = None

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return f"VFIO device {self.function.static.address}"

    def bar(self, index: int) -> Mapping:
        """The memory of a BAR that exists."""
        if index not in self.bars:
            self.bars[index] = bytearray(self.static_bars[index].size)
            self.fill(index)
        return self.bars[index]

    def fill(self, index: int) -> None:
        """Put into a BAR's memory what an idle device has there."""
        for register in self.function.static.registers:
            if register.bar == index:
                data = register.value.to_bytes(4, "little")
                self.bars[index][register.offset : register.offset + 4] = data

    def mappable(self, index: int) -> bool:
        """Whether mmap can reach the region, or areas of it: a memory BAR of whole pages."""
        bar = self.static_bars.get(index)
        if bar is None or bar.kind is BarKind.IO or bar.size < _PAGE:
            return False
        return index not in self.trapped_bars or bool(self.areas(index))

    def hidden_table(self, index: int) -> tuple[int, int]:
        """Where the MSI-X table begins and ends in a BAR; an empty range where it is not."""
        return self._table if index == self._table_bar else (0, 0)

    def _whole_registers(self) -> frozenset[tuple[int, int, int]]:
        """(BAR, offset, width) of what is read and written in one access: most that is."""
        widest = self.vfio_group.kernel.profile.region_access_width
        accesses = self.model.accesses() if self.model else ()
        return frozenset(
            (index, at, width)
            for index, at, width in accesses
            if width <= widest and not at % width and at not in range(*self.hidden_table(index))
        )

    def areas(self, index: int) -> list[Area]:
        """What is memory of a BAR with registers."""
        model = self.model
        return [area for area in model.memory if area.bar == index] if model else []

    def reset(self) -> None:
        """pci_try_reset_function: Linux restores configuration space; a BAR's memory stays."""
        self.config.function_was_reset()
        if self.model is not None and self.function.static.reset:
            self.model.reset()
        self.set_intx(asserted=self.irqs.line)

    def set_intx(self, *, asserted: bool) -> None:
        """The function asserts INTx, or lets it go: STATUS says so, and VFIO's handler hears."""
        status = self.config.value(PCI_STATUS, 1) & ~PCI_STATUS_INTERRUPT
        self.config.data[PCI_STATUS] = status | PCI_STATUS_INTERRUPT * asserted
        self.irqs.set_line(asserted=asserted)

    def request(self) -> None:
        """vfio_pci_core_request: the device is wanted back; who has it open is told."""
        if not self.leaving:
            self.leaving = True
            self.irqs.request()

    def interrupts_changed(self) -> None:
        """Let configuration space show which interrupts are enabled."""
        irqs = self.irqs
        self.config.interrupts_are(
            msi=irqs.mode == VFIO_PCI_MSI_IRQ_INDEX,
            msix=irqs.mode == VFIO_PCI_MSIX_IRQ_INDEX,
            enabled=irqs.enabled,
        )

    def open(self) -> None:
        """One more open file. What the openers hold differs by kernel; see `vfio.group`."""
        vfio_group, first = self.vfio_group, self.open_count == 0
        self.open_count += 1
        if vfio_group.kernel.profile.member_is_group:
            vfio_group.container_users += 1
        elif first:
            vfio_group.container_users += 1
            if vfio_group.opened_file is not None:
                vfio_group.opened_file.get()
        if first:
            self.config.reopen()
            self.reset()
            if vfio_group.kernel.profile.device_open_holds_vm and vfio_group.vm is not None:
                vfio_group.vm.get()
                self.held_vm = vfio_group.vm

    def close(self) -> None:
        """One open file less; the last one gives everything back."""
        vfio_group = self.vfio_group
        self.open_count -= 1
        if self.open_count == 0:
            self.irqs.close()
            self.features.leave()
            self.interrupts_changed()
            self.bars.clear()
        if vfio_group.kernel.profile.member_is_group:
            vfio_group.try_dissolve_container()
        elif self.open_count == 0:
            vfio_group.container_users -= 1
            if vfio_group.opened_file is not None:
                vfio_group.opened_file.put()
        if self.open_count == 0 and self.held_vm is not None:
            vm, self.held_vm = self.held_vm, None
            vm.put()


class VfioDeviceFile(File):
    """An open VFIO device. Every GET_DEVICE_FD makes one."""

    __slots__ = ("device",)
    kind = "a VFIO device"
    link = "anon_inode:[vfio-device]"

    def __init__(self, device: VfioDevice) -> None:
        super().__init__()
        self.device = device
        device.vfio_group.kernel.vfio_files += 1
        device.open()

    @property
    def name(self) -> str:
        """Which device."""
        return self.device.name

    def release(self) -> None:
        """vfio_device_fops_release."""
        kernel = self.device.vfio_group.kernel
        self.device.close()
        kernel.vfio_files -= 1

    # -- what it is --------------------------------------------------------------------------------

    def get_info(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_GET_INFO. EFAULT, EINVAL for argsz."""
        argsz = read_argsz(task, arg, VFIO_DEVICE_INFO.offsets["cap_offset"])
        flags = VFIO_DEVICE_FLAGS_PCI
        if self.device.function.static.reset:
            flags |= VFIO_DEVICE_FLAGS_RESET
        info = VFIO_DEVICE_INFO.type(argsz, flags, VFIO_PCI_NUM_REGIONS, VFIO_PCI_NUM_IRQS, 0, 0)
        written = info_bytes(self.device.vfio_group.kernel.profile, argsz)
        task.copy_to_user(arg, VFIO_DEVICE_INFO.pack(info)[:written])
        return 0

    def get_region_info(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_GET_REGION_INFO. EFAULT; EINVAL for argsz; EINVAL for a region there is not.

        With room for it the capability chain follows the structure; without, argsz says how much.
        """
        wanted = VFIO_REGION_INFO.unpack(task.copy_from_user(arg, VFIO_REGION_INFO.size))
        if wanted.argsz < VFIO_REGION_INFO.size:
            raise KernelError(EINVAL, f"argsz {wanted.argsz} is less than {VFIO_REGION_INFO.size}")
        if wanted.index >= VFIO_PCI_VGA_REGION_INDEX:
            raise KernelError(EINVAL, f"{self.name} has no region {wanted.index}")
        argsz, flags = wanted.argsz, self._region_flags(wanted.index)
        cap_offset = wanted.cap_offset
        capabilities = self._region_capabilities(wanted.index, flags)
        if capabilities:
            flags |= VFIO_REGION_INFO_FLAG_CAPS
            chain = capability_chain(capabilities, VFIO_REGION_INFO.size)
            cap_offset = 0
            if argsz < VFIO_REGION_INFO.size + len(chain):
                argsz = VFIO_REGION_INFO.size + len(chain)
            else:
                task.copy_to_user(arg + VFIO_REGION_INFO.size, chain)
                cap_offset = VFIO_REGION_INFO.size
        info = vfio_region_info(
            argsz,
            flags,
            wanted.index,
            cap_offset,
            self._region_size(wanted.index),
            wanted.index << _REGION_SHIFT,
        )
        task.copy_to_user(arg, VFIO_REGION_INFO.pack(info))
        return 0

    def _region_size(self, index: int) -> int:
        if index == VFIO_PCI_CONFIG_REGION_INDEX:
            return len(self.device.config.data)
        bar = self.device.static_bars.get(index)
        return bar.size if bar else 0

    def _region_flags(self, index: int) -> int:
        if not self._region_size(index):
            return 0
        flags = _READ_WRITE
        if self.device.mappable(index):
            flags |= VFIO_REGION_INFO_FLAG_MMAP
        return flags

    def _region_capabilities(self, index: int, flags: int) -> list[tuple[int, bytes]]:
        if not flags & VFIO_REGION_INFO_FLAG_MMAP:
            return []
        areas = self.device.areas(index) if index in self.device.trapped_bars else []
        if areas:
            return [(VFIO_REGION_INFO_CAP_SPARSE_MMAP, _sparse_mmap(areas))]
        msix = self.device.function.static.msix
        if msix is not None and msix.table_bar == index:
            return [(VFIO_REGION_INFO_CAP_MSIX_MAPPABLE, bytes(8))]
        return []

    def get_irq_info(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_GET_IRQ_INFO. EFAULT; EINVAL for argsz, index; EINVAL: no such interrupt."""
        wanted = VFIO_IRQ_INFO.unpack(task.copy_from_user(arg, VFIO_IRQ_INFO.size))
        if wanted.argsz < VFIO_IRQ_INFO.size or wanted.index >= VFIO_PCI_NUM_IRQS:
            raise KernelError(EINVAL, f"argsz {wanted.argsz} or index {wanted.index}")
        if wanted.index == VFIO_PCI_ERR_IRQ_INDEX and not self.device.irqs.counts[wanted.index]:
            raise KernelError(EINVAL, f"{self.name} is not PCI Express and reports no errors")
        flags = VFIO_IRQ_INFO_EVENTFD
        if wanted.index == VFIO_PCI_INTX_IRQ_INDEX:
            flags |= VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED
        elif wanted.index != VFIO_PCI_MSIX_IRQ_INDEX or not self.device.irqs.msix_grows:
            flags |= VFIO_IRQ_INFO_NORESIZE
        info = wanted._replace(flags=flags, count=self.device.irqs.counts[wanted.index])
        task.copy_to_user(arg, VFIO_IRQ_INFO.pack(info))
        return 0

    def set_irqs(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_SET_IRQS: see `Irqs.set`."""
        try:
            return self.device.irqs.set(task, arg)
        finally:
            self.device.interrupts_changed()

    def reset(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_RESET. EINVAL: the function cannot be reset by itself."""
        if not self.device.function.static.reset:
            raise KernelError(EINVAL, f"{self.name} has no reset of its own")
        self.device.reset()
        return 0

    def hot_reset_info(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO. EFAULT; EINVAL for argsz; ENODEV on the root bus."""
        read_argsz(task, arg, VFIO_PCI_HOT_RESET_INFO.size)
        return self._require_resettable_bus("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO")

    def hot_reset(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_PCI_HOT_RESET.

        EFAULT; EINVAL for argsz or flags, from 6.12 on for a count of 0; ENODEV on the root bus.
        """
        wanted = VFIO_PCI_HOT_RESET.unpack(task.copy_from_user(arg, VFIO_PCI_HOT_RESET.size))
        if wanted.argsz < VFIO_PCI_HOT_RESET.size or wanted.flags:
            raise KernelError(EINVAL, f"argsz {wanted.argsz} or flags {wanted.flags:#x}")
        if not wanted.count and self.device.vfio_group.kernel.profile.hot_reset_counts_first:
            raise KernelError(EINVAL, "no group is named")
        return self._require_resettable_bus("VFIO_DEVICE_PCI_HOT_RESET")

    def feature(self, task: Task, arg: int) -> int:
        """VFIO_DEVICE_FEATURE: see `Features.ioctl`."""
        return self.device.features.ioctl(task, arg)

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """Any request wakes the device up."""
        self.device.features.touched()
        return super().unlocked_ioctl(task, request, arg)

    # -- what is in it -----------------------------------------------------------------------------

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        """pread(2) of a region, cut at a BAR's end. EINVAL, EFAULT: see `_locate`; EIO.

        EIO: a memory BAR while COMMAND has memory off, or in low power.
        """
        index, at, size = self._locate(offset or 0, size)
        self.device.features.touched()
        if index == VFIO_PCI_CONFIG_REGION_INDEX:
            return self.device.config.read(at, size)
        if (index, at, size) in self.device.registers:
            self._require_decoding(index)
            return self._model.read(index, at, size).to_bytes(size, "little")
        return b"".join(
            b"\xff" * length if hidden else self._load(index, start, length)
            for start, length, hidden in self._pieces(index, at, size)
        )

    def takes_data(self, size: int, offset: int) -> bool:
        """`File.takes_data`: what is written to the MSI-X table alone is not even looked at."""
        index, at, size = self._locate(offset, size)
        if index == VFIO_PCI_CONFIG_REGION_INDEX:
            return size > 0
        if (index, at, size) in self.device.registers:
            return True
        return not all(hidden for _, _, hidden in self._pieces(index, at, size))

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        """pwrite(2) of a region: as `read`. The MSI-X table is the kernel's: nothing changes it."""
        index, at, size = self._locate(offset or 0, len(data))
        self.device.features.touched()
        if index == VFIO_PCI_CONFIG_REGION_INDEX:
            self.device.config.write(at, data)
            self.device.irqs.disable_intx(self.device.config.disables_intx)
            return size
        if (index, at, size) in self.device.registers:
            self._require_decoding(index)
            self._model.write(index, at, size, int.from_bytes(data[:size], "little"))
            return size
        for start, length, hidden in self._pieces(index, at, size):
            if not hidden:
                self._store(index, start, data[start - at : start - at + length])
        return size

    def _pieces(self, index: int, at: int, size: int) -> Iterator[tuple[int, int, bool]]:
        """The (offset, size) before, in and behind the MSI-X table, and whether it is hidden."""
        end = at + size
        begins, ends = self.device.hidden_table(index)
        for start, stop, hidden in (
            (at, min(end, begins), False),
            (max(at, begins), min(end, ends), True),
            (max(at, ends), end, False),
        ):
            if start < stop:
                yield start, stop - start, hidden

    def _load(self, index: int, at: int, size: int) -> bytes:
        """vfio_pci_core_do_io_rw, of what can be reached."""
        self._require_decoding(index)
        if index not in self.device.register_bars:
            return bytes(self.device.bar(index)[at : at + size])
        pieces = []
        for offset, width in self._accesses(at, size):
            if self._is_memory(index, offset):
                pieces.append(bytes(self.device.bar(index)[offset : offset + width]))
            else:
                value = self._model.read(index, offset, width)
                pieces.append(value.to_bytes(width, "little"))
        return b"".join(pieces)

    def _store(self, index: int, at: int, data: bytes) -> None:
        self._require_decoding(index)
        if index not in self.device.register_bars:
            self.device.bar(index)[at : at + len(data)] = data
            return
        for offset, width in self._accesses(at, len(data)):
            piece = data[offset - at : offset - at + width]
            if self._is_memory(index, offset):
                self.device.bar(index)[offset : offset + width] = piece
            else:
                self._model.write(index, offset, width, int.from_bytes(piece, "little"))

    def _require_decoding(self, index: int) -> None:
        memory = self.device.static_bars[index].kind is not BarKind.IO
        if memory and not self.device.config.decodes_memory:
            raise KernelError(EIO, f"{self.name} does not decode memory: COMMAND, or low power")

    @property
    def _model(self) -> DeviceModel:
        model = self.device.model
        if model is None:
            raise RuntimeError(f"{self.name} has no model")
        return model

    def _is_memory(self, index: int, offset: int) -> bool:
        areas = self.device.areas(index)
        return any(area.offset <= offset < area.offset + area.size for area in areas)

    def _accesses(self, at: int, size: int) -> Iterator[tuple[int, int]]:
        """The (offset, width) of each access: the widest that is aligned, one after the other."""
        end = at + size
        widest = self.device.vfio_group.kernel.profile.region_access_width
        while at < end:
            width = widest
            while at % width or at + width > end:
                width //= 2
            yield at, width
            at += width

    def _locate(self, offset: int, size: int) -> tuple[int, int, int]:
        """(region, offset in it, size), the size cut at the end of a BAR.

        EINVAL: no such region, or past the end of a BAR; EFAULT: past the end of configuration
        space. Nothing is wrong with no bytes.
        """
        index, at = divmod(offset, 1 << _REGION_SHIFT)
        if not size:
            return index, at, 0
        if not 0 <= index < VFIO_PCI_NUM_REGIONS:
            raise KernelError(EINVAL, f"there is no region at offset {offset:#x}")
        if index == VFIO_PCI_CONFIG_REGION_INDEX:
            if at + size > len(self.device.config.data):
                raise KernelError(EFAULT, "past the end of configuration space")
            return index, at, size
        length = self._region_size(index)
        if at >= length:
            raise KernelError(EINVAL, f"region {index} has {length} bytes")
        return index, at, min(size, length - at)

    def mmap(
        self, task: Task, size: int, offset: int, *, writable: bool, executable: bool = False
    ) -> Mapping:
        """mmap(2) MAP_SHARED of a BAR, whole pages.

        EPERM: to execute, from 6.18 on; EINVAL: a region that cannot be mapped, or more than there
        is of it.
        """
        if executable and self.device.vfio_group.kernel.profile.anonymous_files_noexec:
            raise KernelError(EPERM, f"{self.name} cannot be mapped to execute")
        index, at = divmod(offset, 1 << _REGION_SHIFT)
        if not 0 <= index < VFIO_PCI_ROM_REGION_INDEX or not self.device.mappable(index):
            raise KernelError(EINVAL, f"the region at offset {offset:#x} cannot be mapped")
        if at + size > self._region_size(index):
            raise KernelError(EINVAL, f"region {index} ends before {at + size:#x}")
        areas = self.device.areas(index) if index in self.device.trapped_bars else []
        if areas and not any(a.offset <= at and at + size <= a.offset + a.size for a in areas):
            raise KernelError(EINVAL, f"region {index} is not all memory from {at:#x} on")
        mapping: Mapping = memoryview(cast("bytearray", self.device.bar(index)))[at : at + size]
        return mapping

    def _require_resettable_bus(self, request: str) -> int:
        if self.device.function.static.address.split(":")[1] == _ROOT_BUS:
            raise KernelError(ENODEV, "the root bus cannot be reset")
        raise NotModelled(f"{request} behind a PCI bridge")

    ioctls: ClassVar[IoctlTable] = IoctlTable(
        Row(VFIO_DEVICE_GET_INFO, get_info, Argument.ARGSZ, errnos=(EFAULT, EINVAL)),
        Row(VFIO_DEVICE_GET_REGION_INFO, get_region_info, Argument.ARGSZ, errnos=(EFAULT, EINVAL)),
        Row(VFIO_DEVICE_GET_IRQ_INFO, get_irq_info, Argument.ARGSZ, errnos=(EFAULT, EINVAL)),
        Row(
            VFIO_DEVICE_SET_IRQS,
            set_irqs,
            Argument.ARGSZ,
            errnos=(EFAULT, EINVAL, ENOTTY, ERANGE, EBADF, EBUSY),
        ),
        Row(VFIO_DEVICE_RESET, reset, Argument.VALUE, errnos=(EINVAL,)),
        Row(
            VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
            hot_reset_info,
            Argument.ARGSZ,
            Support.PARTIAL,
            "only on the root bus",
            errnos=(EFAULT, EINVAL, ENODEV),
        ),
        Row(
            VFIO_DEVICE_PCI_HOT_RESET,
            hot_reset,
            Argument.ARGSZ,
            Support.PARTIAL,
            "only on the root bus",
            errnos=(EFAULT, EINVAL, ENODEV),
        ),
        Row(
            VFIO_DEVICE_FEATURE,
            feature,
            Argument.ARGSZ,
            Support.PARTIAL,
            "a dma-buf is not made",
            errnos=(EFAULT, EINVAL, ENOTTY, EBADF),
        ),
        not_modelled(VFIO_DEVICE_IOEVENTFD, Argument.ARGSZ, "devices do not act on writes"),
    )
