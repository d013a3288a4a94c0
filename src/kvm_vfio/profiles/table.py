# SPDX-License-Identifier: GPL-2.0-only
"""Which kernel has which behaviour, since when, and how that is known.

Rule of this file: each profile is its predecessor with what changed, and every change has its
source beside it: [M] measured on the release named, [D] derived from the commit named, [P] the 2013
patch itself.
"""

from __future__ import annotations

from dataclasses import replace
from errno import EBADFD, EFAULT, EINVAL, ENODEV, EOVERFLOW
from types import MappingProxyType

from kvm_vfio.profiles.profile import Coherency, DeviceEnd, DomainScope, Profile
from kvm_vfio.profiles.recorded import linux_5_10, linux_6_1, linux_6_12, linux_6_18, linux_7_3
from kvm_vfio.profiles.recording import KvmRecording
from kvm_vfio.profiles.vm import VM_BEHAVIOURS
from kvm_vfio.uapi.kvm import KVM_CAP_DEVICE_CTRL
from kvm_vfio.uapi.vfio import (
    VFIO_DEVICE_FEATURE_DMA_BUF,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
    VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
    VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2,
)

_LOW_POWER = frozenset(
    {
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY,
        VFIO_DEVICE_FEATURE_LOW_POWER_ENTRY_WITH_WAKEUP,
        VFIO_DEVICE_FEATURE_LOW_POWER_EXIT,
    }
)
_ANY_PAGE = 0xFFFF_FFFF_FFFF_F000
_VTD_PAGES = 0x4020_1000  # 4 KiB, 2 MiB, 1 GiB

# [P] KVM-VFIO v2, October 2013, on the VFIO of Linux 3.12. It registers noncoherent DMA for any
# member, and knows groups only through VFIO's external-user interface.
PATCH = Profile(
    name="2013",
    measured="",
    kvm_recording=None,
    vfs_sets_file_attributes=False,
    capabilities=frozenset(),
    system_attributes=None,
    listed_msrs_read_zero=False,
    xsave_by_component=False,
    triple_fault_events=False,
    vcpu_id_is_long=False,
    sregs_check_cr0=False,
    sregs_check_efer=False,
    get_cpuid2_counts=False,
    pending_nmis_counted=False,
    debugger_waits_for_injected=False,
    gif_needs_svme=True,
    failed_async_pf_is_kept=True,
    mp_states_checked=False,
    blocked_init_is_refused=True,
    refused_msrs_read_zero=False,
    bad_mtrr_injects_gp=True,
    apic_base_gains_bsp=True,
    cpuid_counts_before_it_is_set=False,
    device_checks_mm=False,
    device_end=DeviceEnd.DESTROYED_ON_CLOSE,
    legacy_assignment=True,
    reports_assignment=False,
    tells_member_its_kvm=False,
    vm=None,
    coherency=Coherency.NEVER,
    member_is_group=True,
    accepts_device_file=False,
    del_looks_up_again=True,
    failed_del_updates_coherency=True,
    group_claims_dma=False,
    set_container_fget_first=False,
    container_mmap_errno=EINVAL,
    wrong_container_errno=EINVAL,
    device_lookup_first=False,
    device_name_has_options=False,
    leaving_device_is_gone=False,
    device_open_holds_vm=False,
    status_without_devices_errno=0,
    info_size=16,
    msix_grows=False,
    every_device_reports_errors=False,
    region_access_width=4,
    hot_reset_counts_first=False,
    anonymous_files_noexec=False,
    device_features=frozenset(),
    config_hides_pme=False,
    low_power_blocks_memory=False,
    aer_reports_advisory=False,
    negative_eventfd_errno=0,
    iommu_group_type="DMA",
    sysfs_reset_method=False,
    domain_scope=DomainScope.EVERY_UNIT,
    type1v2=False,
    dma_cc_extension=False,
    nesting_extension=False,
    nesting_errno=ENODEV,
    dirty_page_tracking=False,
    unmap_all=False,
    update_vaddr=False,
    unmap_checks_mm=False,
    unreachable_iova_errno=EFAULT,  # the IOMMU driver's refusal to map; there was no check before
    dma_overflow_errno=EINVAL,
    dma_range_end_wraps=True,
    type1_capabilities=False,
    type1_page_sizes=_ANY_PAGE,
    dma_entry_limit=0,
)

# [D] Linux 4.19 as it was released: Debian serves no such kernel any more. Each value is the one
# measured on 5.10, but for what a later commit changed; the stable releases took some of those too.
LINUX_4_19 = replace(
    PATCH,
    name="4.19",
    device_end=DeviceEnd.DESTROYED_WITH_VM,
    legacy_assignment=False,  # removed in 4.12
    reports_assignment=True,  # 5544eb9b81940 (4.3)
    tells_member_its_kvm=True,  # 2fc1bec15883 (4.10)
    coherency=Coherency.CONTAINER,  # 3.15
    del_looks_up_again=False,  # 5d6dee80a1e9 (4.13)
    type1v2=True,  # 1ef3e2bc0422 (3.15)
    dma_cc_extension=True,  # aa429318279b (3.15)
    nesting_extension=True,  # f5c9ecebaf2a (3.19)
    unmap_checks_mm=True,  # 8f0d5bb95f76 (4.10)
)

