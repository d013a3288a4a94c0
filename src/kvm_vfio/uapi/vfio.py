# SPDX-License-Identifier: GPL-2.0-only
"""linux/vfio.h: containers, groups, devices, type1, and the device side of iommufd.

Rule of this file: kernel names only, and a structure as the newest kernel has it. A structure that
ends in a flexible array is laid out as its head, and its docstring says what follows. Where the
upper-case name of a structure is taken by a request or a constant, its layout ends in `_LAYOUT`.
A field called `index` or `count` hides the method that every tuple has, since kernel names win.

Every request is an _IO, so its number says nothing about the argument, and the numbers from 111 up
are given out once per kind of file: 113 is PCI_HOT_RESET on a device and MAP_DMA on a container.
The tables at the end say which file takes what.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kvm_vfio.uapi.layout import INT32, Layout, Request, io, s32, u8, u16, u32, u64

VFIO_API_VERSION = 0
VFIO_TYPE = ord(";")
VFIO_BASE = 100


def _request(name: str, number: int, layout: Layout[Any] | None = None) -> Request:
    return io(name, VFIO_TYPE, VFIO_BASE + number, layout)


class vfio_info_cap_header(NamedTuple):
    """One link of a capability chain; `next` is an offset into the whole answer, 0 at the end."""

    id: u16
    version: u16
    next: u32


VFIO_INFO_CAP_HEADER = Layout(vfio_info_cap_header, size=8)

# -- container ------------------------------------------------------------------------------------

VFIO_GET_API_VERSION = _request("VFIO_GET_API_VERSION", 0)
VFIO_CHECK_EXTENSION = _request("VFIO_CHECK_EXTENSION", 1)
VFIO_SET_IOMMU = _request("VFIO_SET_IOMMU", 2)

# Extensions: the argument of CHECK_EXTENSION; the kinds of IOMMU among them, also of SET_IOMMU.
VFIO_TYPE1_IOMMU = 1
VFIO_SPAPR_TCE_IOMMU = 2
VFIO_TYPE1v2_IOMMU = 3
VFIO_DMA_CC_IOMMU = 4
VFIO_EEH = 5
VFIO_TYPE1_NESTING_IOMMU = 6
VFIO_SPAPR_TCE_v2_IOMMU = 7
VFIO_NOIOMMU_IOMMU = 8
VFIO_UNMAP_ALL = 9
VFIO_UPDATE_VADDR = 10

# -- container with a type1 IOMMU -----------------------------------------------------------------


class vfio_iommu_type1_info(NamedTuple):
    """`iova_pgsizes` is a bitmap of page sizes; the capability chain begins at `cap_offset`."""

    argsz: u32
    flags: u32
    iova_pgsizes: u64
    cap_offset: u32
    pad: u32


VFIO_IOMMU_TYPE1_INFO = Layout(vfio_iommu_type1_info, size=24)
VFIO_IOMMU_INFO_PGSIZES = 1 << 0
VFIO_IOMMU_INFO_CAPS = 1 << 1

VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE = 1
VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION = 2
VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL = 3


class vfio_iova_range(NamedTuple):
    """Usable iovas, `end` included."""

    start: u64
    end: u64


VFIO_IOVA_RANGE = Layout(vfio_iova_range, size=16)


class vfio_iommu_type1_info_cap_iova_range(NamedTuple):
    """`nr_iovas` times vfio_iova_range follow."""

    id: u16
    version: u16
    next: u32
    nr_iovas: u32
    reserved: u32


VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE_LAYOUT = Layout(vfio_iommu_type1_info_cap_iova_range, size=16)


class vfio_iommu_type1_info_cap_migration(NamedTuple):
    """`pgsize_bitmap`: page sizes of dirty tracking; `max_dirty_bitmap_size` in bytes."""

    id: u16
    version: u16
    next: u32
    flags: u32
    pad: u32
    pgsize_bitmap: u64
    max_dirty_bitmap_size: u64


VFIO_IOMMU_TYPE1_INFO_CAP_MIGRATION_LAYOUT = Layout(vfio_iommu_type1_info_cap_migration, size=32)


class vfio_iommu_type1_info_dma_avail(NamedTuple):
    """`avail`: how many more mappings the container takes."""

    id: u16
    version: u16
    next: u32
    avail: u32


VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL_LAYOUT = Layout(vfio_iommu_type1_info_dma_avail, size=12)


class vfio_iommu_type1_dma_map(NamedTuple):
    """Map `size` bytes of the caller's memory at `vaddr` to `iova`."""

    argsz: u32
    flags: u32
    vaddr: u64
    iova: u64
    size: u64


