# SPDX-License-Identifier: GPL-2.0-only
"""What would have satisfied the rule that refused a call.

Rule of this file: a table. A row applies to a call (or to any), an errno, and a part of the reason
that the model gave; the first that fits is the answer. A remedy is an instruction, and a test
refuses calls in every way to see that it has one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# CALL ERRNO [a part of the reason]: what to do. "*" is any; what is indented goes on.
_TABLE = """
KVM_SET_DEVICE_ATTR EEXIST: Add each group once; DEL it first to add it anew.
KVM_SET_DEVICE_ATTR ENOENT: DEL only what was added, and by a fd of the same open file.
KVM_SET_DEVICE_ATTR ENXIO: Use group KVM_DEV_VFIO_GROUP (1) with GROUP_ADD (1) or GROUP_DEL (2).
KVM_SET_DEVICE_ATTR EINVAL [no VFIO]: Give the fd of /dev/vfio/N; from Linux 6.6 on a VFIO device's
    fd will do as well.
KVM_SET_DEVICE_ATTR EINVAL [is not viable]: Unbind the devices named there from their drivers, or
    bind them to vfio-pci: the group is usable when no other driver holds a device of it.
KVM_SET_DEVICE_ATTR EINVAL [VFIO is not loaded]: Load the vfio module first.
KVM_SET_DEVICE_ATTR EINVAL: Call VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU before
    KVM_DEV_VFIO_GROUP_ADD.
KVM_SET_DEVICE_ATTR EBADF: Keep the group's fd open until the ADD or DEL is done, and let addr point
    to an int32 with that fd.
KVM_SET_DEVICE_ATTR ENOMEM: Treat the group as not added; try again later.
KVM_HAS_DEVICE_ATTR ENXIO: Take it as the answer no: this kernel has no such attribute.
KVM_HAS_DEVICE_ATTR EINVAL: Take it as the answer no: this kernel's /dev/kvm has no attributes.
KVM_GET_DEVICE_ATTR EPERM: Do not ask: no attribute of a KVM-VFIO device can be read.
KVM_CREATE_DEVICE EBUSY: Make one KVM-VFIO device for each VM and keep its fd.
KVM_CREATE_DEVICE ENODEV: Ask with KVM_CREATE_DEVICE_TEST, and go on without the device.
KVM_CREATE_VM EINVAL: Give 0 as the machine type.
KVM_ASSIGN_PCI_DEVICE ENOTTY: Use VFIO.
KVM_CREATE_VCPU EEXIST: Give each vCPU a number of its own; closing its fd does not free it.
KVM_CREATE_VCPU EINVAL: Ask KVM_CAP_MAX_VCPUS and KVM_CAP_MAX_VCPU_ID before, and stay below.
* E2BIG [and room for]: Ask again with room for as many as there are.
* EINVAL [local APICs are not]: Call KVM_CREATE_IRQCHIP, or enable KVM_CAP_SPLIT_IRQCHIP, before the
    first vCPU.
* EINVAL [has no such request]: Ask KVM_CHECK_EXTENSION for its capability first.
KVM_GET_SUPPORTED_HV_CPUID EINVAL: Ask a vCPU: /dev/kvm answers from Linux 5.11 on.
KVM_SET_SREGS EINVAL [EFER 0x]: Call KVM_SET_CPUID2 first, with a processor that has these bits.
KVM_SET_SREGS EINVAL [that are reserved]: Call KVM_SET_CPUID2 first, with a processor that has these
    bits.
KVM_SET_SREGS EINVAL: Change what KVM_GET_SREGS has read, and keep to what the processor allows.
KVM_SET_DEBUGREGS EINVAL: Change what KVM_GET_DEBUGREGS has read; DR6 and DR7 have 32 bits.
KVM_SET_MP_STATE EINVAL: Set KVM_MP_STATE_RUNNABLE: the others need a local APIC of KVM's.
KVM_SET_VCPU_EVENTS EINVAL [has not enabled]: Enable the capability named there with KVM_ENABLE_CAP
    on the VM.
