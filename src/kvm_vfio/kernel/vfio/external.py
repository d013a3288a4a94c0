# SPDX-License-Identifier: GPL-2.0-only
"""What KVM may ask of VFIO (include/linux/vfio.h, the external user's interface).

Rule of this file: KVM knows VFIO through these five questions only: get, find, put, set_kvm,
enforced_coherent.

There were two interfaces. Until 5.18 KVM holds a *vfio_group*, as one more user of the group's
container: no container with an IOMMU, no member; and the container cannot be taken away from a
member. Since 5.19 KVM holds an *open file*: that the program could open the group is the privilege,
containers come and go, and from 6.6 on a device's file will do as well as a group's.
"""

from __future__ import annotations

from errno import EINVAL
from typing import TYPE_CHECKING, Protocol

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.iommu.domain import device_can_enforce_coherency
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.group import GroupFile, VfioGroup
from kvm_vfio.profiles.profile import Coherency
from kvm_vfio.uapi.vfio import VFIO_DMA_CC_IOMMU

if TYPE_CHECKING:
    from kvm_vfio.kernel.file import File
    from kvm_vfio.kernel.kernel import Kernel
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.vfio.container import Container

Member = VfioGroup | GroupFile | VfioDeviceFile
"""What a KVM-VFIO device holds: a vfio_group until 5.18, the file of a group or device since."""

_VFIO_FILES = (GroupFile, VfioDeviceFile)


class External(Protocol):
    """The five questions."""

    epoch: int
    """Counts what may have changed an answer: equal epochs, equal answers."""

    watched: bool
    """Whether the kernel's observer listens to the questions: then each must be asked."""

    def force(self, member: Member, *, answer: bool | None) -> None:
        """Put `answer` in the place of the real one, as a tracing hook can; None: take it away."""

    def get(self, file: File) -> Member:
        """Take a reference on what `file` stands for. EINVAL: nothing KVM could hold."""

    def find(self, file: File) -> Member | None:
        """What DEL means by `file`; None or a stranger when it means no member."""

    def put(self, member: Member) -> bool:
        """Drop the reference. False: VFIO is not loaded any more, and the reference leaks."""

    def set_kvm(self, member: Member, vm: Vm | None) -> None:
        """Tell the member its VM."""

    def enforced_coherent(self, member: Member) -> bool:
        """Whether the IOMMU enforces coherency for the member's DMA."""

    def judge(self, member: Member) -> bool:
        """The answer `enforced_coherent` would give, without asking: nobody hears of it."""

    def why_noncoherent(self, member: Member) -> str:
        """The reason behind a no, as a clause; the present state's, whatever was asked before."""


