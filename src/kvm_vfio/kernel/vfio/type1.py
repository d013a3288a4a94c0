# SPDX-License-Identifier: GPL-2.0-only
"""The type1 IOMMU driver (drivers/vfio/vfio_iommu_type1.c): domains, and what is mapped into them.

Rule of this file: every group of a container sees the same mappings, through as few domains as
their coherency allows. A mapping pins the program's pages, and the devices of the groups reach what
they hold (`translate`).

Version 1 and 2 differ in UNMAP_DMA. Version 2 refuses a range that would cut a mapping in two.
Version 1 takes the whole of every mapping whose first page is in the range, and unmaps nothing
when the range begins within a mapping.
"""

from __future__ import annotations

from errno import EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC, ENOTTY, EOVERFLOW, EPERM
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.intervals import Intervals
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row
from kvm_vfio.kernel.iommu.domain import Domain
from kvm_vfio.kernel.vfio.argsz import alignment, capability_chain, info_bytes, read_argsz
from kvm_vfio.kernel.vfio.dirty import BITMAP_LIMIT, DIRTY_PAGES, report_unmapped, wanted_bitmap
from kvm_vfio.uapi.vfio import (
    VFIO_DMA_CC_IOMMU,
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_VADDR,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_DMA_UNMAP_FLAG_ALL,
    VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
    VFIO_DMA_UNMAP_FLAG_VADDR,
    VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_INFO_CAPS,
    VFIO_IOMMU_INFO_PGSIZES,
    VFIO_IOMMU_MAP_DMA,
    VFIO_IOMMU_TYPE1_DMA_MAP,
    VFIO_IOMMU_TYPE1_DMA_UNMAP,
    VFIO_IOMMU_TYPE1_INFO,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
    VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE_LAYOUT,
    VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
    VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION_LAYOUT,
    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
    VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL_LAYOUT,
    VFIO_IOMMU_UNMAP_DMA,
    VFIO_IOVA_RANGE,
    VFIO_TYPE1_IOMMU,
    VFIO_TYPE1_NESTING_IOMMU,
    VFIO_UNMAP_ALL,
    VFIO_UPDATE_VADDR,
    VFIO_TYPE1v2_IOMMU,
    vfio_info_cap_header,
    vfio_iommu_type1_dma_map,
    vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info_cap_iova_range,
    vfio_iommu_type1_info_cap_migration,
    vfio_iommu_type1_info_dma_avail,
    vfio_iova_range,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.group import IommuGroup
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.task import Mm, Pages, Task
    from kvm_vfio.profiles.profile import Profile

_PAGE = 4096
_TOP = 1 << 64
_MSI = range(0xFEE0_0000, 0xFEF0_0000)  # x86: a write here is an interrupt, so it is never memory


class DmaMapping:
    """struct vfio_dma: `size` bytes at `start` (iova) are the program's memory at `vaddr`."""

    __slots__ = ("_pinned_at", "flags", "mm", "pages", "size", "start", "vaddr", "vaddr_valid")

    def __init__(self, wanted: vfio_iommu_type1_dma_map, mm: Mm, pages: Pages) -> None:
        self.start = wanted.iova
        self.size = wanted.size
        self.vaddr = wanted.vaddr
        self.flags = wanted.flags
        self.mm = mm
        self.pages = pages
        self.vaddr_valid = True
        self._pinned_at = wanted.vaddr - wanted.iova  # a new vaddr later does not move the pages

    @property
    def readable(self) -> bool:
        """Whether devices may read here."""
        return bool(self.flags & VFIO_DMA_MAP_FLAG_READ)

    @property
    def writable(self) -> bool:
        """Whether devices may write here."""
        return bool(self.flags & VFIO_DMA_MAP_FLAG_WRITE)

    def address(self, iova: int) -> int:
        """Where `iova` was in the program's memory when it was mapped."""
        return iova + self._pinned_at

    def read(self, iova: int, size: int) -> bytes:
        """What a device reads, all of it in the mapping. EFAULT: see `Pages`."""
        return self.pages.read(iova + self._pinned_at, size)

    def write(self, iova: int, data: bytes) -> None:
        """What a device writes, all of it in the mapping. EFAULT: see `Pages`."""
        self.pages.write(iova + self._pinned_at, data)


def type1_extension(profile: Profile, iommu: Type1 | None, extension: int) -> int:
    """VFIO_CHECK_EXTENSION of type1; `iommu` is None while the container has not set it."""
    answers = {
        VFIO_TYPE1_IOMMU: True,
        VFIO_TYPE1v2_IOMMU: profile.type1v2,
        VFIO_TYPE1_NESTING_IOMMU: profile.nesting_extension,
        VFIO_UNMAP_ALL: profile.unmap_all,
        VFIO_UPDATE_VADDR: profile.update_vaddr and iommu is not None,
        VFIO_DMA_CC_IOMMU: (
            profile.dma_cc_extension and iommu is not None and iommu.enforces_coherency()
        ),
    }
    return int(answers.get(extension, False))


class Type1:
    """struct vfio_iommu: the domains of one container and the mappings they all have."""

    def __init__(self, kernel: Kernel, kind: int) -> None:
        """vfio_iommu_type1_open. EINVAL: an extension that is no type."""
        if kind not in (VFIO_TYPE1_IOMMU, VFIO_TYPE1v2_IOMMU, VFIO_TYPE1_NESTING_IOMMU):
            raise KernelError(EINVAL, f"{kind} is an extension and no type of IOMMU")
        self.kernel = kernel
        self.nesting = kind == VFIO_TYPE1_NESTING_IOMMU
        self.v2 = kind != VFIO_TYPE1_IOMMU
        self.domains: list[Domain] = []
        self.mappings: Intervals[DmaMapping] = Intervals()
        self.iova_ranges = self._find_iova_ranges()
        self.lock = kernel.lock("iommu->lock")
        # The bits that each mapping has reported; None while dirty pages are not tracked.
        self.dirty: dict[DmaMapping, int] | None = None

    # -- groups and domains ------------------------------------------------------------------------

    def attach_group(self, iommu_group: IommuGroup) -> None:
        """vfio_iommu_type1_attach_group.

        What nesting says; EINVAL: something is mapped where the group's IOMMU does not reach; EPERM
        without interrupt remapping.
        """
        with self.lock:
            if self.nesting:
                raise KernelError(
                    self.kernel.profile.nesting_errno, "this IOMMU cannot nest translations"
                )
            beyond = self.mappings.first(1 << iommu_group.iommu.address_width, _TOP)
            if beyond is not None:
                raise KernelError(
                    EINVAL, f"{iommu_group.iommu.name} does not reach iova {beyond.start:#x}"
                )
            if not iommu_group.iommu.interrupt_remapping:
                raise KernelError(
                    EPERM,
                    f"{iommu_group.iommu.name} does not remap interrupts, so a device could forge"
                    " them",
                )
            domain = Domain(iommu_group)
            for other in self.domains:
                if other.compatible(domain):
                    other.iommu_groups.append(iommu_group)
                    break
            else:
                self.kernel.domains_created += 1
                domain.number = self.kernel.domains_created
                self.domains.append(domain)
            iommu_group.translation = self
            self.iova_ranges = self._find_iova_ranges()

    def detach_group(self, iommu_group: IommuGroup) -> None:
        """vfio_iommu_type1_detach_group: a domain ends with its last group."""
        with self.lock:
            for domain in self.domains:
                if iommu_group in domain.iommu_groups:
                    domain.iommu_groups.remove(iommu_group)
            self.domains = [domain for domain in self.domains if domain.iommu_groups]
            iommu_group.translation = None
            self.iova_ranges = self._find_iova_ranges()

    def enforces_coherency(self) -> bool:
        """VFIO_DMA_CC_IOMMU: every domain enforces it."""
        return all(domain.enforces_coherency for domain in self.domains)

    def release(self) -> None:
        """vfio_iommu_type1_release: every mapping goes."""
        for mapping in self.mappings:
            self._unlock(mapping)
        self.mappings.clear()

    def snoops(self, iommu_group: IommuGroup) -> bool:
        """Whether the group's DMA snoops whatever its devices ask for."""
        return any(
            domain.enforces_coherency and iommu_group in domain.iommu_groups
            for domain in self.domains
        )

    def translate(self, iova: int) -> DmaMapping | None:
        """What the page tables have at `iova`."""
        return self.mappings.first(iova, 1)

    def _find_iova_ranges(self) -> list[tuple[int, int]]:
        """The iovas (first, last) that can be mapped: what every IOMMU reaches, without MSI's."""
        widths = {g.iommu.address_width for d in self.domains for g in d.iommu_groups}
        last = (1 << min(widths, default=64)) - 1
        return [(0, _MSI.start - 1), (_MSI.stop, last)]

    # -- requests ----------------------------------------------------------------------------------

    def ioctl(self, task: Task, request: int, arg: int) -> int:
        """The container's requests that are the IOMMU's. ENOTTY for one it does not know."""
        handler = TYPE1_IOCTLS.handlers.get(request)
        if handler is None:
            raise KernelError(ENOTTY, f"type1 has no ioctl {request:#010x}")
        return handler(self, task, arg)

    def get_info(self, task: Task, arg: int) -> int:
        """VFIO_IOMMU_GET_INFO. EFAULT; EINVAL for argsz; EFAULT for the capability chain.

        With room for it the chain follows the structure; without, argsz says how much room.
        """
        fixed = VFIO_IOMMU_TYPE1_INFO.offsets["cap_offset"]  # what every caller must have
        argsz = read_argsz(task, arg, fixed)
        size, written = VFIO_IOMMU_TYPE1_INFO.size, info_bytes(self.kernel.profile, argsz)
        flags, cap_offset = VFIO_IOMMU_INFO_PGSIZES, 0
        if self.kernel.profile.type1_capabilities:
            flags |= VFIO_IOMMU_INFO_CAPS
            chain = self._capabilities(size)
            if argsz < size + len(chain):
                argsz = size + len(chain)
            else:
                task.copy_to_user(arg + size, chain)
                cap_offset = size
        info = VFIO_IOMMU_TYPE1_INFO.type(
            argsz, flags, self.kernel.profile.type1_page_sizes, cap_offset, 0
        )
        task.copy_to_user(arg, VFIO_IOMMU_TYPE1_INFO.pack(info)[:written])
        return 0

    def _capabilities(self, base: int) -> bytes:
        """The chain, its `next` offsets counted from a structure that ends at `base`."""
        blank = vfio_info_cap_header(0, 0, 0)
        ranges = self.iova_ranges
        page_sizes = self.kernel.profile.type1_page_sizes
        available = self.kernel.profile.dma_entry_limit - len(self.mappings)
        bodies = [
            (
                VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION,
                VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION_LAYOUT.pack(
                    vfio_iommu_type1_info_cap_migration(
                        *blank, 0, 0, page_sizes & -page_sizes, BITMAP_LIMIT
                    )
                ),
            ),
            (
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL,
                VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL_LAYOUT.pack(
                    vfio_iommu_type1_info_dma_avail(*blank, available)
                ),
            ),
            (
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
                VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE_LAYOUT.pack(
                    vfio_iommu_type1_info_cap_iova_range(*blank, len(ranges), 0)
                )
                + b"".join(VFIO_IOVA_RANGE.pack(vfio_iova_range(*each)) for each in ranges),
            ),
        ]
        return capability_chain(bodies, base, align=alignment(self.kernel.profile))

    def map_dma(self, task: Task, arg: int) -> int:
        """VFIO_IOMMU_MAP_DMA.

        EFAULT; EINVAL: argsz, unknown flags, size 0; EINVAL (EOVERFLOW in newer kernels): a range
        that wraps; EINVAL: neither read nor write, not page aligned; EEXIST: something is mapped;
        ENOSPC: too many mappings; EINVAL: the IOMMU cannot reach the iova; ENOMEM; then page by
        page: EFAULT: the program has no such memory, ENOMEM: it may lock no more.
        """
        wanted = VFIO_IOMMU_TYPE1_DMA_MAP.unpack(
            task.copy_from_user(arg, VFIO_IOMMU_TYPE1_DMA_MAP.size)
        )
        protection = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE
        set_vaddr = VFIO_DMA_MAP_FLAG_VADDR if self.kernel.profile.update_vaddr else 0
        if wanted.argsz < VFIO_IOMMU_TYPE1_DMA_MAP.size or wanted.flags & ~(protection | set_vaddr):
            raise KernelError(EINVAL, f"argsz {wanted.argsz} or flags {wanted.flags:#x}")
        if not wanted.size:
            raise KernelError(EINVAL, "size is 0")
        self.refuse_wrap(wanted.iova, wanted.size)
        self.refuse_wrap(wanted.vaddr, wanted.size)
        if bool(wanted.flags & protection) == bool(wanted.flags & set_vaddr):
            raise KernelError(EINVAL, "the flags must ask for read, write or both, or for VADDR")
        with self.lock:
            if (wanted.size | wanted.iova | wanted.vaddr) % _PAGE:
                raise KernelError(EINVAL, "size, iova and vaddr are whole pages")
            there = None
            if not self._finds_nothing(wanted.iova, wanted.iova + wanted.size):
                there = self.mappings.first(wanted.iova, wanted.size)
            if wanted.flags & set_vaddr:
                return self._restore_vaddr(there, wanted, task)
            if there is not None:
                raise KernelError(EEXIST, f"iova {there.start:#x} is mapped")
            self._map(wanted, task)
        return 0

    def _map(self, wanted: vfio_iommu_type1_dma_map, task: Task) -> None:
        limit = self.kernel.profile.dma_entry_limit
        if limit and len(self.mappings) >= limit:
            raise KernelError(ENOSPC, f"a container has at most {limit} mappings")
        last = wanted.iova + wanted.size - 1
        if not any(low <= wanted.iova and last <= high for low, high in self.iova_ranges):
            raise KernelError(
                self.kernel.profile.unreachable_iova_errno,
                f"the IOMMU cannot reach iova {wanted.iova:#x} to {last:#x}",
            )
        self.kernel.allocate("vfio_dma")
        reached = min(wanted.size, self._lockable(task, wanted.size) + _PAGE)
        write = bool(wanted.flags & VFIO_DMA_MAP_FLAG_WRITE)
        pages = task.mm.pin(wanted.vaddr, reached, write=write)
        if pages is None:
            raise KernelError(EFAULT, f"there is no such memory at {wanted.vaddr:#x}")
        self._lock(task, wanted.size)
        self.mappings.add(DmaMapping(wanted, task.mm, pages))

    def _lockable(self, task: Task, size: int) -> int:
        """How many of `size` bytes `task` may still lock, in whole pages."""
        if task.lock_limit is None:
            return size
        room = task.lock_limit - self.kernel.locked_vm.get(task.mm, 0)
        return min(size, max(room - room % _PAGE, 0))

    def _lock(self, task: Task, size: int) -> None:
        """Charge `size` bytes of its memory to `task`. ENOMEM."""
        if self._lockable(task, size) < size:
            raise KernelError(ENOMEM, f"more than {task.lock_limit} bytes may not be locked")
        locked_vm = self.kernel.locked_vm
        locked_vm[task.mm] = locked_vm.get(task.mm, 0) + size

    def _unlock(self, mapping: DmaMapping) -> None:
        """Uncharge the pages of a mapping that goes; a program without any has no entry."""
        locked_vm = self.kernel.locked_vm
        locked_vm[mapping.mm] -= mapping.size
        if not locked_vm[mapping.mm]:
            del locked_vm[mapping.mm]

    def _restore_vaddr(
        self, there: DmaMapping | None, wanted: vfio_iommu_type1_dma_map, task: Task
    ) -> int:
        """MAP_DMA with FLAG_VADDR: give a mapping that lost its address a new one.

        ENOENT; EINVAL: not the whole mapping, or it has its address; ENOMEM: the caller, whose it
        is from now on, may lock no more.
        """
        if there is None:
            raise KernelError(ENOENT, f"nothing is mapped at iova {wanted.iova:#x}")
        if there.vaddr_valid or (there.start, there.size) != (wanted.iova, wanted.size):
            raise KernelError(EINVAL, "only a whole mapping whose address was taken gets a new one")
        if there.mm is not task.mm:
            self._lock(task, there.size)
            self._unlock(there)
        there.vaddr, there.mm, there.vaddr_valid = wanted.vaddr, task.mm, True
        return 0

    def _finds_nothing(self, start: int, end: int) -> bool:
        """vfio_find_dma adds up 64 bits: for a range that ends at 2**64, the end is 0."""
        return end == _TOP and start > 0 and self.kernel.profile.dma_range_end_wraps

    def refuse_wrap(self, start: int, size: int) -> None:
        """EINVAL (EOVERFLOW in newer kernels): the range goes beyond 2**64."""
        if start + size > _TOP:
            raise KernelError(
                self.kernel.profile.dma_overflow_errno, f"{start:#x} + {size:#x} wraps"
            )

    def unmap_dma(self, task: Task, arg: int) -> int:
        """VFIO_IOMMU_UNMAP_DMA. The number of bytes unmapped comes back in `size`.

        EFAULT; EINVAL: argsz, unknown flags or a mixture; what `wanted_bitmap` says; EINVAL: not
        page aligned, size 0 (with FLAG_ALL: iova or size not 0), a range that wraps; EINVAL
        (version 2): a range that cuts a mapping; EINVAL: FLAG_VADDR for what lost its address
        already; EFAULT: the bitmap; EFAULT, with all of it done: the answer cannot be written.
        """
        wanted = VFIO_IOMMU_TYPE1_DMA_UNMAP.unpack(
            task.copy_from_user(arg, VFIO_IOMMU_TYPE1_DMA_UNMAP.size)
        )
        profile = self.kernel.profile
        known = VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP if profile.dirty_page_tracking else 0
        known |= VFIO_DMA_UNMAP_FLAG_ALL if profile.unmap_all else 0
        known |= VFIO_DMA_UNMAP_FLAG_VADDR if profile.update_vaddr else 0
        if wanted.argsz < VFIO_IOMMU_TYPE1_DMA_UNMAP.size or wanted.flags & ~known:
            raise KernelError(EINVAL, f"argsz {wanted.argsz} or flags {wanted.flags:#x}")
        others = VFIO_DMA_UNMAP_FLAG_ALL | VFIO_DMA_UNMAP_FLAG_VADDR
        if wanted.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP and wanted.flags & others:
            raise KernelError(EINVAL, "GET_DIRTY_BITMAP stands alone")
        bitmap = wanted_bitmap(self, task, arg, wanted)
        with self.lock:
            unmapped = self._unmap(wanted, task, bitmap)
        task.copy_to_user(arg, VFIO_IOMMU_TYPE1_DMA_UNMAP.pack(wanted._replace(size=unmapped)))
        return 0

    def _unmap(self, wanted: vfio_iommu_type1_dma_unmap, task: Task, bitmap: int | None) -> int:
        start, size = wanted.iova, wanted.size
        everything = bool(wanted.flags & VFIO_DMA_UNMAP_FLAG_ALL)
        if start % _PAGE:
            raise KernelError(EINVAL, f"iova {start:#x} is not page aligned")
        if everything:
            if start or size:
                raise KernelError(EINVAL, "with FLAG_ALL, iova and size are 0")
            size = _TOP
        else:
            if not size or size % _PAGE:
                raise KernelError(EINVAL, "size is whole pages, and not 0")
            self.refuse_wrap(start, size)
            if self.v2:
                self.refuse_cut(start, size)
        covered = self._covered(start, size)
        if wanted.flags & VFIO_DMA_UNMAP_FLAG_VADDR:
            return self._invalidate(covered)
        unmapped = 0
        for mapping in covered:
            if mapping.mm is not task.mm and self.kernel.profile.unmap_checks_mm:
                break
            if bitmap is not None:
                report_unmapped(self, task, mapping, bitmap, start)
            self._remove(mapping)
            unmapped += mapping.size
        return unmapped

    def _invalidate(self, mappings: list[DmaMapping]) -> int:
        """Take the addresses of mappings away. EINVAL: one has lost it already."""
        if not all(mapping.vaddr_valid for mapping in mappings):
            raise KernelError(EINVAL, "a mapping there has lost its address already")
        for mapping in mappings:
            mapping.vaddr_valid = False
        return sum(mapping.size for mapping in mappings)

    def _remove(self, mapping: DmaMapping) -> None:
        self.mappings.remove(mapping)
        self._unlock(mapping)
        if self.dirty is not None:
            self.dirty.pop(mapping, None)

    def _covered(self, start: int, size: int) -> list[DmaMapping]:
        """The mappings that a request for this range unmaps; version 1: none from within one."""
        exact = self.mappings.exact(start, size)
        if exact is not None:
            return [exact]
        covered, at, end = [], start, start + size
        if self._finds_nothing(start, end):
            return []
        while at < end and (mapping := self.mappings.first(at, end - at)) is not None:
            covered.append(mapping)
            at = mapping.start + mapping.size
        return [] if covered and covered[0].start < start else covered

    def refuse_cut(self, start: int, size: int) -> None:
        """EINVAL: the range begins or ends within a mapping."""
        if self.mappings.exact(start, size) is not None:
            return
        low = self.mappings.first(start, 1)
        high = self.mappings.first(start + size - 1, 1)
        if (low is not None and low.start != start) or (
            high is not None and high.start + high.size != start + size
        ):
            raise KernelError(EINVAL, f"{start:#x} + {size:#x} would cut a mapping in two")


TYPE1_IOCTLS = IoctlTable(
    Row(VFIO_IOMMU_GET_INFO, Type1.get_info, Argument.ARGSZ, errnos=(EFAULT, EINVAL)),
    Row(
        VFIO_IOMMU_MAP_DMA,
        Type1.map_dma,
        Argument.ARGSZ,
        errnos=(EFAULT, EINVAL, EOVERFLOW, ENOENT, EEXIST, ENOSPC, ENOMEM),
    ),
    Row(
        VFIO_IOMMU_UNMAP_DMA,
        Type1.unmap_dma,
        Argument.ARGSZ,
        errnos=(EFAULT, EINVAL, EOVERFLOW),
    ),
    DIRTY_PAGES,
)