KVM_SET_VCPU_EVENTS EINVAL: Change what KVM_GET_VCPU_EVENTS has read; exceptions are 0 to 31, not 2.
KVM_SET_XCRS EINVAL: Call KVM_SET_CPUID2 first: leaf 0xD says what XCR0 can enable.
KVM_SET_XSAVE EINVAL: Change what KVM_GET_XSAVE has read: its header says which components count.
* EIO [belongs to the process]: Call from the process that made the VM: its fds are of no use after
    fork.
open EBUSY [still in its container]: Close every fd of the group's devices first.
open EBUSY: Use the fd that is open already (dup it, or pass it over a socket): a group has one
    opener. A KVM-VFIO device holds it open until DEL.
open ENOENT [/dev/vfio]: Bind a device of the group to vfio-pci, and load vfio: /dev/vfio/N is there
    for groups that VFIO has a device of.
open ENXIO: Open the device by its path in /dev.
VFIO_GROUP_SET_CONTAINER EPERM: Unbind the devices named there from their drivers, or bind them to
    vfio-pci: the group is usable when no other driver holds a device of it.
VFIO_GROUP_SET_CONTAINER EBADFD: Give the address of an int32 with the fd of /dev/vfio/vfio.
VFIO_GROUP_SET_CONTAINER EBADF: Give the address of an int32 with the open fd of /dev/vfio/vfio.
VFIO_GROUP_SET_CONTAINER EINVAL [does not reach]: Use a container of its own for this group: its
    IOMMU has fewer address bits than what is mapped.
VFIO_GROUP_SET_CONTAINER EINVAL [is no container]: Give the address of an int32 with the fd of
    /dev/vfio/vfio.
VFIO_GROUP_SET_CONTAINER EINVAL: Call it once for each group; UNSET_CONTAINER first to change it.
VFIO_GROUP_UNSET_CONTAINER EBUSY: Close the fds of the group's devices first; until Linux 5.18 also
    DEL the group from KVM-VFIO.
VFIO_GROUP_UNSET_CONTAINER EINVAL: Call it only for a group that is in a container.
VFIO_GROUP_UNSET_CONTAINER EBADF: Call it only for a group that is in a container.
VFIO_SET_IOMMU EINVAL [no group]: Put a group in the container first: VFIO_GROUP_SET_CONTAINER.
VFIO_SET_IOMMU EINVAL [already]: Call it once for each container; groups that come later are
    attached by SET_CONTAINER.
VFIO_SET_IOMMU EPERM: Turn interrupt remapping on, or load vfio_iommu_type1 with
    allow_unsafe_interrupts=1.
VFIO_SET_IOMMU EINVAL: Use VFIO_TYPE1v2_IOMMU (3).
VFIO_SET_IOMMU ENODEV: Use VFIO_TYPE1v2_IOMMU (3) or VFIO_TYPE1_IOMMU (1), whichever
    VFIO_CHECK_EXTENSION says 1 for.
* EINVAL [has no IOMMU to answer]: Call VFIO_SET_IOMMU on the container first.
VFIO_GROUP_GET_DEVICE_FD EINVAL [not viable]: Unbind the devices named there from their drivers, or
    bind them to vfio-pci: the group is usable when no other driver holds a device of it.
VFIO_GROUP_GET_DEVICE_FD EINVAL [bytes]: Give the device's name, such as 0000:00:10.0.
VFIO_GROUP_GET_DEVICE_FD EINVAL: Call VFIO_GROUP_SET_CONTAINER and VFIO_SET_IOMMU first.
VFIO_GROUP_GET_DEVICE_FD ENODEV: Give the full name of a device of this group, such as 0000:00:10.0,
    that vfio-pci is bound to.