VFIO_IOMMU_TYPE1_DMA_MAP = Layout(vfio_iommu_type1_dma_map, size=32)
VFIO_DMA_MAP_FLAG_READ = 1 << 0
VFIO_DMA_MAP_FLAG_WRITE = 1 << 1
VFIO_DMA_MAP_FLAG_VADDR = 1 << 2


class vfio_iommu_type1_dma_unmap(NamedTuple):
    """`size` comes back as the bytes unmapped; a vfio_bitmap follows with GET_DIRTY_BITMAP."""

    argsz: u32
    flags: u32
    iova: u64
    size: u64


VFIO_IOMMU_TYPE1_DMA_UNMAP = Layout(vfio_iommu_type1_dma_unmap, size=24)
VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 1 << 0
VFIO_DMA_UNMAP_FLAG_ALL = 1 << 1
VFIO_DMA_UNMAP_FLAG_VADDR = 1 << 2


class vfio_bitmap(NamedTuple):
    """One bit a page of `pgsize` bytes, in `size` bytes of the caller's memory at `data`."""

    pgsize: u64
    size: u64
    data: u64


VFIO_BITMAP = Layout(vfio_bitmap, size=24)


class vfio_iommu_type1_dirty_bitmap(NamedTuple):
    """A vfio_iommu_type1_dirty_bitmap_get follows with FLAG_GET_BITMAP."""

    argsz: u32
    flags: u32


VFIO_IOMMU_TYPE1_DIRTY_BITMAP = Layout(vfio_iommu_type1_dirty_bitmap, size=8)
VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1 << 0
VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 1 << 1
VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 1 << 2


class vfio_iommu_type1_dirty_bitmap_get(NamedTuple):
    """`iova` and `size` in bytes; then the members of a vfio_bitmap."""

    iova: u64
    size: u64
    bitmap_pgsize: u64
    bitmap_size: u64
    bitmap_data: u64


VFIO_IOMMU_TYPE1_DIRTY_BITMAP_GET = Layout(vfio_iommu_type1_dirty_bitmap_get, size=40)

VFIO_IOMMU_GET_INFO = _request("VFIO_IOMMU_GET_INFO", 12, VFIO_IOMMU_TYPE1_INFO)
VFIO_IOMMU_MAP_DMA = _request("VFIO_IOMMU_MAP_DMA", 13, VFIO_IOMMU_TYPE1_DMA_MAP)
VFIO_IOMMU_UNMAP_DMA = _request("VFIO_IOMMU_UNMAP_DMA", 14, VFIO_IOMMU_TYPE1_DMA_UNMAP)
VFIO_IOMMU_ENABLE = _request("VFIO_IOMMU_ENABLE", 15)
VFIO_IOMMU_DISABLE = _request("VFIO_IOMMU_DISABLE", 16)
VFIO_IOMMU_DIRTY_PAGES = _request("VFIO_IOMMU_DIRTY_PAGES", 17, VFIO_IOMMU_TYPE1_DIRTY_BITMAP)

# -- group ----------------------------------------------------------------------------------------


class vfio_group_status(NamedTuple):
    """`argsz` in, `flags` out."""

    argsz: u32
    flags: u32


