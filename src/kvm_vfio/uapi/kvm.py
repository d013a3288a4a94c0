# SPDX-License-Identifier: GPL-2.0-only
"""linux/kvm.h: the system, a VM and device control, on x86.

Rule of this file: kernel names only, each with the value every kernel gives it. Legacy device
assignment left Linux in 4.12 and its names left the header later; the numbers are not reused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from kvm_vfio.uapi.layout import Layout, Request, io, ior, iow, iowr, s32, u32, u64

KVMIO = 0xAE
KVM_API_VERSION = 12

# -- /dev/kvm -------------------------------------------------------------------------------------

KVM_GET_API_VERSION = io("KVM_GET_API_VERSION", KVMIO, 0x00)
KVM_CREATE_VM = io("KVM_CREATE_VM", KVMIO, 0x01)
KVM_CHECK_EXTENSION = io("KVM_CHECK_EXTENSION", KVMIO, 0x03)
KVM_GET_VCPU_MMAP_SIZE = io("KVM_GET_VCPU_MMAP_SIZE", KVMIO, 0x04)

# Capabilities: the argument of KVM_CHECK_EXTENSION.
KVM_CAP_IRQCHIP = 0
KVM_CAP_HLT = 1
KVM_CAP_USER_MEMORY = 3
KVM_CAP_SET_TSS_ADDR = 4
KVM_CAP_EXT_CPUID = 7
KVM_CAP_CLOCKSOURCE = 8
KVM_CAP_NR_VCPUS = 9
KVM_CAP_NR_MEMSLOTS = 10
KVM_CAP_PIT = 11
KVM_CAP_MP_STATE = 14
KVM_CAP_COALESCED_MMIO = 15
KVM_CAP_SYNC_MMU = 16
KVM_CAP_IOMMU = 18
KVM_CAP_DESTROY_MEMORY_REGION_WORKS = 21
KVM_CAP_USER_NMI = 22
KVM_CAP_SET_GUEST_DEBUG = 23
KVM_CAP_IRQ_ROUTING = 25
KVM_CAP_ASSIGN_DEV_IRQ = 29
KVM_CAP_JOIN_MEMORY_REGIONS_WORKS = 30
KVM_CAP_MCE = 31
KVM_CAP_IRQFD = 32
KVM_CAP_PIT2 = 33
KVM_CAP_IOEVENTFD = 36
KVM_CAP_SET_IDENTITY_MAP_ADDR = 37
KVM_CAP_ADJUST_CLOCK = 39
KVM_CAP_INTERNAL_ERROR_DATA = 40
KVM_CAP_VCPU_EVENTS = 41
KVM_CAP_PCI_SEGMENT = 47
KVM_CAP_DEBUGREGS = 50
KVM_CAP_ENABLE_CAP = 54
KVM_CAP_XSAVE = 55
KVM_CAP_XCRS = 56
KVM_CAP_TSC_CONTROL = 60
KVM_CAP_GET_TSC_KHZ = 61
KVM_CAP_MAX_VCPUS = 66
KVM_CAP_ONE_REG = 70
KVM_CAP_TSC_DEADLINE_TIMER = 72
KVM_CAP_PCI_2_3 = 75
KVM_CAP_SIGNAL_MSI = 77
KVM_CAP_READONLY_MEM = 81
KVM_CAP_IRQFD_RESAMPLE = 82
KVM_CAP_DEVICE_CTRL = 89
KVM_CAP_IOEVENTFD_NO_LENGTH = 100
KVM_CAP_VM_ATTRIBUTES = 101
KVM_CAP_CHECK_EXTENSION_VM = 105
KVM_CAP_DISABLE_QUIRKS = 116
KVM_CAP_X86_SMM = 117
KVM_CAP_MULTI_ADDRESS_SPACE = 118
KVM_CAP_SPLIT_IRQCHIP = 121
KVM_CAP_VCPU_ATTRIBUTES = 127
KVM_CAP_MAX_VCPU_ID = 128
KVM_CAP_IMMEDIATE_EXIT = 136
KVM_CAP_X86_DISABLE_EXITS = 143
KVM_CAP_SYS_ATTRIBUTES = 209
KVM_CAP_DISABLE_QUIRKS2 = 213
KVM_CAP_VM_TYPES = 235

# -- a VM: devices --------------------------------------------------------------------------------


class kvm_create_device(NamedTuple):
    """`type` and `flags` in, `fd` out."""

    type: u32
    fd: u32
    flags: u32


KVM_CREATE_DEVICE_LAYOUT = Layout(kvm_create_device, size=12)
KVM_CREATE_DEVICE_TEST = 1

KVM_DEV_TYPE_FSL_MPIC_20 = 1
KVM_DEV_TYPE_FSL_MPIC_42 = 2
KVM_DEV_TYPE_XICS = 3
KVM_DEV_TYPE_VFIO = 4
KVM_DEV_TYPE_ARM_VGIC_V2 = 5
KVM_DEV_TYPE_FLIC = 6
KVM_DEV_TYPE_ARM_VGIC_V3 = 7
KVM_DEV_TYPE_ARM_VGIC_ITS = 8
KVM_DEV_TYPE_XIVE = 9
KVM_DEV_TYPE_ARM_PV_TIME = 10
KVM_DEV_TYPE_RISCV_AIA = 11
KVM_DEV_TYPE_LOONGARCH_IPI = 12
KVM_DEV_TYPE_LOONGARCH_EIOINTC = 13
KVM_DEV_TYPE_LOONGARCH_PCHPIC = 14
KVM_DEV_TYPE_LOONGARCH_DMSINTC = 15
KVM_DEV_TYPE_ARM_VGIC_V5 = 16

KVM_CREATE_VCPU = io("KVM_CREATE_VCPU", KVMIO, 0x41)
KVM_CREATE_DEVICE = iowr("KVM_CREATE_DEVICE", KVMIO, 0xE0, KVM_CREATE_DEVICE_LAYOUT)

# -- a device: attributes -------------------------------------------------------------------------


class kvm_device_attr(NamedTuple):
    """`addr` is a user address of what the attribute carries."""

    flags: u32
    group: u32
    attr: u64
    addr: u64


KVM_DEVICE_ATTR = Layout(kvm_device_attr, size=24)

KVM_SET_DEVICE_ATTR = iow("KVM_SET_DEVICE_ATTR", KVMIO, 0xE1, KVM_DEVICE_ATTR)
KVM_GET_DEVICE_ATTR = iow("KVM_GET_DEVICE_ATTR", KVMIO, 0xE2, KVM_DEVICE_ATTR)
KVM_HAS_DEVICE_ATTR = iow("KVM_HAS_DEVICE_ATTR", KVMIO, 0xE3, KVM_DEVICE_ATTR)

# KVM-VFIO has one attribute group. Linux 6.6 renamed it, because its attributes take any VFIO file.
KVM_DEV_VFIO_GROUP = 1
KVM_DEV_VFIO_GROUP_ADD = 1
KVM_DEV_VFIO_GROUP_DEL = 2
KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE = 3
KVM_DEV_VFIO_FILE = KVM_DEV_VFIO_GROUP
KVM_DEV_VFIO_FILE_ADD = KVM_DEV_VFIO_GROUP_ADD
KVM_DEV_VFIO_FILE_DEL = KVM_DEV_VFIO_GROUP_DEL


class kvm_vfio_spapr_tce(NamedTuple):
    """What SET_SPAPR_TCE points to (powerpc): two file descriptors."""

    groupfd: s32
    tablefd: s32


KVM_VFIO_SPAPR_TCE = Layout(kvm_vfio_spapr_tce, size=8)

# -- a VM: legacy device assignment (until Linux 4.12) --------------------------------------------


class kvm_assigned_pci_dev(NamedTuple):
    """`assigned_dev_id` is the caller's own name for the device at `segnr`:`busnr`:`devfn`."""

    assigned_dev_id: u32
    busnr: u32
    devfn: u32
    flags: u32
    segnr: u32
    reserved: Annotated[bytes, "44s"]