* ENODEV [the last device]: Close the group: its devices are gone.
VFIO_IOMMU_MAP_DMA EEXIST: Unmap the iova first: VFIO_IOMMU_UNMAP_DMA.
VFIO_IOMMU_MAP_DMA ENOSPC: Map larger pieces: a container has a limited number of mappings.
VFIO_IOMMU_MAP_DMA ENOMEM: Raise RLIMIT_MEMLOCK by the size of the guest's memory.
VFIO_IOMMU_MAP_DMA EINVAL [whole pages]: Align iova, vaddr and size to 4096.
VFIO_IOMMU_MAP_DMA EINVAL: Set argsz to the structure's size and use READ and WRITE as flags; map
    below the last iova that VFIO_IOMMU_GET_INFO reports.
VFIO_IOMMU_MAP_DMA EOVERFLOW: Map a range that ends below 2**64.
VFIO_IOMMU_MAP_DMA EFAULT [no such memory]: Map the memory into the program first, writable if the
    device is to write.
VFIO_IOMMU_MAP_DMA EFAULT: Give the address of a vfio_iommu_type1_dma_map that can be read; map
    below the last iova that VFIO_IOMMU_GET_INFO reports.
VFIO_IOMMU_MAP_DMA ENOENT: Map the iova before giving it a new address.
VFIO_IOMMU_UNMAP_DMA EINVAL [in two]: Unmap whole mappings, as they were mapped.
VFIO_IOMMU_UNMAP_DMA EINVAL: Set argsz to the structure's size; align iova and size to 4096.
VFIO_IOMMU_UNMAP_DMA EOVERFLOW: Unmap a range that ends below 2**64.
VFIO_DEVICE_SET_IRQS EINVAL [eventfd]: Give eventfds: eventfd2(2).
VFIO_DEVICE_SET_IRQS EINVAL: Stay within what VFIO_DEVICE_GET_IRQ_INFO reports, and set argsz to the
    structure and its data.
VFIO_DEVICE_SET_IRQS ENOTTY: Use the actions that VFIO_DEVICE_GET_IRQ_INFO offers for this
    interrupt.
VFIO_DEVICE_GET_REGION_INFO EINVAL [no region]: Ask for regions below num_regions of
    VFIO_DEVICE_GET_INFO.
VFIO_DEVICE_RESET EINVAL: Reset only a device whose flags have VFIO_DEVICE_FLAGS_RESET.
* ENODEV [root bus]: Do without: a device on the root bus has no hot reset.
* EIO [COMMAND]: Set the memory bit of COMMAND in the device's config space first.
KVM_SET_USER_MEMORY_REGION EEXIST: Delete the slot that is named there first, with a memory_size of
    0.
KVM_SET_USER_MEMORY_REGION EINVAL [keeps its memory]: Delete the slot, with a memory_size of 0, and
    make it anew.
KVM_SET_USER_MEMORY_REGION EINVAL [stays read-only]: Delete the slot, with a memory_size of 0, and
    make it anew.
KVM_SET_USER_MEMORY_REGION EINVAL [address spaces of]: Use numbers below KVM_CAP_NR_MEMSLOTS, with
    the address space in bits 16 to 31.
KVM_SET_USER_MEMORY_REGION EINVAL [no guest address beyond]: Keep guest memory within the physical
    bits of the processor, CPUID 0x80000008.
KVM_SET_USER_MEMORY_REGION EINVAL [to delete]: Delete only what is there.
KVM_SET_USER_MEMORY_REGION EINVAL: Give whole pages of the program's own memory, and flags that
    KVM_CAP_READONLY_MEM and KVM_CAP_USER_MEMORY allow.
KVM_SET_USER_MEMORY_REGION2 EINVAL: See KVM_SET_USER_MEMORY_REGION: an ordinary VM has no private
    memory.