VFIO_GROUP_STATUS = Layout(vfio_group_status, size=8)
VFIO_GROUP_FLAGS_VIABLE = 1 << 0
VFIO_GROUP_FLAGS_CONTAINER_SET = 1 << 1

VFIO_GROUP_GET_STATUS = _request("VFIO_GROUP_GET_STATUS", 3, VFIO_GROUP_STATUS)
VFIO_GROUP_SET_CONTAINER = _request("VFIO_GROUP_SET_CONTAINER", 4, INT32)
VFIO_GROUP_UNSET_CONTAINER = _request("VFIO_GROUP_UNSET_CONTAINER", 5)
VFIO_GROUP_GET_DEVICE_FD = _request("VFIO_GROUP_GET_DEVICE_FD", 6)  # a string

# -- device: what it is ---------------------------------------------------------------------------


class vfio_device_info(NamedTuple):
    """Counts of region and IRQ indices. In 6.1 it ends at `cap_offset`: 20 bytes."""

    argsz: u32
    flags: u32
    num_regions: u32
    num_irqs: u32
    cap_offset: u32
    pad: u32


VFIO_DEVICE_INFO = Layout(vfio_device_info, size=24)
VFIO_DEVICE_FLAGS_RESET = 1 << 0
VFIO_DEVICE_FLAGS_PCI = 1 << 1
VFIO_DEVICE_FLAGS_PLATFORM = 1 << 2
VFIO_DEVICE_FLAGS_AMBA = 1 << 3
VFIO_DEVICE_FLAGS_CCW = 1 << 4
VFIO_DEVICE_FLAGS_AP = 1 << 5
VFIO_DEVICE_FLAGS_FSL_MC = 1 << 6
VFIO_DEVICE_FLAGS_CAPS = 1 << 7
VFIO_DEVICE_FLAGS_CDX = 1 << 8

VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP = 5

VFIO_DEVICE_GET_INFO = _request("VFIO_DEVICE_GET_INFO", 7, VFIO_DEVICE_INFO)

# -- device: regions ------------------------------------------------------------------------------


class vfio_region_info(NamedTuple):
    """`index` in; `size` in bytes and `offset` into the device's file out."""

    argsz: u32
    flags: u32
    index: u32  # type: ignore[assignment]  # hides tuple.index
    cap_offset: u32
    size: u64
    offset: u64


VFIO_REGION_INFO = Layout(vfio_region_info, size=32)
VFIO_REGION_INFO_FLAG_READ = 1 << 0
VFIO_REGION_INFO_FLAG_WRITE = 1 << 1
VFIO_REGION_INFO_FLAG_MMAP = 1 << 2
VFIO_REGION_INFO_FLAG_CAPS = 1 << 3

VFIO_REGION_INFO_CAP_SPARSE_MMAP = 1
VFIO_REGION_INFO_CAP_TYPE = 2
VFIO_REGION_INFO_CAP_MSIX_MAPPABLE = 3  # a bare header


class vfio_region_sparse_mmap_area(NamedTuple):
    """A part of a region that can be mapped: `offset` into the region and `size`, in bytes."""

    offset: u64
    size: u64


VFIO_REGION_SPARSE_MMAP_AREA = Layout(vfio_region_sparse_mmap_area, size=16)


class vfio_region_info_cap_sparse_mmap(NamedTuple):
    """`nr_areas` times vfio_region_sparse_mmap_area follow."""

    id: u16
    version: u16
    next: u32
    nr_areas: u32
    reserved: u32


VFIO_REGION_INFO_CAP_SPARSE_MMAP_LAYOUT = Layout(vfio_region_info_cap_sparse_mmap, size=16)


class vfio_region_info_cap_type(NamedTuple):
    """What a region beyond the fixed ones is."""

    id: u16
    version: u16
    next: u32
    type: u32
    subtype: u32


VFIO_REGION_INFO_CAP_TYPE_LAYOUT = Layout(vfio_region_info_cap_type, size=16)

