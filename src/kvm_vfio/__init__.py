# SPDX-License-Identifier: GPL-2.0-only
"""KVM-VFIO in user space: the pseudo device, what it stands on, and ways to call it.

General layout, an hourglass:

- who calls: `client` (typed objects), `supervisor` (an unmodified program), `scenario` (recorded
  and random calls), with `cli` above them;
- the waist: `syscalls`, the few system calls that these devices need, and the caller's memory;
- who answers: `kernel` (the model, pure), `host` (the Linux of this computer), `guest` (a real
  Linux under QEMU).

Below the model lie the values it is made from: `machine` (the hardware, described), `profiles`
(where one Linux differs from another) and `uapi` (the kernel's headers as data). `errors` has what
can go wrong that is not an errno, and `trace` the record of every call and decision.

From Python, begin with `model()`, a process on a model kernel, `HostSyscalls()`, this one on the
running kernel, or `boot()`, one on a real kernel under QEMU, and give it to `Kvm`, `Container` and
`Group`. A device of one's own is a subclass
of `DeviceModel`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvm_vfio.client import (
        Container,
        Device,
        Group,
        Kvm,
        KvmVfio,
        ModelSyscalls,
        Vcpu,
        Vm,
        model,
    )
    from kvm_vfio.errors import InputError, KvmVfioError, NotModelled, Unsupported
    from kvm_vfio.guest.process import boot
    from kvm_vfio.host import HostSyscalls
    from kvm_vfio.kernel.iommu.dma import DmaFault
    from kvm_vfio.kernel.pci.model import DeviceModel, Register, Registers
    from kvm_vfio.machine.load import load_machine
    from kvm_vfio.machine.model import Bar, Msi, Msix, PciDevice
    from kvm_vfio.syscalls import Buffer, Syscalls

__all__ = [
    "Bar",
    "Buffer",
    "Container",
    "Device",
    "DeviceModel",
    "DmaFault",
    "Group",
    "HostSyscalls",
    "InputError",
    "Kvm",
    "KvmVfio",
    "KvmVfioError",
    "ModelSyscalls",
    "Msi",
    "Msix",
    "NotModelled",
    "PciDevice",
    "Register",
    "Registers",
    "Syscalls",
    "Unsupported",
    "Vcpu",
    "Vm",
    "boot",
    "load_machine",
    "model",
]

_HOME = {
    "HostSyscalls": "host",
    "boot": "guest.process",
    "load_machine": "machine.load",
    "DmaFault": "kernel.iommu.dma",
    **dict.fromkeys(("DeviceModel", "Register", "Registers"), "kernel.pci.model"),
    **dict.fromkeys(("Bar", "Msi", "Msix", "PciDevice"), "machine.model"),
    **dict.fromkeys(("Buffer", "Syscalls"), "syscalls"),
    **dict.fromkeys(("InputError", "KvmVfioError", "NotModelled", "Unsupported"), "errors"),
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for: `import kvm_vfio` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME.get(name, 'client')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
