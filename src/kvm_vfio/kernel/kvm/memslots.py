# SPDX-License-Identifier: GPL-2.0-only
"""Guest memory: which of it is the caller's, and where (virt/kvm/kvm_main.c, memory slots).

Rule of this file: it keeps the map and reads nothing that is mapped. No guest runs, so no page gets
dirty: a dirty log has what it began with (KVM_DIRTY_LOG_INITIALLY_SET) without what was cleared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from errno import E2BIG, EBADF, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENXIO
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.intervals import Intervals
from kvm_vfio.kernel.ioctl import Argument, Row
from kvm_vfio.uapi.kvm_vm import (
    KVM_CLEAR_DIRTY_LOG,
    KVM_CLEAR_DIRTY_LOG_LAYOUT,
    KVM_DIRTY_LOG,
    KVM_DIRTY_LOG_INITIALLY_SET,
    KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
    KVM_GET_DIRTY_LOG,
    KVM_GET_NR_MMU_PAGES,
    KVM_MEM_GUEST_MEMFD,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    KVM_RESET_DIRTY_RINGS,
    KVM_SET_NR_MMU_PAGES,
    KVM_SET_USER_MEMORY_REGION,
    KVM_SET_USER_MEMORY_REGION2,
    KVM_USERSPACE_MEMORY_REGION,
    KVM_USERSPACE_MEMORY_REGION2,
    kvm_userspace_memory_region,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm, VmFile
    from kvm_vfio.kernel.task import Task

PAGE = 4096
_PAGE_SHIFT = 12
_ADDRESS_SPACES = 2  # KVM_ADDRESS_SPACE_NUM on x86: ordinary and SMM
_MOST_PAGES = (1 << 31) - 1  # KVM_MEM_MAX_NR_PAGES
_U32 = 0xFFFF_FFFF
_U64 = 1 << 64
_WORD = 64  # pages in a u64 of a bitmap
_CHUNK = 4096  # bytes of a bitmap that are kept or not kept together
_LEAST_MMU_PAGES = 64  # KVM_MIN_ALLOC_MMU_PAGES
_MMU_PAGES_PERMILLE = 20  # KVM_PERMILLE_MMU_PAGES, of the slots' pages
_LARGEST_ERRNO = 4095
_DIRTY_GFN = 16  # bytes of a kvm_dirty_gfn
_MOST_DIRTY_GFNS = 65536  # KVM_DIRTY_RING_MAX_ENTRIES


class DirtyBitmap:
    """A bit a page: the bits it began with, and those 4096 bytes of it in which one was cleared."""

    __slots__ = ("_chunks", "_pages", "_set")

    def __init__(self, pages: int, *, initially_set: bool) -> None:
        self._pages = pages
        self._set = initially_set
        self._chunks: dict[int, bytearray] = {}

    def __len__(self) -> int:
        """Bytes: whole u64 (kvm_dirty_bitmap_bytes)."""
        return -(-self._pages // _WORD) * 8

    def chunk(self, at: int) -> bytes:
        """Up to 4096 bytes from byte `at`, a multiple of that."""
        size = min(_CHUNK, len(self) - at)
        if not self._set:
            return bytes(size)
        if at in self._chunks:
            return bytes(self._chunks[at])
        whole, rest = divmod(max(self._pages - at * 8, 0), 8)
        bits = b"\xff" * min(whole, size) + bytes([(1 << rest) - 1])
        return bits[:size].ljust(size, b"\0")

    def clear(self, at: int, mask: bytes) -> None:
        """Take the bits of `mask` out from byte `at` on; nothing crosses a chunk."""
        if not self._set:
            return
        start = at - at % _CHUNK
        chunk = self._chunks.setdefault(start, bytearray(self.chunk(start)))
        for place, bits in enumerate(mask, at - start):
            chunk[place] &= ~bits & 0xFF

    def forget(self) -> None:
        """Nothing is dirty any more."""
        self._set = False
        self._chunks.clear()


@dataclass(slots=True)
class MemSlot:
    """struct kvm_memory_slot. `start` and `size` are in pages: gfns; the address in bytes."""

    number: int
    start: int
    size: int
    flags: int
    userspace_addr: int
    bitmap: DirtyBitmap | None = None


class MemSlots:
    """Every slot of a VM, by number and by place. A number's upper 16 bits say which space."""

    __slots__ = (
        "_by_gfn",
        "_by_number",
        "_requested_mmu_pages",
        "_vm",
        "dirty_ring_size",
        "manual_protect",
        "mmu_pages",
        "pages",
    )

    def __init__(self, vm: Vm) -> None:
        self._vm = vm
        self._by_number: dict[int, MemSlot] = {}
        self._by_gfn: dict[int, Intervals[MemSlot]] = {}
        self.pages = 0  # of all slots
        self.mmu_pages = 0  # n_max_mmu_pages
        self._requested_mmu_pages = False
        self.manual_protect = 0  # KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
        self.dirty_ring_size = 0  # bytes of each vCPU's ring; 0: bitmaps are used

    def __len__(self) -> int:
        return len(self._by_number)

    def find(self, number: int) -> MemSlot | None:
        """The slot of this number."""
        return self._by_number.get(number)

    def slots(self) -> list[MemSlot]:
        """All of them, by number."""
        return [self._by_number[number] for number in sorted(self._by_number)]

    # -- KVM_SET_USER_MEMORY_REGION ----------------------------------------------------------------

    def set_region(
        self, region: kvm_userspace_memory_region, bind: Callable[[], None] | None = None
    ) -> None:
        """kvm_set_memory_region. EINVAL: see `_check`; then what the change at hand says.

        `bind` gives a new slot its guest_memfd; a slot that is there takes none (EINVAL).
        """
        self._check(region)
        old = self._by_number.get(region.slot)
        if not region.memory_size:
            if old is None:
                raise KernelError(EINVAL, f"there is no slot {region.slot:#x} to delete")
            self._remove(old)
            self._set_default_mmu_pages()
            return
        new = MemSlot(
            region.slot,
            region.guest_phys_addr >> _PAGE_SHIFT,
            region.memory_size >> _PAGE_SHIFT,
            region.flags,
            region.userspace_addr,
        )
        if old is None:
            self._create(new, bind)
        elif bind is not None:
            raise KernelError(EINVAL, "a slot that is there takes no guest_memfd")
        else:
            self._change(old, new)

    def _check(self, region: kvm_userspace_memory_region) -> None:
        behaviour = self._vm.behaviour
        space, number = region.slot >> 16, region.slot & 0xFFFF
        size, start = region.memory_size, region.guest_phys_addr
        if region.flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY):
            raise KernelError(EINVAL, f"there is no flag in {region.flags:#x} but bits 0 and 1")
        if (size | start | region.userspace_addr) % PAGE:
            raise KernelError(EINVAL, "addresses and size are whole pages")
        if region.userspace_addr + size > behaviour.user_address_end:
            raise KernelError(EINVAL, f"{region.userspace_addr:#x} is beyond user memory")
        if space >= _ADDRESS_SPACES or number >= behaviour.user_mem_slots:
            slots = behaviour.user_mem_slots
            raise KernelError(EINVAL, f"slot {region.slot:#x}: 2 address spaces of {slots} slots")
        if start + size >= _U64:
            raise KernelError(EINVAL, "the range wraps")
        if size >> _PAGE_SHIFT > _MOST_PAGES:
            raise KernelError(EINVAL, "a slot has at most 2**31 - 1 pages")

    def _create(self, new: MemSlot, bind: Callable[[], None] | None) -> None:
        self._require_free(new, None)
        if bind is not None:
            bind()
        self._prepare(new)
        self._put(new)
        self._set_default_mmu_pages()

    def _change(self, old: MemSlot, new: MemSlot) -> None:
        """EINVAL: its memory or KVM_MEM_READONLY would change; moved: EEXIST, EINVAL."""
        if (new.userspace_addr, new.size) != (old.userspace_addr, old.size):
            raise KernelError(EINVAL, "a slot keeps its memory; delete it and make another")
        if (new.flags ^ old.flags) & KVM_MEM_READONLY:
            raise KernelError(EINVAL, "a slot stays read-only or writable")
        moved = new.start != old.start
        if moved:
            self._require_free(new, old)
        elif new.flags == old.flags:
            return
        new.bitmap = old.bitmap
        self._prepare(new, moved=moved)
        self._remove(old)
        self._put(new)

    def _require_free(self, new: MemSlot, old: MemSlot | None) -> None:
        """kvm_check_memslot_overlap. EEXIST."""
        space = self._by_gfn.get(new.number >> 16)
        if space is None:
            return
        if old is not None:
            space.remove(old)
        there = space.first(new.start, new.size)
        if old is not None:
            space.add(old)
        if there is not None:
            raise KernelError(EEXIST, f"slot {there.number:#x} is there already")

    def _prepare(self, new: MemSlot, *, moved: bool = True) -> None:
        """kvm_prepare_memory_region. ENOMEM; EINVAL: it ends beyond the largest gfn."""
        if not new.flags & KVM_MEM_LOG_DIRTY_PAGES:
            new.bitmap = None
        elif new.bitmap is None and not self.dirty_ring_size:
            self._vm.kernel.allocate("dirty_bitmap")
            initially_set = bool(self.manual_protect & KVM_DIRTY_LOG_INITIALLY_SET)
            new.bitmap = DirtyBitmap(new.size, initially_set=initially_set)
        largest = self._vm.behaviour.largest_gfn
        if moved and largest and new.start + new.size - 1 > largest:
            raise KernelError(
                EINVAL, f"the processor has no guest address beyond page {largest:#x}"
            )
        if moved:
            self._vm.kernel.allocate("kvm_memory_slot")

    def _put(self, slot: MemSlot) -> None:
        self._by_number[slot.number] = slot
        self._by_gfn.setdefault(slot.number >> 16, Intervals()).add(slot)
        self.pages += slot.size

    def _remove(self, slot: MemSlot) -> None:
        del self._by_number[slot.number]
        self._by_gfn[slot.number >> 16].remove(slot)
        self.pages -= slot.size

    # -- shadow pages ------------------------------------------------------------------------------

    def _set_default_mmu_pages(self) -> None:
        """kvm_arch_commit_memory_region: follow the memory, unless the caller has said how many."""
        if not self._requested_mmu_pages:
            pages = self.pages * _MMU_PAGES_PERMILLE // 1000
            self.mmu_pages = max(pages, _LEAST_MMU_PAGES)

    def request_mmu_pages(self, pages: int) -> None:
        """kvm_vm_ioctl_set_nr_mmu_pages. EINVAL."""
        if pages < _LEAST_MMU_PAGES:
            raise KernelError(EINVAL, f"{pages} shadow pages are fewer than {_LEAST_MMU_PAGES}")
        self.mmu_pages = pages
        self._requested_mmu_pages = True

    # -- dirty pages -------------------------------------------------------------------------------

    def enable_manual_protect(self, options: int) -> None:
        """KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. EINVAL."""
        allowed = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE
        if options & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE:
            allowed |= KVM_DIRTY_LOG_INITIALLY_SET
        if options & ~allowed:
            raise KernelError(EINVAL, f"manual protection has no option in {options:#x} like that")
        self.manual_protect = options

    def enable_dirty_ring(self, size: int) -> None:
        """kvm_vm_ioctl_enable_dirty_log_ring. EINVAL, E2BIG; EINVAL: on already, or vCPUs."""
        size &= _U32
        if size < PAGE or size & (size - 1):
            raise KernelError(EINVAL, "a ring's size is a power of two, and at least a page")
        if size > _MOST_DIRTY_GFNS * _DIRTY_GFN:
            raise KernelError(E2BIG, f"a ring has at most {_MOST_DIRTY_GFNS} entries")
        if self.dirty_ring_size or self._vm.created_vcpus:
            raise KernelError(EINVAL, "dirty rings are chosen once, before the first vCPU")
        self.dirty_ring_size = size

    def log(self, number: int) -> tuple[MemSlot, DirtyBitmap]:
        """The slot `number` and its dirty log. ENXIO: rings are used; EINVAL; ENOENT."""
        if self.dirty_ring_size:
            raise KernelError(ENXIO, "the VM has dirty rings and no dirty logs")
        if number >> 16 >= _ADDRESS_SPACES or number & 0xFFFF >= self._vm.behaviour.user_mem_slots:
            raise KernelError(EINVAL, f"there can be no slot {number:#x}")
        slot = self._by_number.get(number)
        if slot is None or slot.bitmap is None:
            raise KernelError(ENOENT, f"slot {number:#x} has no dirty log")
        return slot, slot.bitmap


