# SPDX-License-Identifier: GPL-2.0-only
"""linux/kvm.h and asm/kvm.h: what a VM is asked for, its memory, interrupts, events and clock.

Rule of this file: kernel names only, each with the value every kernel gives it. A request whose
number says nothing of its structure (_IO) has it noted here all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from kvm_vfio.uapi.kvm import KVMIO
from kvm_vfio.uapi.layout import (
    UINT64,
    Layout,
    Request,
    io,
    ior,
    iow,
    iowr,
    s32,
    s64,
    u8,
    u16,
    u32,
    u64,
)

# -- memory ---------------------------------------------------------------------------------------


class kvm_userspace_memory_region(NamedTuple):
    """Guest memory from `guest_phys_addr` is the caller's from `userspace_addr`. Bytes."""

    slot: u32  # the address space in bits 16 to 31
    flags: u32
    guest_phys_addr: u64
    memory_size: u64
    userspace_addr: u64


class kvm_userspace_memory_region2(NamedTuple):
    """The same, with private memory from `guest_memfd_offset` of a guest_memfd."""

    slot: u32
    flags: u32
    guest_phys_addr: u64
    memory_size: u64
    userspace_addr: u64
    guest_memfd_offset: u64
    guest_memfd: u32
    pad1: u32
    pad2: Annotated[bytes, "112s"]


class kvm_dirty_log(NamedTuple):
    """`dirty_bitmap` is a user address: one bit a page, in whole u64."""

    slot: u32
    padding1: u32
    dirty_bitmap: u64


class kvm_clear_dirty_log(NamedTuple):
    """The pages are counted from the slot's beginning."""

    slot: u32
    num_pages: u32
    first_page: u64
    dirty_bitmap: u64


KVM_USERSPACE_MEMORY_REGION = Layout(kvm_userspace_memory_region, size=32)
KVM_USERSPACE_MEMORY_REGION2 = Layout(kvm_userspace_memory_region2, size=160)
KVM_DIRTY_LOG = Layout(kvm_dirty_log, size=16)
KVM_CLEAR_DIRTY_LOG_LAYOUT = Layout(kvm_clear_dirty_log, size=24)

KVM_MEM_LOG_DIRTY_PAGES = 1 << 0
KVM_MEM_READONLY = 1 << 1
KVM_MEM_GUEST_MEMFD = 1 << 2

KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE = 1 << 0
KVM_DIRTY_LOG_INITIALLY_SET = 1 << 1

KVM_GET_DIRTY_LOG = iow("KVM_GET_DIRTY_LOG", KVMIO, 0x42, KVM_DIRTY_LOG)
KVM_SET_NR_MMU_PAGES = io("KVM_SET_NR_MMU_PAGES", KVMIO, 0x44)
KVM_GET_NR_MMU_PAGES = io("KVM_GET_NR_MMU_PAGES", KVMIO, 0x45)
KVM_SET_USER_MEMORY_REGION = iow(
    "KVM_SET_USER_MEMORY_REGION", KVMIO, 0x46, KVM_USERSPACE_MEMORY_REGION
)
KVM_SET_TSS_ADDR = io("KVM_SET_TSS_ADDR", KVMIO, 0x47)
KVM_SET_IDENTITY_MAP_ADDR = iow("KVM_SET_IDENTITY_MAP_ADDR", KVMIO, 0x48, UINT64)
KVM_SET_USER_MEMORY_REGION2 = iow(
    "KVM_SET_USER_MEMORY_REGION2", KVMIO, 0x49, KVM_USERSPACE_MEMORY_REGION2
)
KVM_CLEAR_DIRTY_LOG = iowr("KVM_CLEAR_DIRTY_LOG", KVMIO, 0xC0, KVM_CLEAR_DIRTY_LOG_LAYOUT)
KVM_RESET_DIRTY_RINGS = io("KVM_RESET_DIRTY_RINGS", KVMIO, 0xC7)

# -- interrupt controllers ------------------------------------------------------------------------


class kvm_irq_level(NamedTuple):
    """`irq` is a GSI in, and with KVM_IRQ_LINE_STATUS the delivery's status out."""

    irq: u32
    level: u32


