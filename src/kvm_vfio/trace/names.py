# SPDX-License-Identifier: GPL-2.0-only
"""What the objects of a kernel are called in a trace, and why DMA is noncoherent.

Rule of this file: it looks at the model and changes nothing. A name is a kind and a number, the
same for as long as the object lives: "group 26", "vm 1", "container 2".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.iommu import domain as iommu_domain
from kvm_vfio.kernel.iommu.group import IommuGroup
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.kvm.vcpu import VcpuFile
from kvm_vfio.kernel.kvm.vfio import KvmVfio
from kvm_vfio.kernel.kvm.vm import Vm, VmFile
from kvm_vfio.kernel.vfio.container import Container, ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.external import External, Member
from kvm_vfio.kernel.vfio.group import GroupFile, VfioGroup
from kvm_vfio.profiles.profile import Coherency, DomainScope
from kvm_vfio.trace.schema import Domain, Reason


def device_name(device: KvmVfio) -> str:
    """The KVM-VFIO device."""
    return f"kvm-vfio {device.number}"


def container_name(container: Container) -> str:
    """The container, whichever files it has."""
    return f"container {container.number}"


def member_name(member: Member) -> str:
    """What a KVM-VFIO device holds."""
    if isinstance(member, VfioDeviceFile):
        return f"device {member.device.function.static.address}"
    return f"group {_vfio_group(member).number}"


def _kvm_device_name(file: KvmDeviceFile) -> str:
    return device_name(file.device) if isinstance(file.device, KvmVfio) else file.name


_NAMES: dict[type[File], Callable[[Any], str]] = {
    KvmSystemFile: lambda _: "kvm",
    VmFile: lambda file: f"vm {file.vm.number}",
    VcpuFile: lambda file: f"vcpu {file.vcpu.vcpu_id} of vm {file.vcpu.vm.number}",
    KvmDeviceFile: _kvm_device_name,
    ContainerFile: lambda file: container_name(file.container),
    GroupFile: member_name,
    VfioDeviceFile: member_name,
}


def object_name(file: File) -> str:
    """The object behind a file; for files of no interest, what people call them."""
    name = _NAMES.get(type(file))
    return file.name if name is None else name(file)


def _vfio_group(member: GroupFile | VfioGroup) -> VfioGroup:
    return member.vfio_group if isinstance(member, GroupFile) else member


def domains(container: Container) -> tuple[Domain, ...]:
    """The domains of a container that has an IOMMU set."""
    return tuple(
        Domain(
            f"domain {each.number}",
            tuple(group.number for group in each.iommu_groups),
            _names(each.iommu_groups),
            each.enforces_coherency,
        )
        for each in (container.iommu.domains if container.iommu else ())
    )


def _names(groups: Iterable[IommuGroup]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(group.iommu.name for group in groups))


def reasons(vm: Vm) -> tuple[Reason, ...]:
    """Why the DMA of a VM is noncoherent now, a reason for each member that makes it so."""
    found = [
        reason(device.external, member)
        for device in vm.devices
        if isinstance(device, KvmVfio)
        for member in device.members
        if not device.external.judge(member)
    ]
    if vm.assigned_noncoherent:
        found += [
            Reason(
                f"device {assigned.function.static.address}",
                "it is assigned the legacy way, and an IOMMU has no snoop control",
                iommu=assigned.function.iommu_group.iommu.name,
            )
            for assigned in vm.assigned.values()
        ]
    return tuple(found)


def reason(external: External, member: Member) -> Reason:
    """Why one member is noncoherent now."""
    because, name = external.why_noncoherent(member), member_name(member)
    if isinstance(member, VfioDeviceFile):
        return Reason(name, because, iommu=member.device.function.iommu_group.iommu.name)
    vfio_group = _vfio_group(member)
    profile = vfio_group.kernel.profile
    if profile.coherency is Coherency.DEVICES:
        return Reason(name, because, iommu=vfio_group.iommu_group.iommu.name)
    if profile.coherency is Coherency.NEVER or vfio_group.container is None:
        return Reason(name, because)
    container = vfio_group.container
    guilty = _guilty(container)
    domain = f"domain {guilty.number}" if guilty is not None else ""
    iommu = _lacking(vfio_group.iommu_group, guilty) if guilty is not None else ""
    return Reason(name, because, container_name(container), domain, iommu)


def _guilty(container: Container) -> iommu_domain.Domain | None:
    for domain in container.iommu.domains if container.iommu else ():
        if not domain.enforces_coherency:
            return domain
    return None


def _lacking(asked: IommuGroup, domain: iommu_domain.Domain) -> str:
    """The IOMMUs without snoop control because of which a domain does not enforce coherency."""
    kernel = asked.kernel
    if kernel.profile.domain_scope is DomainScope.EVERY_UNIT:
        units = kernel.machine.iommus
    else:
        units = tuple(group.iommu for group in domain.iommu_groups)
    return ", ".join(dict.fromkeys(unit.name for unit in units if not unit.enforces_coherency))
