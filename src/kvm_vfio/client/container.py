# SPDX-License-Identifier: GPL-2.0-only
"""A VFIO container as an object: the IOMMU context that its groups share.

Rule of this file: one method per ioctl. Its docstring says what must be so, and the errors in the
order Linux checks them; every one of them is an `OSError` with that errno.
"""

from __future__ import annotations

from typing import NamedTuple

from kvm_vfio.client.capabilities import ask_whole, capabilities
from kvm_vfio.client.handle import Handle
from kvm_vfio.syscalls import Buffer, Syscalls
from kvm_vfio.uapi.fcntl import O_CLOEXEC, O_RDWR
from kvm_vfio.uapi.vfio import (
    VFIO_CHECK_EXTENSION,
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_DMA_UNMAP_FLAG_ALL,
    VFIO_GET_API_VERSION,
    VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_INFO_CAPS,
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
    VFIO_SET_IOMMU,
    VFIO_TYPE1v2_IOMMU,
    vfio_iommu_type1_dma_unmap,
    vfio_iommu_type1_info,
    vfio_iova_range,
)


class Migration(NamedTuple):
    """Dirty page tracking: its page sizes (a bitmap, bytes) and the largest bitmap, in bytes."""

    page_sizes: int
    largest_bitmap: int


class IommuInfo(NamedTuple):
    """What an IOMMU can do.

    `page_sizes` is a bitmap of sizes in bytes; `iova_ranges` is what can be mapped, `end` included;
    `available` how many more mappings the container takes. What a kernel does not say is None.
    """

    page_sizes: int
    iova_ranges: tuple[vfio_iova_range, ...] | None = None
    available: int | None = None
    migration: Migration | None = None


class Container(Handle):
    """/dev/vfio/vfio. `fd` is one that is open already."""

    def __init__(self, syscalls: Syscalls, *, fd: int | None = None) -> None:
        """ENOENT without VFIO; EACCES without the right to use it."""
        if fd is None:
            fd = syscalls.open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC)
        super().__init__(syscalls, fd)

    def api_version(self) -> int:
        """VFIO_GET_API_VERSION: 0."""
        return self._ioctl(VFIO_GET_API_VERSION)

    def check_extension(self, extension: int) -> int:
        """VFIO_CHECK_EXTENSION: 0 for one that is not there, or not before SET_IOMMU."""
        return self._ioctl(VFIO_CHECK_EXTENSION, extension)

    def set_iommu(self, kind: int = VFIO_TYPE1v2_IOMMU) -> None:
        """VFIO_SET_IOMMU. Needs a group in the container.

        EINVAL: no group, or an IOMMU is set; ENODEV: no driver of that kind; EPERM: an IOMMU does
        not remap interrupts.
        """
        self._ioctl(VFIO_SET_IOMMU, kind)

    def info(self) -> IommuInfo:
        """VFIO_IOMMU_GET_INFO, capabilities included. Needs an IOMMU set, else EINVAL."""

        def ask(argsz: int) -> bytes:
            blank = vfio_iommu_type1_info(argsz, 0, 0, 0, 0)
            data = layout.pack(blank).ljust(argsz, b"\0")
            return self._pass(VFIO_IOMMU_GET_INFO, data)

        layout = VFIO_IOMMU_TYPE1_INFO
        answer = ask_whole(ask, layout.size)
        head = layout.unpack(answer[: layout.size])
        first = head.cap_offset if head.flags & VFIO_IOMMU_INFO_CAPS else 0
        found = dict(capabilities(answer, first))
        return IommuInfo(
            head.iova_pgsizes,
            _iova_ranges(found.get(VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)),
            _available(found.get(VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL)),
            _migration(found.get(VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION)),
        )

    def map_dma(
        self,
        memory: int | Buffer,
        iova: int,
        size: int | None = None,
        *,
        read: bool = True,
        write: bool = True,
    ) -> None:
        """VFIO_IOMMU_MAP_DMA: devices find `memory` at `iova`. Needs an IOMMU set, else EINVAL.

        `size` is in bytes, for a Buffer its length unless given; `read` and `write` are the
        device's. EINVAL: nothing allowed, not whole pages, or a range that wraps (EOVERFLOW in the
        newest kernels); EEXIST: something is mapped there; ENOSPC: too many mappings; EINVAL: out
        of the IOMMU's reach; ENOMEM: beyond what the process may lock; EFAULT: no such memory.
        """
        address = memory if isinstance(memory, int) else memory.address
        if size is None:
            if isinstance(memory, int):
                raise TypeError("memory given by its address needs a size")
            size = len(memory)
        flags = VFIO_DMA_MAP_FLAG_READ * read | VFIO_DMA_MAP_FLAG_WRITE * write
        layout = VFIO_IOMMU_TYPE1_DMA_MAP
        self._pass(VFIO_IOMMU_MAP_DMA, layout.pack_fields(layout.size, flags, address, iova, size))

    def unmap_dma(self, iova: int, size: int) -> int:
        """VFIO_IOMMU_UNMAP_DMA: the number of bytes that were mapped in the range.

        Needs an IOMMU set, else EINVAL. EINVAL: not whole pages, size 0, a range that wraps; with
        type1v2 also one that would cut a mapping in two.
        """
        return self._unmap(0, iova, size)

    def unmap_all(self) -> int:
        """VFIO_IOMMU_UNMAP_DMA of everything: the bytes. EINVAL without VFIO_UNMAP_ALL."""
        return self._unmap(VFIO_DMA_UNMAP_FLAG_ALL, 0, 0)

    def _unmap(self, flags: int, iova: int, size: int) -> int:
        layout = VFIO_IOMMU_TYPE1_DMA_UNMAP
        wanted = vfio_iommu_type1_dma_unmap(layout.size, flags, iova, size)
        return self._exchange(VFIO_IOMMU_UNMAP_DMA, layout, wanted).size


def _iova_ranges(capability: bytes | None) -> tuple[vfio_iova_range, ...] | None:
    if capability is None:
        return None
    layout = VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE_LAYOUT
    count, size = layout.unpack(capability[: layout.size]).nr_iovas, VFIO_IOVA_RANGE.size
    return tuple(
        VFIO_IOVA_RANGE.unpack(capability[at : at + size])
        for at in range(layout.size, layout.size + count * size, size)
    )


def _available(capability: bytes | None) -> int | None:
    if capability is None:
        return None
    layout = VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL_LAYOUT
    return layout.unpack(capability[: layout.size]).avail


def _migration(capability: bytes | None) -> Migration | None:
    if capability is None:
        return None
    layout = VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION_LAYOUT
    fields = layout.unpack(capability[: layout.size])
    return Migration(fields.pgsize_bitmap, fields.max_dirty_bitmap_size)