class kvm_irqchip(NamedTuple):
    """`chip` is a kvm_pic_state or a kvm_ioapic_state, and what is left of 512 bytes."""

    chip_id: u32
    pad: u32
    chip: Annotated[bytes, "512s"]


class kvm_pic_state(NamedTuple):
    """One of the two i8259s."""

    last_irr: u8
    irr: u8
    imr: u8
    isr: u8
    priority_add: u8
    irq_base: u8
    read_reg_select: u8
    poll: u8
    special_mask: u8
    init_state: u8
    auto_eoi: u8
    rotate_on_auto_eoi: u8
    special_fully_nested_mode: u8
    init4: u8
    elcr: u8
    elcr_mask: u8


class kvm_ioapic_state(NamedTuple):
    """The IOAPIC; `redirtbl` has 24 entries of 8 bytes."""

    base_address: u64
    ioregsel: u32
    id: u32
    irr: u32
    pad: u32
    redirtbl: Annotated[bytes, "192s"]


class kvm_irq_routing(NamedTuple):
    """The head; `nr` entries follow."""

    nr: u32
    flags: u32


class kvm_irq_routing_entry(NamedTuple):
    """What the words mean says `type`: a chip and its pin; an MSI's address and data; and so on."""

    gsi: u32
    type: u32
    flags: u32
    pad: u32
    word0: u32
    word1: u32
    word2: u32
    word3: u32
    rest: Annotated[bytes, "16s"]


class kvm_msi(NamedTuple):
    """A message to the local APICs."""

    address_lo: u32
    address_hi: u32
    data: u32
    flags: u32
    devid: u32
    pad: Annotated[bytes, "12s"]


KVM_IRQ_LEVEL = Layout(kvm_irq_level, size=8)
KVM_IRQCHIP = Layout(kvm_irqchip, size=520)
KVM_PIC_STATE = Layout(kvm_pic_state, size=16)
KVM_IOAPIC_STATE = Layout(kvm_ioapic_state, size=216)
KVM_IRQ_ROUTING = Layout(kvm_irq_routing, size=8)
KVM_IRQ_ROUTING_ENTRY = Layout(kvm_irq_routing_entry, size=48)
KVM_MSI = Layout(kvm_msi, size=32)

KVM_IRQCHIP_PIC_MASTER = 0
KVM_IRQCHIP_PIC_SLAVE = 1
KVM_IRQCHIP_IOAPIC = 2
KVM_IOAPIC_NUM_PINS = 24

KVM_IRQ_ROUTING_IRQCHIP = 1
KVM_IRQ_ROUTING_MSI = 2
KVM_IRQ_ROUTING_HV_SINT = 4
KVM_IRQ_ROUTING_XEN_EVTCHN = 5

KVM_MSI_VALID_DEVID = 1 << 0

KVM_CREATE_IRQCHIP = io("KVM_CREATE_IRQCHIP", KVMIO, 0x60)
KVM_IRQ_LINE = iow("KVM_IRQ_LINE", KVMIO, 0x61, KVM_IRQ_LEVEL)
KVM_GET_IRQCHIP = iowr("KVM_GET_IRQCHIP", KVMIO, 0x62, KVM_IRQCHIP)
KVM_SET_IRQCHIP = ior("KVM_SET_IRQCHIP", KVMIO, 0x63, KVM_IRQCHIP)
KVM_IRQ_LINE_STATUS = iowr("KVM_IRQ_LINE_STATUS", KVMIO, 0x67, KVM_IRQ_LEVEL)
KVM_SET_GSI_ROUTING = iow("KVM_SET_GSI_ROUTING", KVMIO, 0x6A, KVM_IRQ_ROUTING)
KVM_SET_BOOT_CPU_ID = io("KVM_SET_BOOT_CPU_ID", KVMIO, 0x78)
KVM_SIGNAL_MSI = iow("KVM_SIGNAL_MSI", KVMIO, 0xA5, KVM_MSI)

# -- the timer ------------------------------------------------------------------------------------