VFIO_PCI_BAR0_REGION_INDEX = 0
VFIO_PCI_BAR1_REGION_INDEX = 1
VFIO_PCI_BAR2_REGION_INDEX = 2
VFIO_PCI_BAR3_REGION_INDEX = 3
VFIO_PCI_BAR4_REGION_INDEX = 4
VFIO_PCI_BAR5_REGION_INDEX = 5
VFIO_PCI_ROM_REGION_INDEX = 6
VFIO_PCI_CONFIG_REGION_INDEX = 7
VFIO_PCI_VGA_REGION_INDEX = 8
VFIO_PCI_NUM_REGIONS = 9

VFIO_DEVICE_GET_REGION_INFO = _request("VFIO_DEVICE_GET_REGION_INFO", 8, VFIO_REGION_INFO)

# -- device: interrupts ---------------------------------------------------------------------------


class vfio_irq_info(NamedTuple):
    """`index` in; `count` of interrupts behind it out."""

    argsz: u32
    flags: u32
    index: u32  # type: ignore[assignment]  # hides tuple.index
    count: u32  # type: ignore[assignment]  # hides tuple.count


VFIO_IRQ_INFO = Layout(vfio_irq_info, size=16)
VFIO_IRQ_INFO_EVENTFD = 1 << 0
VFIO_IRQ_INFO_MASKABLE = 1 << 1
VFIO_IRQ_INFO_AUTOMASKED = 1 << 2
VFIO_IRQ_INFO_NORESIZE = 1 << 3


class vfio_irq_set(NamedTuple):
    """`count` times nothing, u8 or s32 follow, as the DATA flag says."""

    argsz: u32
    flags: u32
    index: u32  # type: ignore[assignment]  # hides tuple.index
    start: u32
    count: u32  # type: ignore[assignment]  # hides tuple.count


VFIO_IRQ_SET = Layout(vfio_irq_set, size=20)
VFIO_IRQ_SET_DATA_NONE = 1 << 0
VFIO_IRQ_SET_DATA_BOOL = 1 << 1
VFIO_IRQ_SET_DATA_EVENTFD = 1 << 2
VFIO_IRQ_SET_ACTION_MASK = 1 << 3
VFIO_IRQ_SET_ACTION_UNMASK = 1 << 4
VFIO_IRQ_SET_ACTION_TRIGGER = 1 << 5
VFIO_IRQ_SET_DATA_TYPE_MASK = 0x07
VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38

VFIO_PCI_INTX_IRQ_INDEX = 0
VFIO_PCI_MSI_IRQ_INDEX = 1
VFIO_PCI_MSIX_IRQ_INDEX = 2
VFIO_PCI_ERR_IRQ_INDEX = 3
VFIO_PCI_REQ_IRQ_INDEX = 4
VFIO_PCI_NUM_IRQS = 5

VFIO_DEVICE_GET_IRQ_INFO = _request("VFIO_DEVICE_GET_IRQ_INFO", 9, VFIO_IRQ_INFO)
VFIO_DEVICE_SET_IRQS = _request("VFIO_DEVICE_SET_IRQS", 10, VFIO_IRQ_SET)

# -- device: reset --------------------------------------------------------------------------------


class vfio_pci_dependent_device(NamedTuple):
    """A function that a hot reset takes along; `group_id` is a devid with FLAG_DEV_ID."""

    group_id: u32
    segment: u16
    bus: u8
    devfn: u8


VFIO_PCI_DEPENDENT_DEVICE = Layout(vfio_pci_dependent_device, size=8)


class vfio_pci_hot_reset_info(NamedTuple):
    """`count` times vfio_pci_dependent_device follow."""

    argsz: u32
    flags: u32
    count: u32  # type: ignore[assignment]  # hides tuple.count


VFIO_PCI_HOT_RESET_INFO = Layout(vfio_pci_hot_reset_info, size=12)
VFIO_PCI_HOT_RESET_FLAG_DEV_ID = 1 << 0
VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED = 1 << 1


