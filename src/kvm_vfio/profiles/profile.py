# SPDX-License-Identifier: GPL-2.0-only
"""The observable behaviours in which kernels differ, each under a name.

Rule of this file: a field is something a caller can see, never a version. The model reads fields;
which kernel has which value, since which commit and on what evidence, is in `table`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kvm_vfio.profiles.recording import KvmRecording
from kvm_vfio.profiles.vm import VmBehaviour


class Coherency(Enum):
    """What the KVM-VFIO device asks to learn whether a member is coherent."""

    NEVER = "nothing: any member means noncoherent DMA"
    CONTAINER = "the extension VFIO_DMA_CC_IOMMU of the member's container"
    GROUP_CONTAINER = (
        "that extension, and nothing of a group without a container, which is coherent"
    )
    DEVICES = "whether the IOMMU of every device in the group can enforce coherency"


class DomainScope(Enum):
    """Which IOMMU units decide whether a domain enforces coherency."""

    EVERY_UNIT = "every unit of the machine"
    OWN_UNITS = "the units behind the domain"


class DeviceEnd(Enum):
    """What ends a KVM device."""

    DESTROYED_ON_CLOSE = "the last close of its fd, through .destroy"
    DESTROYED_WITH_VM = "the end of its VM; a closed device fd ends nothing"
    RELEASED_ON_CLOSE = "the last close of its fd, through .release"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kernel. `measured` is the release that answered, empty where the values are derived."""

    name: str
    measured: str

    # -- the VFS, of files that are no regular ones
    vfs_sets_file_attributes: bool  # FS_IOC_SETFLAGS, FSSETXATTR read their argument first: EFAULT

    # -- KVM
    kvm_recording: KvmRecording | None  # what its KVM says of itself and of processors
    capabilities: frozenset[int]  # KVM_CHECK_EXTENSION: which of the caps in question answer 1
    # (group, attr) that /dev/kvm has on AMD; None: it knows no attributes at all
    system_attributes: frozenset[tuple[int, int]] | None
    listed_msrs_read_zero: bool  # one of KVM_GET_MSR_INDEX_LIST is 0 where it is no feature MSR
    xsave_by_component: bool  # KVM_GET_XSAVE: what XSTATE_BV does not have is initial
    triple_fault_events: bool  # KVM_SET_VCPU_EVENTS knows KVM_VCPUEVENT_VALID_TRIPLE_FAULT
    vcpu_id_is_long: bool  # KVM_CREATE_VCPU looks at all 64 bits of the number
    sregs_check_cr0: bool  # KVM_SET_SREGS: NW with CD, PG with PE, nothing above 32 bits
    sregs_check_efer: bool  # KVM_SET_SREGS: EFER has only what CPUID has
    get_cpuid2_counts: bool  # KVM_GET_CPUID2 says how many leaves there are, not only gives them
    pending_nmis_counted: bool  # KVM_GET_VCPU_EVENTS says how many NMIs wait, not only whether
    debugger_waits_for_injected: bool  # KVM_SET_GUEST_DEBUG: EBUSY also for one that is injected
    gif_needs_svme: bool  # KVM_SET_NESTED_STATE cannot clear the GIF without EFER.SVME
    failed_async_pf_is_kept: bool  # MSR_KVM_ASYNC_PF_EN without guest memory keeps the value
    mp_states_checked: bool  # KVM_SET_MP_STATE with a local APIC of KVM's takes only states of x86
    blocked_init_is_refused: bool  # KVM_SET_MP_STATE: no INIT or SIPI in SMM or before an SMI
    refused_msrs_read_zero: bool  # KVM_GET_MSRS: also one that KVM knows and that has no value now
    bad_mtrr_injects_gp: bool  # KVM_SET_MSRS of an MTRR with reserved bits faults in the guest
    apic_base_gains_bsp: bool  # setting IA32_APIC_BASE without a local APIC sets the BSP bit
    cpuid_counts_before_it_is_set: bool  # CR4: a vCPU without CPUID has no features
    device_checks_mm: bool  # ioctl on a device fd from another mm: EIO
    device_end: DeviceEnd  # what ends a KVM device
    legacy_assignment: bool  # KVM_ASSIGN_PCI_DEVICE exists
    reports_assignment: bool  # kvm_arch_start_assignment, kvm_arch_end_assignment exist
    tells_member_its_kvm: bool  # vfio_group_set_kvm, vfio_file_set_kvm exist

    vm: VmBehaviour | None  # what its VMs are asked for; None: nobody has measured it

    # -- the KVM-VFIO device
    coherency: Coherency  # what it asks to learn whether a member is coherent
    member_is_group: bool  # holds the vfio_group through its container; else the open file
    accepts_device_file: bool  # a VFIO device fd is a member like a group's
    del_looks_up_again: bool  # DEL asks VFIO for the group anew, with ADD's errors
    failed_del_updates_coherency: bool

    # -- VFIO containers and groups
    # A group in a container is owned: SET_CONTAINER of one that is not viable is EPERM, and no
    # native driver binds. Else SET_CONTAINER is 0, and a native driver is a BUG.
    group_claims_dma: bool
    # SET_CONTAINER: EBADF before all else. Else EINVAL for a negative fd, then EINVAL for a group
    # that has a container, then EBADF.
    set_container_fget_first: bool
    container_mmap_errno: int  # mmap of a container
    wrong_container_errno: int  # SET_CONTAINER of a file that is no container
    device_lookup_first: bool  # GET_DEVICE_FD: ENODEV for the name before EINVAL for the container
    device_name_has_options: bool  # GET_DEVICE_FD: blanks and a vf_token may follow the name
    leaving_device_is_gone: bool  # GET_DEVICE_FD while the driver is being taken away: ENODEV
    device_open_holds_vm: bool  # the first open of a VFIO device keeps the group's VM alive
    status_without_devices_errno: int  # GET_STATUS of a group whose last device left; 0: answers
    info_size: int  # bytes of the structures of VFIO's GET_INFO requests: 16, 20 or 24

    # -- VFIO devices
    msix_grows: bool  # more MSI-X vectors can be enabled later; GET_IRQ_INFO without NORESIZE
    every_device_reports_errors: bool  # IRQ index 3 is there, PCI Express or not
    region_access_width: int  # bytes of the widest access that a read or write of a BAR becomes
    hot_reset_counts_first: bool  # PCI_HOT_RESET of no group: EINVAL before ENODEV for the bus

    anonymous_files_noexec: bool  # mmap to execute of a device: EPERM
    device_features: frozenset[int]  # VFIO_DEVICE_FEATURE: those that are not ENOTTY
    config_hides_pme: bool  # PME enable and status in the power capability cannot be written
    low_power_blocks_memory: bool  # read, write of a memory BAR while the function is in D3: EIO
    aer_reports_advisory: bool  # Linux unmasks advisory errors in every function that has AER
    negative_eventfd_errno: int  # SET_IRQS of an fd below -1 as error or request interrupt; or 0

    # -- sysfs
    iommu_group_type: str  # /sys/kernel/iommu_groups/N/type
    sysfs_reset_method: bool  # the file reset_method of a PCI function

    # -- type1
    domain_scope: DomainScope  # which IOMMU units decide whether a domain is coherent
    type1v2: bool  # the type VFIO_TYPE1v2_IOMMU (3) exists
    dma_cc_extension: bool  # CHECK_EXTENSION(4), VFIO_DMA_CC_IOMMU, exists
    nesting_extension: bool  # CHECK_EXTENSION(6)
    nesting_errno: int  # SET_IOMMU(6)
    dirty_page_tracking: bool  # VFIO_IOMMU_DIRTY_PAGES, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP exist
    unmap_all: bool  # VFIO_DMA_UNMAP_FLAG_ALL and CHECK_EXTENSION(9)
    update_vaddr: bool  # the VADDR flags and CHECK_EXTENSION(10)
    unmap_checks_mm: bool  # UNMAP_DMA stops at a mapping that another mm made
    unreachable_iova_errno: int  # MAP_DMA of an iova that the IOMMU cannot translate
    dma_overflow_errno: int  # MAP_DMA, UNMAP_DMA of a range that wraps
    dma_range_end_wraps: bool  # MAP_DMA, UNMAP_DMA find nothing in a range that ends at 2**64
    type1_capabilities: bool  # IOMMU_GET_INFO has a capability chain
    type1_page_sizes: int  # IOMMU_GET_INFO, bitmap
    dma_entry_limit: int  # mappings of one container; 0: no limit