class kvm_pit_channel_state(NamedTuple):
    """One counter of the i8254; `count_load_time` in nanoseconds of the host's clock."""

    count: u32  # type: ignore[assignment]  # hides tuple.count
    latched_count: u16
    count_latched: u8
    status_latched: u8
    status: u8
    read_state: u8
    write_state: u8
    write_latch: u8
    rw_mode: u8
    mode: u8
    bcd: u8
    gate: u8
    count_load_time: s64


class kvm_pit_state(NamedTuple):
    """Three kvm_pit_channel_state."""

    channels: Annotated[bytes, "72s"]


class kvm_pit_state2(NamedTuple):
    """The same and its flags."""

    channels: Annotated[bytes, "72s"]
    flags: u32
    reserved: Annotated[bytes, "36s"]


class kvm_pit_config(NamedTuple):
    """How the PIT is to be."""

    flags: u32
    pad: Annotated[bytes, "60s"]


class kvm_reinject_control(NamedTuple):
    """Whether the PIT's lost ticks come later."""

    pit_reinject: u8
    reserved: Annotated[bytes, "31s"]


KVM_PIT_CHANNEL_STATE = Layout(kvm_pit_channel_state, size=24)
KVM_PIT_STATE = Layout(kvm_pit_state, size=72)
KVM_PIT_STATE2 = Layout(kvm_pit_state2, size=112)
KVM_PIT_CONFIG = Layout(kvm_pit_config, size=64)
KVM_REINJECT_CONTROL_LAYOUT = Layout(kvm_reinject_control, size=32)

KVM_PIT_SPEAKER_DUMMY = 1
KVM_PIT_FLAGS_HPET_LEGACY = 1

KVM_CREATE_PIT = io("KVM_CREATE_PIT", KVMIO, 0x64)
KVM_GET_PIT = iowr("KVM_GET_PIT", KVMIO, 0x65, KVM_PIT_STATE)
KVM_SET_PIT = ior("KVM_SET_PIT", KVMIO, 0x66, KVM_PIT_STATE)
KVM_REINJECT_CONTROL = io("KVM_REINJECT_CONTROL", KVMIO, 0x71, KVM_REINJECT_CONTROL_LAYOUT)
KVM_CREATE_PIT2 = iow("KVM_CREATE_PIT2", KVMIO, 0x77, KVM_PIT_CONFIG)
KVM_GET_PIT2 = ior("KVM_GET_PIT2", KVMIO, 0x9F, KVM_PIT_STATE2)
KVM_SET_PIT2 = iow("KVM_SET_PIT2", KVMIO, 0xA0, KVM_PIT_STATE2)

# -- events ---------------------------------------------------------------------------------------


class kvm_irqfd(NamedTuple):
    """Signalling `fd` raises `gsi`; the end of a level interrupt signals `resamplefd`."""

    fd: u32
    gsi: u32
    flags: u32
    resamplefd: u32
    pad: Annotated[bytes, "16s"]


class kvm_ioeventfd(NamedTuple):
    """A guest's write of `len` bytes at `addr` signals `fd`."""

    datamatch: u64
    addr: u64
    len: u32
    fd: s32
    flags: u32
    pad: Annotated[bytes, "36s"]


class kvm_coalesced_mmio_zone(NamedTuple):
    """A guest's writes here are collected. `pio`: of ports, else of memory."""

    addr: u64
    size: u32
    pio: u32


KVM_IRQFD_LAYOUT = Layout(kvm_irqfd, size=32)
KVM_IOEVENTFD_LAYOUT = Layout(kvm_ioeventfd, size=64)
KVM_COALESCED_MMIO_ZONE = Layout(kvm_coalesced_mmio_zone, size=16)

KVM_IRQFD_FLAG_DEASSIGN = 1 << 0
KVM_IRQFD_FLAG_RESAMPLE = 1 << 1

KVM_IOEVENTFD_FLAG_DATAMATCH = 1 << 0
KVM_IOEVENTFD_FLAG_PIO = 1 << 1
KVM_IOEVENTFD_FLAG_DEASSIGN = 1 << 2
KVM_IOEVENTFD_FLAG_VIRTIO_CCW_NOTIFY = 1 << 3
KVM_IOEVENTFD_VALID_FLAG_MASK = 0x1F