# [M] every value measured on this release; the commits that brought them, where known:
LINUX_5_10 = replace(
    LINUX_4_19,
    name="5.10",
    measured="5.10.262",
    vm=VM_BEHAVIOURS["5.10"],
    kvm_recording=KvmRecording(linux_5_10),
    device_checks_mm=True,  # ddba91801aeb (5.1)
    device_name_has_options=True,  # cc20d7999000 (5.7)
    info_size=20,
    dirty_page_tracking=True,  # d6a4c185660c (5.8)
    type1_capabilities=True,  # a717072007e8 (5.4)
    unreachable_iova_errno=EINVAL,  # 9b77e5c79840 (5.4)
    dma_entry_limit=65535,  # 492855939bdb (5.1)
)

# [M] Members are open files from 5.19 on: no container is needed, and none is held.
LINUX_6_1 = replace(
    LINUX_5_10,
    name="6.1",
    measured="6.1.192",
    vm=VM_BEHAVIOURS["6.1"],
    kvm_recording=KvmRecording(linux_6_1),
    vfs_sets_file_attributes=True,  # 4c5b47997521 (5.13)
    system_attributes=frozenset({(0, 0)}),
    xsave_by_component=True,
    sregs_check_cr0=True,
    mp_states_checked=True,
    bad_mtrr_injects_gp=False,
    apic_base_gains_bsp=False,
    triple_fault_events=True,
    device_end=DeviceEnd.RELEASED_ON_CLOSE,  # 51cdc8bc120e (6.2, 6.1.9)
    coherency=Coherency.GROUP_CONTAINER,
    member_is_group=False,
    group_claims_dma=True,
    set_container_fget_first=True,
    container_mmap_errno=ENODEV,
    device_lookup_first=True,
    status_without_devices_errno=ENODEV,
    domain_scope=DomainScope.OWN_UNITS,
    nesting_errno=EINVAL,
    unmap_checks_mm=False,  # "vfio: remove useless judgement" (6.0) [D]
    iommu_group_type="DMA-FQ",
    sysfs_reset_method=True,
    device_features=_LOW_POWER,
    config_hides_pme=True,
    low_power_blocks_memory=True,
    unmap_all=True,
    update_vaddr=True,
    type1_page_sizes=_VTD_PAGES,
)

# [M] Coherency by device from 6.2 on; device files are members from 6.6 on.
LINUX_6_12 = replace(
    LINUX_6_1,
    name="6.12",
    measured="6.12.117",
    vm=VM_BEHAVIOURS["6.12"],
    kvm_recording=KvmRecording(linux_6_12),
    capabilities=frozenset({KVM_CAP_DEVICE_CTRL}),
    system_attributes=frozenset({(0, 0), (1, 0)}),
    listed_msrs_read_zero=True,
    refused_msrs_read_zero=True,
    vcpu_id_is_long=True,
    sregs_check_efer=True,
    get_cpuid2_counts=True,
    pending_nmis_counted=True,
    coherency=Coherency.DEVICES,
    accepts_device_file=True,
    wrong_container_errno=EBADFD,
    leaving_device_is_gone=True,
    device_open_holds_vm=True,
    info_size=24,  # a881b496941f (6.6)
    msix_grows=True,
    negative_eventfd_errno=EINVAL,
    region_access_width=8,
    hot_reset_counts_first=True,
)

# [M] start_assignment and end_assignment are gone with bbc13ae593e0 (6.17).
LINUX_6_18 = replace(
    LINUX_6_12,
    name="6.18",
    measured="6.18.15",
    vm=VM_BEHAVIOURS["6.18"],
    kvm_recording=KvmRecording(linux_6_18),
    sregs_check_efer=False,
    blocked_init_is_refused=False,
    cpuid_counts_before_it_is_set=True,
    reports_assignment=False,
    anonymous_files_noexec=True,
    nesting_extension=False,
    nesting_errno=ENODEV,
    dma_overflow_errno=EOVERFLOW,
    dma_range_end_wraps=False,
)

# [M] A DEL that fails looks at nothing.
LINUX_7_3 = replace(
    LINUX_6_18,
    name="7.3",
    measured="7.3.4",
    vm=VM_BEHAVIOURS["7.3"],
    kvm_recording=KvmRecording(linux_7_3),
    sregs_check_efer=True,
    debugger_waits_for_injected=True,
    gif_needs_svme=False,
    failed_async_pf_is_kept=False,
    system_attributes=frozenset({(0, 0), (1, 0), (1, 1), (1, 2)}),
    failed_del_updates_coherency=False,
    every_device_reports_errors=True,
    device_features=_LOW_POWER
    | {VFIO_DEVICE_FEATURE_DMA_BUF, VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2},
    aer_reports_advisory=True,
)

PROFILES = MappingProxyType(
    {
        profile.name: profile
        for profile in (
            PATCH,
            LINUX_4_19,
            LINUX_5_10,
            LINUX_6_1,
            LINUX_6_12,
            LINUX_6_18,
            LINUX_7_3,
        )
    }
)
DEFAULT = LINUX_6_12