class _Questions:
    """What both interfaces share: forced answers, and when an answer may have changed."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.forced: dict[Member, bool] = {}
        self.epoch = 0
        self.watched = type(kernel.observer).coherency_asked is not Observer.coherency_asked

    def force(self, member: Member, *, answer: bool | None) -> None:
        """`External.force`."""
        self.epoch += 1
        self.forced.pop(member, None)
        if answer is not None:
            self.forced[member] = answer


class ContainerUsers(_Questions):
    """Until 5.18: a member is a vfio_group, held through its container."""

    def get(self, file: File) -> VfioGroup:
        """vfio_group_get_external_user. EINVAL: VFIO not loaded, no group, no IOMMU, not viable."""
        if not self.kernel.vfio_loaded:
            raise KernelError(EINVAL, "VFIO is not loaded")
        if not isinstance(file, GroupFile):
            raise KernelError(EINVAL, f"{file.name} is no VFIO group")
        file.vfio_group.add_container_user()
        return file.vfio_group

    def find(self, file: File) -> VfioGroup | None:
        """Until 4.12 a second vfio_group_get_external_user, with its EINVAL; then by file."""
        if self.kernel.profile.del_looks_up_again:
            vfio_group = self.get(file)
            self.put(vfio_group)
            return vfio_group
        return file.vfio_group if isinstance(file, GroupFile) else None

    def put(self, member: Member) -> bool:
        """vfio_group_put_external_user."""
        if not self.kernel.vfio_loaded or not isinstance(member, VfioGroup):
            return False
        member.try_dissolve_container()
        return True

    def set_kvm(self, member: Member, vm: Vm | None) -> None:
        """vfio_group_set_kvm, in kernels that have it and while VFIO is loaded."""
        if not self.kernel.profile.tells_member_its_kvm or not self.kernel.vfio_loaded:
            return
        if isinstance(member, VfioGroup):
            member.vm = vm
            self.kernel.observer.kvm_set(member, vm)

    def enforced_coherent(self, member: Member) -> bool:
        """vfio_external_check_extension, VFIO_DMA_CC_IOMMU; the patch itself asks nothing."""
        if self.kernel.profile.coherency is Coherency.NEVER or not self.kernel.vfio_loaded:
            return False
        coherent = self.judge(member)
        self.kernel.observer.coherency_asked(member, coherent=coherent)
        return coherent

    def judge(self, member: Member) -> bool:
        """`External.judge`."""
        if self.kernel.profile.coherency is Coherency.NEVER or not self.kernel.vfio_loaded:
            return False
        if member in self.forced:
            return self.forced[member]
        container = member.container if isinstance(member, VfioGroup) else None
        return container is not None and container.extension(VFIO_DMA_CC_IOMMU) > 0

    def why_noncoherent(self, member: Member) -> str:
        """`External.why_noncoherent`."""
        if self.kernel.profile.coherency is Coherency.NEVER:
            return "the patch takes every member for noncoherent"
        if not self.kernel.vfio_loaded:
            return "VFIO is not loaded, so nobody can say that it is coherent"
        return _why_container(member.container if isinstance(member, VfioGroup) else None)


class OpenFiles(_Questions):
    """Since 5.19: a member is an open file."""

    def get(self, file: File) -> Member:
        """vfio_file_is_group, from 6.6 on vfio_file_is_valid. EINVAL."""
        if not isinstance(file, GroupFile) and not (
            isinstance(file, VfioDeviceFile) and self.kernel.profile.accepts_device_file
        ):
            raise KernelError(EINVAL, f"{file.name} is no VFIO file that this kernel takes")
        file.get()
        return file

    def find(self, file: File) -> Member | None:
        """The file itself: DEL compares open files."""
        return file if isinstance(file, _VFIO_FILES) else None

    def put(self, member: Member) -> bool:
        """fput."""
        if isinstance(member, VfioGroup):
            raise TypeError("a vfio_group is no member of this kernel's KVM-VFIO device")
        member.put()
        return True

    def set_kvm(self, member: Member, vm: Vm | None) -> None:
        """vfio_file_set_kvm."""
        if isinstance(member, GroupFile):
            member.vfio_group.vm = vm
        self.kernel.observer.kvm_set(member, vm)

    def enforced_coherent(self, member: Member) -> bool:
        """vfio_file_enforced_coherent."""
        coherent = self.judge(member)
        self.kernel.observer.coherency_asked(member, coherent=coherent)
        return coherent

    def judge(self, member: Member) -> bool:
        """`External.judge`."""
        if member in self.forced:
            return self.forced[member]
        if isinstance(member, VfioDeviceFile):
            return device_can_enforce_coherency(member.device.function.iommu_group)
        vfio_group = member.vfio_group if isinstance(member, GroupFile) else member
        if self.kernel.profile.coherency is Coherency.DEVICES:
            return not vfio_group.devices or device_can_enforce_coherency(vfio_group.iommu_group)
        container = vfio_group.container
        return container is None or container.extension(VFIO_DMA_CC_IOMMU) > 0

    def why_noncoherent(self, member: Member) -> str:
        """`External.why_noncoherent`."""
        if isinstance(member, VfioDeviceFile):
            return f"{member.device.function.iommu_group.iommu.name} has no snoop control"
        vfio_group = member.vfio_group if isinstance(member, GroupFile) else member
        if self.kernel.profile.coherency is Coherency.DEVICES:
            return f"{vfio_group.iommu_group.iommu.name} has no snoop control"
        return _why_container(vfio_group.container)


def _why_container(container: Container | None) -> str:
    if container is None:
        return "it has no container"
    if container.iommu is None:
        return "its container has no IOMMU set"
    return "its container's domain does not enforce coherency: an IOMMU lacks snoop control"