KVM_REGISTER_COALESCED_MMIO = iow(
    "KVM_REGISTER_COALESCED_MMIO", KVMIO, 0x67, KVM_COALESCED_MMIO_ZONE
)
KVM_UNREGISTER_COALESCED_MMIO = iow(
    "KVM_UNREGISTER_COALESCED_MMIO", KVMIO, 0x68, KVM_COALESCED_MMIO_ZONE
)
KVM_IRQFD = iow("KVM_IRQFD", KVMIO, 0x76, KVM_IRQFD_LAYOUT)
KVM_IOEVENTFD = iow("KVM_IOEVENTFD", KVMIO, 0x79, KVM_IOEVENTFD_LAYOUT)

# -- time -----------------------------------------------------------------------------------------


class kvm_clock_data(NamedTuple):
    """`clock` is the guest's kvmclock, in nanoseconds; `realtime` the host's, likewise."""

    clock: u64
    flags: u32
    pad0: u32
    realtime: u64
    host_tsc: u64
    pad: Annotated[bytes, "16s"]


KVM_CLOCK_DATA = Layout(kvm_clock_data, size=48)

KVM_CLOCK_TSC_STABLE = 1 << 1
KVM_CLOCK_REALTIME = 1 << 2
KVM_CLOCK_HOST_TSC = 1 << 3

KVM_SET_CLOCK = iow("KVM_SET_CLOCK", KVMIO, 0x7B, KVM_CLOCK_DATA)
KVM_GET_CLOCK = ior("KVM_GET_CLOCK", KVMIO, 0x7C, KVM_CLOCK_DATA)
KVM_SET_TSC_KHZ = io("KVM_SET_TSC_KHZ", KVMIO, 0xA2)
KVM_GET_TSC_KHZ = io("KVM_GET_TSC_KHZ", KVMIO, 0xA3)

# -- capabilities that are enabled ----------------------------------------------------------------


class kvm_enable_cap(NamedTuple):
    """`cap` is a KVM_CAP_*; what its arguments mean is its own."""

    cap: u32
    flags: u32
    arg0: u64
    arg1: u64
    arg2: u64
    arg3: u64
    pad: Annotated[bytes, "64s"]


KVM_ENABLE_CAP_LAYOUT = Layout(kvm_enable_cap, size=104)

KVM_CAP_X2APIC_API = 129
KVM_CAP_MSR_PLATFORM_INFO = 159
KVM_CAP_EXCEPTION_PAYLOAD = 164
KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 = 168
KVM_CAP_HALT_POLL = 182
KVM_CAP_X86_USER_SPACE_MSR = 188
KVM_CAP_DIRTY_LOG_RING = 192
KVM_CAP_X86_BUS_LOCK_EXIT = 193
KVM_CAP_VM_COPY_ENC_CONTEXT_FROM = 197
KVM_CAP_EXIT_HYPERCALL = 201
KVM_CAP_EXIT_ON_EMULATION_FAILURE = 204
KVM_CAP_VM_MOVE_ENC_CONTEXT_FROM = 206
KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218
KVM_CAP_VM_DISABLE_NX_HUGE_PAGES = 220
KVM_CAP_DIRTY_LOG_RING_ACQ_REL = 223
KVM_CAP_X86_APIC_BUS_CYCLES_NS = 237

KVM_ENABLE_CAP = iow("KVM_ENABLE_CAP", KVMIO, 0xA3, KVM_ENABLE_CAP_LAYOUT)

# -- what a guest may see -------------------------------------------------------------------------


class kvm_msr_filter_range(NamedTuple):
    """`nmsrs` MSRs from `base`; `bitmap` is a user address."""

    flags: u32
    nmsrs: u32
    base: u32
    pad: u32
    bitmap: u64


class kvm_msr_filter(NamedTuple):
    """`ranges` has 16 kvm_msr_filter_range."""

    flags: u32
    pad: u32
    ranges: Annotated[bytes, "384s"]


class kvm_pmu_event_filter(NamedTuple):
    """The head; `nevents` u64 follow."""

    action: u32
    nevents: u32
    fixed_counter_bitmap: u32
    flags: u32
    pad: Annotated[bytes, "16s"]


