# SPDX-License-Identifier: GPL-2.0-only
"""Dirty page tracking of type1 (drivers/vfio/vfio_iommu_type1.c): what devices may have written.

Rule of this file: no device here tells which pages it writes, so while tracking is on every page
that is mapped counts as dirty. What is left to know is which bitmaps Linux takes, and how it fills
them.

A bit stands for a page of the smallest size that the IOMMU has. A mapping keeps a bitmap of its
own. To report it, Linux shifts that bitmap, in place, to where the mapping is in the answer, adds
the bits that the answer has before it, and afterwards clears only as many bits as the mapping has
pages: what was shifted beyond them is reported again. That was measured on four kernels, so a
program can see it, and here it is.
"""

from __future__ import annotations

from errno import EACCES, EFAULT, EINVAL, ENOMEM, ENOTTY, EOVERFLOW
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, Row
from kvm_vfio.uapi.vfio import (
    VFIO_BITMAP,
    VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
    VFIO_IOMMU_DIRTY_PAGES,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_START,
    VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP,
    VFIO_IOMMU_TYPE1_DIRTY_BITMAP,
    VFIO_IOMMU_TYPE1_DIRTY_BITMAP_GET,
    VFIO_IOMMU_TYPE1_DMA_UNMAP,
    vfio_bitmap,
    vfio_iommu_type1_dma_unmap,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.kernel.vfio.type1 import DmaMapping, Type1

BITMAP_LIMIT = 256 << 20  # bytes of bitmap the driver takes
_PAGE = 4096
_WORD = 64  # bits of an unsigned long, in which bitmaps are counted
_TOP = 1 << 64
_USER_TOP = (1 << 47) - _PAGE  # where a program's memory ends


def dirty_pages(iommu: Type1, task: Task, arg: int) -> int:
    """VFIO_IOMMU_DIRTY_PAGES.

    ENOTTY in kernels without it; EACCES: type1 version 1; EFAULT; EINVAL: argsz, flags, not exactly
    one of them; ENOMEM (START); then as `_get_bitmap`. START while tracking is on, and STOP while
    it is not, are 0.
    """
    if not iommu.kernel.profile.dirty_page_tracking:
        raise KernelError(ENOTTY, "this kernel tracks no dirty pages")
    if not iommu.v2:
        raise KernelError(EACCES, "only version 2 of type1 tracks dirty pages")
    layout = VFIO_IOMMU_TYPE1_DIRTY_BITMAP
    wanted = layout.unpack(task.copy_from_user(arg, layout.size))
    if wanted.argsz < layout.size:
        raise KernelError(EINVAL, f"argsz {wanted.argsz} is less than {layout.size}")
    with iommu.lock:
        if wanted.flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_START:
            _start(iommu)
        elif wanted.flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP:
            iommu.dirty = None
        elif wanted.flags == VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP:
            _get_bitmap(iommu, task, arg, wanted.argsz)
        else:
            raise KernelError(EINVAL, "exactly one of START, STOP and GET_BITMAP is asked")
    return 0


def _start(iommu: Type1) -> None:
    if iommu.dirty is None:
        iommu.kernel.allocate("vfio_dma bitmap")
        iommu.dirty = {}


def _get_bitmap(iommu: Type1, task: Task, arg: int, argsz: int) -> None:
    """GET_BITMAP.

    EINVAL: argsz; EFAULT; EINVAL (EOVERFLOW in newer kernels): a range that wraps; EINVAL: see
    `_check_bitmap`, not the smallest page size, no whole pages, tracking is off, the range cuts a
    mapping in two; EFAULT: the bitmap cannot be written.
    """
    layout = VFIO_IOMMU_TYPE1_DIRTY_BITMAP_GET
    head = VFIO_IOMMU_TYPE1_DIRTY_BITMAP.size
    if argsz - head < layout.size:
        raise KernelError(EINVAL, f"argsz {argsz} leaves no room for a range and its bitmap")
    asked = layout.unpack(task.copy_from_user(arg + head, layout.size))
    bitmap = vfio_bitmap(asked.bitmap_pgsize, asked.bitmap_size, asked.bitmap_data)
    iommu.refuse_wrap(asked.iova, asked.size)
    _check_bitmap(bitmap, asked.size)
    if bitmap.pgsize != _PAGE or asked.iova % _PAGE or not asked.size or asked.size % _PAGE:
        raise KernelError(EINVAL, f"a bit stands for {_PAGE} bytes, and the range is whole pages")
    if iommu.dirty is None:
        raise KernelError(EINVAL, "dirty page tracking has not been started")
    iommu.refuse_cut(asked.iova, asked.size)
    at, end = asked.iova, asked.iova + asked.size
    while at < end and (mapping := iommu.mappings.first(at, end - at)) is not None:
        _report(iommu.dirty, task, mapping, bitmap.data, asked.iova)
        pages = mapping.size // _PAGE
        iommu.dirty[mapping] = iommu.dirty[mapping] >> pages << pages
        at = mapping.start + mapping.size


def wanted_bitmap(
    iommu: Type1, task: Task, arg: int, wanted: vfio_iommu_type1_dma_unmap
) -> int | None:
    """The address of the bitmap that UNMAP_DMA shall fill; None without GET_DIRTY_BITMAP.

    EINVAL: argsz; EFAULT; EINVAL: see `_check_bitmap`, tracking is off, not the smallest page size.
    """
    if not wanted.flags & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP:
        return None
    at = VFIO_IOMMU_TYPE1_DMA_UNMAP.size
    if wanted.argsz < at + VFIO_BITMAP.size:
        raise KernelError(EINVAL, f"argsz {wanted.argsz} leaves no room for a bitmap")
    bitmap = VFIO_BITMAP.unpack(task.copy_from_user(arg + at, VFIO_BITMAP.size))
    _check_bitmap(bitmap, wanted.size)
    if iommu.dirty is None or bitmap.pgsize != _PAGE:
        raise KernelError(EINVAL, f"tracking is off, or a bit is not for {_PAGE} bytes")
    return bitmap.data


def report_unmapped(iommu: Type1, task: Task, mapping: DmaMapping, data: int, base: int) -> None:
    """Put the bits of a mapping that goes into the bitmap at `data`, which begins at iova `base`.

    EFAULT.
    """
    if iommu.dirty is not None:
        _report(iommu.dirty, task, mapping, data, base)


def _check_bitmap(bitmap: vfio_bitmap, size: int) -> None:
    """verify_bitmap_size, and that it is the program's memory. EINVAL."""
    pages = size // bitmap.pgsize if bitmap.pgsize else 0
    needed = -(-pages // _WORD) * _WORD // 8
    if not pages or not needed <= bitmap.size <= BITMAP_LIMIT:
        raise KernelError(EINVAL, f"{pages} pages need a bitmap of {needed} bytes")
    if bitmap.data + bitmap.size > _USER_TOP:
        raise KernelError(EINVAL, f"{bitmap.data:#x} is no address of the program's")


def _report(
    dirty: dict[DmaMapping, int], task: Task, mapping: DmaMapping, data: int, base: int
) -> None:
    """update_user_bitmap: the mapping's bits, shifted to their place. EFAULT."""
    pages = mapping.size // _PAGE
    bits = dirty.get(mapping, 0) | (1 << pages) - 1
    words, shift = divmod((mapping.start - base) // _PAGE, _WORD)
    place = data + words * _WORD // 8
    size = -(-(pages + shift) // _WORD) * _WORD // 8
    if shift:
        before = int.from_bytes(task.copy_from_user(place, _WORD // 8), "little")
        bits = (bits << shift | before & (1 << shift) - 1) & (1 << size * 8) - 1
    dirty[mapping] = bits
    task.copy_to_user(place, bits.to_bytes(size, "little"))


DIRTY_PAGES = Row(
    VFIO_IOMMU_DIRTY_PAGES,
    dirty_pages,
    Argument.ARGSZ,
    errnos=(ENOTTY, EACCES, EFAULT, EINVAL, ENOMEM, EOVERFLOW),
)