class vfio_pci_hot_reset(NamedTuple):
    """`count` times s32 follow: group fds that show ownership."""

    argsz: u32
    flags: u32
    count: u32  # type: ignore[assignment]  # hides tuple.count


VFIO_PCI_HOT_RESET = Layout(vfio_pci_hot_reset, size=12)

VFIO_DEVICE_RESET = _request("VFIO_DEVICE_RESET", 11)
VFIO_DEVICE_GET_PCI_HOT_RESET_INFO = _request(
    "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", 12, VFIO_PCI_HOT_RESET_INFO
)
VFIO_DEVICE_PCI_HOT_RESET = _request("VFIO_DEVICE_PCI_HOT_RESET", 13, VFIO_PCI_HOT_RESET)

# -- device: the rest -----------------------------------------------------------------------------


class vfio_device_gfx_plane_info(NamedTuple):
    """A plane of a virtual display; `region_index` is a dma-buf id with PLANE_TYPE_DMABUF."""

    argsz: u32
    flags: u32
    drm_plane_type: u32
    drm_format: u32
    drm_format_mod: u64
    width: u32
    height: u32
    stride: u32
    size: u32
    x_pos: u32
    y_pos: u32
    x_hot: u32
    y_hot: u32
    region_index: u32
    reserved: u32


VFIO_DEVICE_GFX_PLANE_INFO = Layout(vfio_device_gfx_plane_info, size=64)
VFIO_GFX_PLANE_TYPE_PROBE = 1 << 0
VFIO_GFX_PLANE_TYPE_DMABUF = 1 << 1
VFIO_GFX_PLANE_TYPE_REGION = 1 << 2


class vfio_device_ioeventfd(NamedTuple):
    """Writing `data` at `offset` of the device's file fires `fd`; -1 takes it away again."""

    argsz: u32
    flags: u32
    offset: u64
    data: u64
    fd: s32
    reserved: u32


VFIO_DEVICE_IOEVENTFD_LAYOUT = Layout(vfio_device_ioeventfd, size=32)
VFIO_DEVICE_IOEVENTFD_8 = 1 << 0
VFIO_DEVICE_IOEVENTFD_16 = 1 << 1
VFIO_DEVICE_IOEVENTFD_32 = 1 << 2
VFIO_DEVICE_IOEVENTFD_64 = 1 << 3
VFIO_DEVICE_IOEVENTFD_SIZE_MASK = 0xF


class vfio_device_feature(NamedTuple):
    """The feature's own structure follows; its index is in the low 16 bits of `flags`."""

    argsz: u32
    flags: u32


VFIO_DEVICE_FEATURE_LAYOUT = Layout(vfio_device_feature, size=8)
VFIO_DEVICE_FEATURE_MASK = 0xFFFF
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_PROBE = 1 << 18

VFIO_DEVICE_FEATURE_PCI_VF_TOKEN = 0
VFIO_DEVICE_FEATURE_MIGRATION = 1
VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE = 2
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY = 3
VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP = 4
VFIO_DEVICE_FEATURE_LOW_POWER_EXIT = 5
VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6
VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7
VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8
VFIO_DEVICE_FEATURE_MIG_DATA_SIZE = 9
VFIO_DEVICE_FEATURE_BUS_MASTER = 10
VFIO_DEVICE_FEATURE_DMA_BUF = 11
VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2 = 12  # the kernel's name


class vfio_device_low_power_entry_with_wakeup(NamedTuple):
    """What follows vfio_device_feature there."""

    wakeup_eventfd: s32
    reserved: u32


VFIO_DEVICE_LOW_POWER_ENTRY_WITH_WAKEUP = Layout(vfio_device_low_power_entry_with_wakeup, size=8)