class kvm_enc_region(NamedTuple):
    """Memory that an encrypted guest may have."""

    addr: u64
    size: u64


KVM_MSR_FILTER_RANGE = Layout(kvm_msr_filter_range, size=24)
KVM_MSR_FILTER = Layout(kvm_msr_filter, size=392)
KVM_PMU_EVENT_FILTER = Layout(kvm_pmu_event_filter, size=32)
KVM_ENC_REGION = Layout(kvm_enc_region, size=16)

KVM_MSR_FILTER_DEFAULT_DENY = 1 << 0
KVM_MSR_FILTER_READ = 1 << 0
KVM_MSR_FILTER_WRITE = 1 << 1
KVM_MSR_FILTER_MAX_RANGES = 16
KVM_MSR_FILTER_MAX_BITMAP_SIZE = 0x600

KVM_PMU_EVENT_ALLOW = 0
KVM_PMU_EVENT_DENY = 1

KVM_SET_PMU_EVENT_FILTER = iow("KVM_SET_PMU_EVENT_FILTER", KVMIO, 0xB2, KVM_PMU_EVENT_FILTER)
KVM_MEMORY_ENCRYPT_OP = iowr("KVM_MEMORY_ENCRYPT_OP", KVMIO, 0xBA, UINT64)
KVM_MEMORY_ENCRYPT_REG_REGION = ior("KVM_MEMORY_ENCRYPT_REG_REGION", KVMIO, 0xBB, KVM_ENC_REGION)
KVM_MEMORY_ENCRYPT_UNREG_REGION = ior(
    "KVM_MEMORY_ENCRYPT_UNREG_REGION", KVMIO, 0xBC, KVM_ENC_REGION
)
KVM_X86_SET_MSR_FILTER = iow("KVM_X86_SET_MSR_FILTER", KVMIO, 0xC6, KVM_MSR_FILTER)

# -- other hypervisors' interfaces -----------------------------------------------------------------


class kvm_hyperv_eventfd(NamedTuple):
    """A guest's HvCallSignalEvent of `conn_id` signals `fd`."""

    conn_id: u32
    fd: s32
    flags: u32
    padding: Annotated[bytes, "12s"]


class kvm_xen_hvm_config(NamedTuple):
    """Where and how Xen's hypercall page is written."""

    flags: u32
    msr: u32
    blob_addr_32: u64
    blob_addr_64: u64
    blob_size_32: u8
    blob_size_64: u8
    pad2: Annotated[bytes, "30s"]


class kvm_xen_hvm_attr(NamedTuple):
    """One attribute of a Xen guest."""

    type: u16
    pad: Annotated[bytes, "6s"]
    u: Annotated[bytes, "64s"]


class kvm_memory_attributes(NamedTuple):
    """Whether guest memory is private. Bytes."""

    address: u64
    size: u64
    attributes: u64
    flags: u64


class kvm_create_guest_memfd(NamedTuple):
    """Memory that only a guest can reach. Bytes."""

    size: u64
    flags: u64
    reserved: Annotated[bytes, "48s"]


KVM_HYPERV_EVENTFD_LAYOUT = Layout(kvm_hyperv_eventfd, size=24)
KVM_XEN_HVM_CONFIG_LAYOUT = Layout(kvm_xen_hvm_config, size=56)
KVM_XEN_HVM_ATTR = Layout(kvm_xen_hvm_attr, size=72)
KVM_MEMORY_ATTRIBUTES = Layout(kvm_memory_attributes, size=32)
KVM_CREATE_GUEST_MEMFD_LAYOUT = Layout(kvm_create_guest_memfd, size=64)

KVM_HYPERV_CONN_ID_MASK = 0x00FF_FFFF
KVM_HYPERV_EVENTFD_DEASSIGN = 1 << 0

