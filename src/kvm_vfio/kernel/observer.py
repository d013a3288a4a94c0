# SPDX-License-Identifier: GPL-2.0-only
"""What the model says while it works: effects that no errno shows.

Rule of this file: an observer only listens. The methods are named for what has just happened; the
comment names the kernel function that a probe on a real Linux would sit on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvm_vfio.kernel.iommu.dma import DmaFault
    from kvm_vfio.kernel.iommu.group import PciFunction
    from kvm_vfio.kernel.kvm.vcpu import Vcpu
    from kvm_vfio.kernel.kvm.vfio import KvmVfio
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.vfio.container import Container
    from kvm_vfio.kernel.vfio.external import Member
    from kvm_vfio.kernel.vfio.group import VfioGroup


class Observer:
    """Hears everything and does nothing; subclass it and override what you want to hear."""

    def vm_created(self, vm: Vm) -> None:
        """kvm_arch_init_vm."""

    def vm_destroyed(self, vm: Vm) -> None:
        """kvm_arch_destroy_vm: entered, nothing of the VM is torn down yet."""

    def guest_code_wanted(self, vcpu: Vcpu) -> None:
        """KVM_RUN: a guest was to run, and nothing does."""

    def noncoherent_dma_registered(self, vm: Vm) -> None:
        """kvm_arch_register_noncoherent_dma."""

    def noncoherent_dma_unregistered(self, vm: Vm) -> None:
        """kvm_arch_unregister_noncoherent_dma."""

    def assignment_started(self, vm: Vm) -> None:
        """kvm_arch_start_assignment."""

    def assignment_ended(self, vm: Vm) -> None:
        """kvm_arch_end_assignment."""

    def irqfd_injected(self, vm: Vm, gsi: int) -> None:
        """irqfd_inject: an eventfd was signalled, and raises `gsi` of the VM."""

    def irq_set(self, vm: Vm, gsi: int, *, level: bool, answer: int) -> None:
        """kvm_set_irq has moved a line of the VM; `answer` is what the controllers said."""

    def kvm_set(self, member: Member, vm: Vm | None) -> None:
        """vfio_file_set_kvm (vfio_group_set_kvm): the member learns its VM, or loses it."""

    def coherency_asked(self, member: Member, *, coherent: bool) -> None:
        """vfio_file_enforced_coherent (vfio_external_check_extension) has answered."""

    def kvm_vfio_created(self, device: KvmVfio) -> None:
        """kvm_vfio_create has succeeded."""

    def kvm_vfio_released(self, device: KvmVfio) -> None:
        """kvm_vfio_release: the last close of the device fd, entered."""

    def kvm_vfio_destroyed(self, device: KvmVfio) -> None:
        """kvm_vfio_destroy: the VM takes its device down, entered."""

    def reference_taken(self, device: KvmVfio, member: Member) -> None:
        """The KVM-VFIO device holds `member` from now on."""

    def reference_dropped(self, device: KvmVfio, member: Member) -> None:
        """The KVM-VFIO device has let go of `member`."""

    def reference_leaked(self, device: KvmVfio, member: Member) -> None:
        """The KVM-VFIO device is gone and `member` is still held: nobody can drop it any more."""

    def dma_faulted(self, fault: DmaFault, function: PciFunction) -> None:
        """What a device wanted of memory was refused: DMAR's fault report, and bus mastering."""

    def stale_dma(self, function: PciFunction, iova: int) -> None:
        """A read that did not snoop found in memory what a CPU's cache has newer."""

    def group_attached(self, vfio_group: VfioGroup, container: Container) -> None:
        """vfio_container_attach_group has succeeded."""

    def group_detached(self, vfio_group: VfioGroup, container: Container) -> None:
        """vfio_group_detach_container has succeeded; the last group took the IOMMU along."""

    def iommu_set(self, container: Container) -> None:
        """vfio_ioctl_set_iommu has succeeded."""