KVM_ASSIGNED_PCI_DEV = Layout(kvm_assigned_pci_dev, size=64)

KVM_DEV_ASSIGN_ENABLE_IOMMU = 1 << 0
KVM_DEV_ASSIGN_PCI_2_3 = 1 << 1
KVM_DEV_ASSIGN_MASK_INTX = 1 << 2

# The header has the direction of ASSIGN the wrong way round; the number is what counts.
KVM_ASSIGN_PCI_DEVICE = ior("KVM_ASSIGN_PCI_DEVICE", KVMIO, 0x69, KVM_ASSIGNED_PCI_DEV)
KVM_DEASSIGN_PCI_DEVICE = iow("KVM_DEASSIGN_PCI_DEVICE", KVMIO, 0x72, KVM_ASSIGNED_PCI_DEV)

# -- which file takes what ------------------------------------------------------------------------


def _by_number(*requests: Request) -> Mapping[int, Request]:
    return {int(request): request for request in requests}


_ATTRIBUTES = (KVM_SET_DEVICE_ATTR, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR)

# Those of the processor are in kvm_x86.
SYSTEM_REQUESTS = _by_number(
    KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, *_ATTRIBUTES
)
VM_REQUESTS = _by_number(
    KVM_CHECK_EXTENSION,
    KVM_CREATE_VCPU,
    KVM_CREATE_DEVICE,
    KVM_ASSIGN_PCI_DEVICE,
    KVM_DEASSIGN_PCI_DEVICE,
    *_ATTRIBUTES,
)
DEVICE_REQUESTS = _by_number(*_ATTRIBUTES)