KVM_GET_DIRTY_LOG ENOENT: Set KVM_MEM_LOG_DIRTY_PAGES for the slot first.
KVM_GET_DIRTY_LOG ENXIO: Read the vCPUs' dirty rings, which were chosen for this VM.
KVM_GET_DIRTY_LOG EINVAL: Use the number of a slot that there can be.
KVM_CLEAR_DIRTY_LOG ENOENT: Set KVM_MEM_LOG_DIRTY_PAGES for the slot first.
KVM_CLEAR_DIRTY_LOG ENXIO: Call KVM_RESET_DIRTY_RINGS, since dirty rings were chosen for this VM.
KVM_CLEAR_DIRTY_LOG EINVAL: Clear from a multiple of 64 on, a multiple of 64 pages or up to the end.
KVM_RESET_DIRTY_RINGS EINVAL: Enable KVM_CAP_DIRTY_LOG_RING before the first vCPU.
KVM_SET_NR_MMU_PAGES EINVAL: Give 64 or more, or leave the number to KVM.
KVM_CREATE_IRQCHIP EEXIST: Call it once, and not with KVM_CAP_SPLIT_IRQCHIP.
KVM_CREATE_IRQCHIP EINVAL: Call it before the first KVM_CREATE_VCPU.
KVM_CREATE_IRQCHIP ENOSPC: Unregister coalesced MMIO zones first: a bus has 1000 places.
KVM_CREATE_PIT ENOENT: Call KVM_CREATE_IRQCHIP first.
KVM_CREATE_PIT EEXIST: Call it once.
KVM_CREATE_PIT2 ENOENT: Call KVM_CREATE_IRQCHIP first.
KVM_CREATE_PIT2 EEXIST: Call it once.
* ENXIO [no PIT]: Call KVM_CREATE_PIT2 first.
* EINVAL [the VM has no interrupt controller]: Call KVM_CREATE_IRQCHIP, or enable
    KVM_CAP_SPLIT_IRQCHIP, first.
* ENXIO [the VM has no interrupt controller]: Call KVM_CREATE_IRQCHIP, or enable
    KVM_CAP_SPLIT_IRQCHIP, first.