# -- the requests ----------------------------------------------------------------------------------


def _set_user_memory_region(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_USER_MEMORY_REGION. EFAULT; then `MemSlots.set_region`."""
    size = KVM_USERSPACE_MEMORY_REGION.size
    region = KVM_USERSPACE_MEMORY_REGION.unpack(task.copy_from_user(arg, size))
    file.vm.memslots.set_region(region)
    return 0


def _set_user_memory_region2(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_USER_MEMORY_REGION2. EFAULT; then `MemSlots.set_region`.

    From 6.18 on an ordinary VM may have KVM_MEM_GUEST_MEMFD, alone: EINVAL for its offset; where
    all else is right EBADF, EINVAL: there is no guest_memfd here (KVM_CREATE_GUEST_MEMFD).
    """
    size = KVM_USERSPACE_MEMORY_REGION2.size
    region = KVM_USERSPACE_MEMORY_REGION2.unpack(task.copy_from_user(arg, size))
    ordinary = kvm_userspace_memory_region(*region[:5])
    if region.flags != KVM_MEM_GUEST_MEMFD or not file.vm.behaviour.guest_memfd:
        file.vm.memslots.set_region(ordinary)
        return 0
    offset = region.guest_memfd_offset
    if offset % PAGE or offset + region.memory_size >= _U64:
        raise KernelError(EINVAL, f"offset {offset:#x} of the guest_memfd")
    file.vm.memslots.set_region(
        ordinary._replace(flags=0), lambda: _no_guest_memfd(task, region.guest_memfd)
    )
    return 0


def _no_guest_memfd(task: Task, fd: int) -> None:
    """kvm_gmem_bind. EBADF, EINVAL."""
    found = task.fget(fd)
    raise KernelError(EINVAL, f"{found.name} is no guest_memfd")


def _get_dirty_log(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_DIRTY_LOG. EFAULT; `MemSlots.log`; EFAULT."""
    asked = KVM_DIRTY_LOG.unpack(task.copy_from_user(arg, KVM_DIRTY_LOG.size))
    slots = file.vm.memslots
    _, bitmap = slots.log(asked.slot)
    for at in range(0, len(bitmap), _CHUNK):
        task.copy_to_user(asked.dirty_bitmap + at, bitmap.chunk(at))
    if not slots.manual_protect:
        bitmap.forget()
    return 0


def _clear_dirty_log(file: VmFile, task: Task, arg: int) -> int:
    """KVM_CLEAR_DIRTY_LOG. EFAULT; ENXIO; EINVAL; ENOENT; EINVAL: not these pages; EFAULT."""
    layout = KVM_CLEAR_DIRTY_LOG_LAYOUT
    asked = layout.unpack(task.copy_from_user(arg, layout.size))
    first, count = asked.first_page, asked.num_pages
    slots = file.vm.memslots
    if first % _WORD and not slots.dirty_ring_size:
        raise KernelError(EINVAL, f"pages are cleared from a multiple of {_WORD} on")
    slot, bitmap = slots.log(asked.slot)
    left = slot.size - first
    if left < 0 or count > left or (count < left and count % _WORD):
        raise KernelError(EINVAL, f"{count} pages from {first} on are not whole words of the log")
    size = -(-count // _WORD) * 8
    mask = [
        task.copy_from_user(asked.dirty_bitmap + at, min(_CHUNK, size - at))
        for at in range(0, size, _CHUNK)
    ]
    for number, bits in enumerate(mask):
        _clear(bitmap, first // 8 + number * _CHUNK, bits)
    return 0


def _clear(bitmap: DirtyBitmap, at: int, bits: bytes) -> None:
    room = _CHUNK - at % _CHUNK
    bitmap.clear(at, bits[:room])
    if len(bits) > room:
        bitmap.clear(at + room, bits[room:])


def _reset_dirty_rings(file: VmFile, task: Task, arg: int) -> int:
    """KVM_RESET_DIRTY_RINGS: how many entries were reset. EINVAL: there are no rings."""
    if not file.vm.memslots.dirty_ring_size:
        raise KernelError(EINVAL, "the VM has no dirty rings")
    return 0


def _set_nr_mmu_pages(file: VmFile, task: Task, arg: int) -> int:
    """KVM_SET_NR_MMU_PAGES. EINVAL: fewer than 64."""
    file.vm.memslots.request_mmu_pages(arg)
    return 0


def _get_nr_mmu_pages(file: VmFile, task: Task, arg: int) -> int:
    """KVM_GET_NR_MMU_PAGES: as a C int, so that a count of almost 2**32 looks like an errno."""
    pages = (file.vm.memslots.mmu_pages & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000
    if -_LARGEST_ERRNO <= pages < 0:
        raise KernelError(-pages, "a count that large is no longer told from an error")
    return pages


_REGION_ERRNOS = (EFAULT, EINVAL, EEXIST, ENOMEM)

ROWS = (
    Row(
        KVM_SET_USER_MEMORY_REGION,
        _set_user_memory_region,
        Argument.FIXED,
        errnos=_REGION_ERRNOS,
    ),
    Row(
        KVM_SET_USER_MEMORY_REGION2,
        _set_user_memory_region2,
        Argument.FIXED,
        errnos=(*_REGION_ERRNOS, EBADF),
    ),
    Row(KVM_GET_DIRTY_LOG, _get_dirty_log, Argument.FIXED, errnos=(EFAULT, ENXIO, EINVAL, ENOENT)),
    Row(
        KVM_CLEAR_DIRTY_LOG,
        _clear_dirty_log,
        Argument.FIXED,
        errnos=(EFAULT, ENXIO, EINVAL, ENOENT),
    ),
    Row(KVM_RESET_DIRTY_RINGS, _reset_dirty_rings, Argument.VALUE, errnos=(EINVAL,)),
    Row(KVM_SET_NR_MMU_PAGES, _set_nr_mmu_pages, Argument.VALUE, errnos=(EINVAL,)),
    Row(
        KVM_GET_NR_MMU_PAGES,
        _get_nr_mmu_pages,
        Argument.VALUE,
        errnos=tuple(range(1, _LARGEST_ERRNO + 1)),
    ),
)