VFIO_DEVICE_QUERY_GFX_PLANE = _request(
    "VFIO_DEVICE_QUERY_GFX_PLANE", 14, VFIO_DEVICE_GFX_PLANE_INFO
)
VFIO_DEVICE_GET_GFX_DMABUF = _request("VFIO_DEVICE_GET_GFX_DMABUF", 15, INT32)
VFIO_DEVICE_IOEVENTFD = _request("VFIO_DEVICE_IOEVENTFD", 16, VFIO_DEVICE_IOEVENTFD_LAYOUT)
VFIO_DEVICE_FEATURE = _request("VFIO_DEVICE_FEATURE", 17, VFIO_DEVICE_FEATURE_LAYOUT)

# -- device opened by its own node: iommufd -------------------------------------------------------


class vfio_device_bind_iommufd(NamedTuple):
    """In 6.12 it ends at `out_devid`: 16 bytes."""

    argsz: u32
    flags: u32
    iommufd: s32
    out_devid: u32
    token_uuid_ptr: u64


VFIO_DEVICE_BIND_IOMMUFD_LAYOUT = Layout(vfio_device_bind_iommufd, size=24)


class vfio_device_attach_iommufd_pt(NamedTuple):
    """In 6.12 it ends at `pt_id`: 12 bytes."""

    argsz: u32
    flags: u32
    pt_id: u32
    pasid: u32


VFIO_DEVICE_ATTACH_IOMMUFD_PT_LAYOUT = Layout(vfio_device_attach_iommufd_pt, size=16)


class vfio_device_detach_iommufd_pt(NamedTuple):
    """In 6.12 it ends at `flags`: 8 bytes."""

    argsz: u32
    flags: u32
    pasid: u32


VFIO_DEVICE_DETACH_IOMMUFD_PT_LAYOUT = Layout(vfio_device_detach_iommufd_pt, size=12)

VFIO_DEVICE_BIND_IOMMUFD = _request("VFIO_DEVICE_BIND_IOMMUFD", 18, VFIO_DEVICE_BIND_IOMMUFD_LAYOUT)
VFIO_DEVICE_ATTACH_IOMMUFD_PT = _request(
    "VFIO_DEVICE_ATTACH_IOMMUFD_PT", 19, VFIO_DEVICE_ATTACH_IOMMUFD_PT_LAYOUT
)
VFIO_DEVICE_DETACH_IOMMUFD_PT = _request(
    "VFIO_DEVICE_DETACH_IOMMUFD_PT", 20, VFIO_DEVICE_DETACH_IOMMUFD_PT_LAYOUT
)

# -- which file takes what ------------------------------------------------------------------------


def _by_number(*requests: Request) -> Mapping[int, Request]:
    return {int(request): request for request in requests}


CONTAINER_REQUESTS = _by_number(
    VFIO_GET_API_VERSION,
    VFIO_CHECK_EXTENSION,
    VFIO_SET_IOMMU,
    VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_MAP_DMA,
    VFIO_IOMMU_UNMAP_DMA,
    VFIO_IOMMU_ENABLE,
    VFIO_IOMMU_DISABLE,
    VFIO_IOMMU_DIRTY_PAGES,
)
GROUP_REQUESTS = _by_number(
    VFIO_GROUP_GET_STATUS,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_GROUP_UNSET_CONTAINER,
    VFIO_GROUP_GET_DEVICE_FD,
)
DEVICE_REQUESTS = _by_number(
    VFIO_DEVICE_GET_INFO,
    VFIO_DEVICE_GET_REGION_INFO,
    VFIO_DEVICE_GET_IRQ_INFO,
    VFIO_DEVICE_SET_IRQS,
    VFIO_DEVICE_RESET,
    VFIO_DEVICE_GET_PCI_HOT_RESET_INFO,
    VFIO_DEVICE_PCI_HOT_RESET,
    VFIO_DEVICE_QUERY_GFX_PLANE,
    VFIO_DEVICE_GET_GFX_DMABUF,
    VFIO_DEVICE_IOEVENTFD,
    VFIO_DEVICE_FEATURE,
    VFIO_DEVICE_BIND_IOMMUFD,
    VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    VFIO_DEVICE_DETACH_IOMMUFD_PT,
)
