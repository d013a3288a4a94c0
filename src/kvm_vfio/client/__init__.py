# SPDX-License-Identifier: GPL-2.0-only
"""Who calls, from Python: typed objects over any Syscalls, and programs on a model kernel.

Each object owns one fd and is a context manager that closes it.
"""

from kvm_vfio.client.container import Container, IommuInfo, Migration
from kvm_vfio.client.device import Device, DeviceInfo, RegionInfo
from kvm_vfio.client.group import Group, GroupStatus
from kvm_vfio.client.handle import Fd, Handle, HasFileno
from kvm_vfio.client.in_process import ModelSyscalls, model
from kvm_vfio.client.kvm import Kvm, KvmVfio, Vm
from kvm_vfio.client.vcpu import Vcpu

__all__ = [
    "Container",
    "Device",
    "DeviceInfo",
    "Fd",
    "Group",
    "GroupStatus",
    "Handle",
    "HasFileno",
    "IommuInfo",
    "Kvm",
    "KvmVfio",
    "Migration",
    "ModelSyscalls",
    "RegionInfo",
    "Vcpu",
    "Vm",
    "model",
]