KVM_XEN_HVM_CONFIG = iow("KVM_XEN_HVM_CONFIG", KVMIO, 0x7A, KVM_XEN_HVM_CONFIG_LAYOUT)
KVM_HYPERV_EVENTFD = iow("KVM_HYPERV_EVENTFD", KVMIO, 0xBD, KVM_HYPERV_EVENTFD_LAYOUT)
KVM_XEN_HVM_GET_ATTR = iowr("KVM_XEN_HVM_GET_ATTR", KVMIO, 0xC8, KVM_XEN_HVM_ATTR)
KVM_XEN_HVM_SET_ATTR = iow("KVM_XEN_HVM_SET_ATTR", KVMIO, 0xC9, KVM_XEN_HVM_ATTR)
KVM_SET_MEMORY_ATTRIBUTES = iow("KVM_SET_MEMORY_ATTRIBUTES", KVMIO, 0xD2, KVM_MEMORY_ATTRIBUTES)
KVM_CREATE_GUEST_MEMFD = iowr("KVM_CREATE_GUEST_MEMFD", KVMIO, 0xD4, KVM_CREATE_GUEST_MEMFD_LAYOUT)

# -- statistics -----------------------------------------------------------------------------------


class kvm_stats_header(NamedTuple):
    """The head of what a statistics fd reads; the offsets count from its beginning."""

    flags: u32
    name_size: u32
    num_desc: u32
    id_offset: u32
    desc_offset: u32
    data_offset: u32


class kvm_stats_desc(NamedTuple):
    """One counter; its name of `name_size` bytes follows."""

    flags: u32
    exponent: Annotated[int, "h"]
    size: u16
    offset: u32
    bucket_size: u32


KVM_STATS_HEADER = Layout(kvm_stats_header, size=24)
KVM_STATS_DESC = Layout(kvm_stats_desc, size=16)

KVM_STATS_TYPE_CUMULATIVE = 0x0
KVM_STATS_TYPE_INSTANT = 0x1
KVM_STATS_TYPE_PEAK = 0x2

KVM_GET_STATS_FD = io("KVM_GET_STATS_FD", KVMIO, 0xCE)

# -- which file takes what ------------------------------------------------------------------------

VM_REQUESTS: Mapping[int, Request] = {
    int(request): request
    for request in (
        KVM_GET_DIRTY_LOG,
        KVM_SET_NR_MMU_PAGES,
        KVM_GET_NR_MMU_PAGES,
        KVM_SET_USER_MEMORY_REGION,
        KVM_SET_TSS_ADDR,
        KVM_SET_IDENTITY_MAP_ADDR,
        KVM_SET_USER_MEMORY_REGION2,
        KVM_CLEAR_DIRTY_LOG,
        KVM_RESET_DIRTY_RINGS,
        KVM_CREATE_IRQCHIP,
        KVM_IRQ_LINE,
        KVM_GET_IRQCHIP,
        KVM_SET_IRQCHIP,
        KVM_IRQ_LINE_STATUS,
        KVM_SET_GSI_ROUTING,
        KVM_SET_BOOT_CPU_ID,
        KVM_SIGNAL_MSI,
        KVM_CREATE_PIT,
        KVM_GET_PIT,
        KVM_SET_PIT,
        KVM_REINJECT_CONTROL,
        KVM_CREATE_PIT2,
        KVM_GET_PIT2,
        KVM_SET_PIT2,
        KVM_REGISTER_COALESCED_MMIO,
        KVM_UNREGISTER_COALESCED_MMIO,
        KVM_IRQFD,
        KVM_IOEVENTFD,
        KVM_SET_CLOCK,
        KVM_GET_CLOCK,
        KVM_SET_TSC_KHZ,
        KVM_GET_TSC_KHZ,
        KVM_ENABLE_CAP,
        KVM_SET_PMU_EVENT_FILTER,
        KVM_MEMORY_ENCRYPT_OP,
        KVM_MEMORY_ENCRYPT_REG_REGION,
        KVM_MEMORY_ENCRYPT_UNREG_REGION,
        KVM_X86_SET_MSR_FILTER,
        KVM_HYPERV_EVENTFD,
        KVM_XEN_HVM_CONFIG,
        KVM_XEN_HVM_GET_ATTR,
        KVM_XEN_HVM_SET_ATTR,
        KVM_SET_MEMORY_ATTRIBUTES,
        KVM_CREATE_GUEST_MEMFD,
        KVM_GET_STATS_FD,
    )
}