* ENXIO [PIC and IOAPIC the caller's]: Ask the program's own PIC and IOAPIC: the irqchip is split.
* EINVAL [PIC and IOAPIC the caller's]: Resample in the program's own IOAPIC: the irqchip is split.
KVM_GET_IRQCHIP EINVAL: Use chip_id 0, 1 (PIC) or 2 (IOAPIC).
KVM_SET_IRQCHIP EINVAL: Use chip_id 0, 1 (PIC) or 2 (IOAPIC).
KVM_SET_GSI_ROUTING EINVAL [leads elsewhere]: Route a GSI to a chip once, or to one MSI and nothing
    else.
KVM_SET_GSI_ROUTING EINVAL [caller's]: Route to MSIs only: the irqchip is split.
KVM_SET_GSI_ROUTING EINVAL: Give at most KVM_CAP_IRQ_ROUTING routes, of type IRQCHIP or MSI, with
    pins that there are and no flags.
KVM_SIGNAL_MSI EPERM: Make a vCPU first.
KVM_SIGNAL_MSI EINVAL: Give an address and data as the guest has set them, and no flags.
KVM_IRQFD EBUSY: Use an eventfd for one irqfd, and DEASSIGN that before it is used anew.
KVM_IRQFD EINVAL [no flags]: Use KVM_IRQFD_FLAG_DEASSIGN and KVM_IRQFD_FLAG_RESAMPLE only.
KVM_IRQFD EINVAL: Give an eventfd.
KVM_IOEVENTFD EEXIST: DEASSIGN the ioeventfd at this address first, or match other data.
KVM_IOEVENTFD ENOENT: DEASSIGN with the eventfd, address, length and data it was made with.
KVM_IOEVENTFD ENOSPC: Unregister coalesced MMIO zones first: a bus has 1000 places.
KVM_IOEVENTFD EINVAL: Give an eventfd, a length of 0, 1, 2, 4 or 8 bytes, and an address that does
    not wrap.
KVM_REGISTER_COALESCED_MMIO EINVAL: Set pio to 0 or 1.
KVM_UNREGISTER_COALESCED_MMIO EINVAL: Set pio to 0 or 1.
KVM_HYPERV_EVENTFD EEXIST: DEASSIGN the connection first.
KVM_HYPERV_EVENTFD ENOENT: DEASSIGN only what is there.
KVM_HYPERV_EVENTFD EINVAL: Give a connection of 24 bits and an eventfd.
KVM_ENABLE_CAP EEXIST: Choose the irqchip once, before the first vCPU.
KVM_ENABLE_CAP EINVAL [first vCPU]: Enable it before the first KVM_CREATE_VCPU, and once.
KVM_ENABLE_CAP EINVAL [is none that]: Ask KVM_CHECK_EXTENSION first, and set no flags.
KVM_ENABLE_CAP EINVAL [is settled]: Enable it once, before the first KVM_CREATE_VCPU.
KVM_ENABLE_CAP EINVAL: Give what KVM_CHECK_EXTENSION says of the capability.
KVM_ENABLE_CAP E2BIG: Give at most what KVM_CHECK_EXTENSION says, in bytes.
KVM_SET_BOOT_CPU_ID EBUSY: Call it before the first KVM_CREATE_VCPU.
KVM_SET_BOOT_CPU_ID EINVAL: Give an id that a vCPU can have: see KVM_CAP_MAX_VCPU_ID.
KVM_SET_IDENTITY_MAP_ADDR EINVAL: Call it before the first KVM_CREATE_VCPU.
KVM_SET_TSS_ADDR EINVAL: Leave room for three pages below 4 GiB.
KVM_SET_CLOCK EINVAL: Set only flags that KVM_CHECK_EXTENSION of KVM_CAP_ADJUST_CLOCK has.
KVM_SET_TSC_KHZ EINVAL: Call it on the VM before the first KVM_CREATE_VCPU.
KVM_SET_PMU_EVENT_FILTER EINVAL: Use KVM_PMU_EVENT_ALLOW or KVM_PMU_EVENT_DENY, and flags that
    KVM_CHECK_EXTENSION of KVM_CAP_PMU_EVENT_MASKED_EVENTS has.
KVM_SET_PMU_EVENT_FILTER E2BIG: Name at most 300 events.
KVM_X86_SET_MSR_FILTER EINVAL: Give each range its flags and at most 12288 MSRs, and allow something
    where all is denied by default.
* * [argsz]: Set argsz to the size of the structure in the header you use.
* EFAULT: Give the address of memory that can be read, and written where the kernel answers there.
* EBADF: Use a fd that is open.
* ENOTTY: Check which file the fd is of, and which Linux this is: the request is not there.
* EINVAL [has no ioctl]: Check which file the fd is of, and which Linux this is: the request is not
    there.
* EMFILE: Close fds, or raise RLIMIT_NOFILE.
* ENFILE: Close fds.
* ENOMEM: Treat the call as not made; try again later.
* EINVAL [mapped]: Map only regions whose flags have VFIO_REGION_INFO_FLAG_MMAP, at the offset that
    GET_REGION_INFO reports.
* ENODEV [mapped]: Map only VFIO devices.
* EINVAL [region]: Stay within the regions that VFIO_DEVICE_GET_REGION_INFO reports.
"""
_ANY = "*"
_OPENS = ("openat", "openat2")


class _Row(NamedTuple):
    call: str
    errno: str
    part: str | None
    remedy: str


def _rows() -> list[_Row]:
    text = _TABLE.strip().replace("\n    ", " ")
    pattern = re.compile(r"(\S+) (\S+)(?: \[(.*?)\])?: (.+)")
    return [
        _Row(*found.groups()) for line in text.split("\n") if (found := pattern.fullmatch(line))
    ]


_ROWS = _rows()


def remedy(call: str, errno: str, why: str) -> str:
    """What to do instead; "" where nobody knows."""
    name = "open" if call in _OPENS else call
    for row in _ROWS:
        if row.call in (name, _ANY) and row.errno in (errno, _ANY) and (row.part or "") in why:
            return row.remedy
    return ""
