# SPDX-License-Identifier: GPL-2.0-only
"""The KVM-VFIO pseudo device (virt/kvm/vfio.c): which VFIO groups this VM uses.

Rule of this file: everything the device decides is decided here, and nothing else is.

Userspace names each VFIO group it gives to the VM with one attribute and takes it back with
another. The device keeps a reference on every member, so that a group cannot vanish under a running
guest, and answers one question for KVM: can a device of this VM bypass the CPU caches? If any
member's IOMMU does not enforce coherency, the guest's WBINVD must really run.

That answer is one bit. Whatever the number of members, the device registers noncoherent DMA with
its VM once when the bit turns on and unregisters once when it turns off. The bit is looked at
when a member comes or goes and at no other time: a container that changes in between is noticed
at the next ADD or DEL.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from errno import EBUSY, EEXIST, ENOENT, ENXIO
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.kvm.device import KvmDevice
from kvm_vfio.uapi.kvm import KVM_DEV_VFIO_GROUP, KVM_DEV_VFIO_GROUP_ADD, KVM_DEV_VFIO_GROUP_DEL
from kvm_vfio.uapi.layout import INT32

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Task
    from kvm_vfio.kernel.vfio.external import Member


@dataclass(frozen=True, slots=True)
class KvmVfioPicture:
    """One device: its members by name, in the order they came, and whether it is registered."""

    members: tuple[str, ...]
    noncoherent: bool


class KvmVfio(KvmDevice):
    """struct kvm_vfio. `members` keeps the order of their coming; `noncoherent` is the bit.

    `coherent_epoch` is the state of VFIO in which every member was coherent, None for none.
    """

    __slots__ = ("coherent_epoch", "external", "lock", "members", "noncoherent", "number")
    name = "kvm-vfio"

    def __init__(self, vm: Vm) -> None:
        """kvm_vfio_create. EBUSY: a VM has at most one."""
        if any(isinstance(device, KvmVfio) for device in vm.devices):
            raise KernelError(EBUSY, "the VM has a KVM-VFIO device already, and can have one")
        super().__init__(vm)
        vm.kernel.kvm_vfio_created += 1
        self.number = vm.kernel.kvm_vfio_created
        self.lock = vm.kernel.lock("kv->lock")
        self.external = vm.kernel.external
        self.members: dict[Member, None] = {}
        self.noncoherent = False
        self.coherent_epoch: int | None = self.external.epoch
        vm.kernel.observer.kvm_vfio_created(self)

    def has_attr(self, attr_group: int, attr: int) -> int:
        """kvm_vfio_has_attr. ENXIO for all but ADD and DEL."""
        if attr_group == KVM_DEV_VFIO_GROUP and attr in (
            KVM_DEV_VFIO_GROUP_ADD,
            KVM_DEV_VFIO_GROUP_DEL,
        ):
            return 0
        raise KernelError(ENXIO, f"kvm-vfio has no attribute ({attr_group}, {attr})")

    def set_attr(self, task: Task, attr_group: int, attr: int, address: int) -> int:
        """kvm_vfio_set_attr. `address` is that of an int32 with the fd.

        ENXIO for all but ADD and DEL, before memory is looked at; then as `group_add`, `group_del`.
        """
        self.has_attr(attr_group, attr)
        (fd,) = INT32.unpack_fields(task.copy_from_user(address, INT32.size))
        if attr == KVM_DEV_VFIO_GROUP_ADD:
            return self.group_add(task, fd)
        return self.group_del(task, fd)

    def group_add(self, task: Task, fd: int) -> int:
        """kvm_vfio_file_add. EFAULT (before), EBADF, EINVAL, EEXIST, ENOMEM."""
        member = self.external.get(task.fget(fd))
        with self.lock:
            if member in self.members:
                self.external.put(member)
                raise KernelError(EEXIST, f"{member.name} is a member already")
            try:
                self.vm.kernel.allocate("kvm_vfio_file")
            except KernelError:
                self.external.put(member)
                raise
            self.members[member] = None
            self.vm.kernel.observer.reference_taken(self, member)
            self.vm.start_assignment()
            self.external.set_kvm(member, self.vm)
            self.update_coherency([member])
        return 0

    def group_del(self, task: Task, fd: int) -> int:
        """kvm_vfio_file_del. EFAULT (before), EBADF, in the oldest kernels EINVAL, ENOENT."""
        file = task.fget(fd)
        member = self.external.find(file)
        with self.lock:
            if member not in self.members:
                if self.vm.kernel.profile.failed_del_updates_coherency:
                    self.update_coherency()
                raise KernelError(ENOENT, f"{file.name} is no member")
            del self.members[member]
            self.vm.end_assignment()
            self._let_go(member)
            self.update_coherency()
        return 0

    def update_coherency(self, changed: Collection[Member] = ()) -> None:
        """kvm_vfio_update_coherency: ask member by member until the first no; tell KVM a change.

        `changed` are the members that came since the last time. Where all the others are known to
        be coherent still and nobody listens to the questions, only these are asked.
        """
        external = self.external
        known = self.coherent_epoch == external.epoch and not external.watched
        if known and not changed:
            return
        noncoherent = not all(map(external.enforced_coherent, changed if known else self.members))
        self.coherent_epoch = None if noncoherent else external.epoch
        if noncoherent == self.noncoherent:
            return
        self.noncoherent = noncoherent
        if noncoherent:
            self.vm.register_noncoherent_dma()
        else:
            self.vm.unregister_noncoherent_dma()

    def release(self) -> None:
        """kvm_vfio_release: the last close of the device fd."""
        self.vm.kernel.observer.kvm_vfio_released(self)
        self._drop_all()

    def destroy(self) -> None:
        """kvm_vfio_destroy: its VM takes the device down; in the patch, its last close does."""
        self.vm.kernel.observer.kvm_vfio_destroyed(self)
        self._drop_all()

    def _drop_all(self) -> None:
        for member in self.members:
            self._let_go(member)
            self.vm.end_assignment()
        self.members.clear()
        self.update_coherency()

    def _let_go(self, member: Member) -> None:
        self.external.set_kvm(member, None)
        if self.external.put(member):
            self.vm.kernel.observer.reference_dropped(self, member)
        else:
            self.vm.kernel.observer.reference_leaked(self, member)

    def noncoherent_because(self) -> list[str]:
        """The members that are noncoherent now, each with the reason; stale answers say so."""
        if not self.noncoherent:
            return []
        external = self.external
        return [
            f"{member.name}: {external.why_noncoherent(member)}"
            for member in self.members
            if not external.judge(member)
        ] or ["no member is noncoherent any more; the next ADD or DEL will notice"]

    def picture(self) -> KvmVfioPicture:
        """What the device holds now."""
        return KvmVfioPicture(tuple(m.name for m in self.members), self.noncoherent)
