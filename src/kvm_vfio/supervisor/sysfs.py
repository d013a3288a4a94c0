# SPDX-License-Identifier: GPL-2.0-only
"""The described machine as programs find it: its part of /sys, and its nodes in /dev.

Rule of this file: pure; what a machine looks like, and nothing of how that comes to be seen.

The PCI bus, IOMMU groups and VFIO classes are the described machine's alone. Everything else is
this computer's, its PCI devices under /sys/devices included, to which other parts of /sys point.
Nothing of it can be written: a driver cannot be bound through it.
"""

from __future__ import annotations

from kvm_vfio.kernel.iommu.group import IommuGroup, PciFunction
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.pci.config import capabilities, hardware
from kvm_vfio.machine.model import BarKind, Iommu, PciDevice
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.supervisor.tree import Blank, Directory, Link, Node, NodeOfDevice
from kvm_vfio.uapi.pci import PCI_CAP_ID_PM, PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK

_RESERVED = b"0x00000000fee00000 0x00000000feefffff msi\n"
_IRQ = 11  # of a device with interrupts whose number is not described
_RESOURCES = 13  # lines in `resource`: BARs, ROM, six of SR-IOV

# IORESOURCE_*: what is decoded, and the alignment by size that PCI asks for.
_FLAGS = {BarKind.IO: 0x40101, BarKind.MEMORY32: 0x40200, BarKind.MEMORY64: 0x140204}
_PREFETCH = 0x2008

# What stands in a driver's directory: files to write to, and the module.
_WRITE_ONLY = 0o200
_DRIVER: dict[str, Node] = {
    **dict.fromkeys(("bind", "new_id", "remove_id", "uevent", "unbind"), Blank(_WRITE_ONLY)),
    "module": Link("../../../../module/vfio_pci"),
}
_MODULES: dict[str, dict[str, str]] = {
    "vfio": {},
    "vfio_pci": {
        "disable_denylist": "N",
        "disable_idle_d3": "N",
        "disable_vga": "N",
        "enable_sriov": "N",
        "nointxmask": "N",
    },
    "vfio_pci_core": {},
    "vfio_iommu_type1": {
        "allow_unsafe_interrupts": "N",
        "disable_hugepages": "N",
        "dma_entry_limit": "65535",
    },
}
# A PCI Express function on the root bus has no link.
_NO_LINK = {
    "current_link_speed": "Unknown",
    "current_link_width": "0",
    "max_link_speed": "Unknown",
    "max_link_width": "255",
}

# VT-d's registers as QEMU has them, without what a machine file says.
_CAP, _ECAP = 0xD2_008C_2200_0006, 0xF42
_SAGAW = {39: 1 << 9, 48: 1 << 10, 57: 1 << 11}
_ECAP_REMAPS, _ECAP_SC = 0xF0_0008, 0x80


def dev_tree(kernel: Kernel, *, kvm: bool) -> Directory:
    """/dev: the nodes of VFIO, and with `kvm` that of KVM, which also opens to be read only."""
    vfio = Directory({"vfio": NodeOfDevice(0o666)}, whole=True)
    for number in kernel.vfio_groups:
        vfio[str(number)] = NodeOfDevice(0o600)
    tree = Directory({"vfio": vfio})
    if kvm:
        tree["kvm"] = Blank(0o666)
    return tree


def sys_tree(kernel: Kernel) -> Directory:
    """/sys: the PCI functions, their IOMMU groups and IOMMUs, and VFIO's groups."""
    tree = Directory()
    for path in ("bus/pci/devices", "kernel/iommu_groups", "class/iommu", "class/vfio"):
        tree.put(path, Directory(whole=True))
    tree.put("bus/pci/drivers", Directory({"vfio-pci": Directory(_DRIVER)}, whole=True))
    for module, parameters in _MODULES.items():
        tree.put(f"module/{module}", Directory(whole=True))
        for name, value in parameters.items():
            tree.put(f"module/{module}/parameters/{name}", f"{value}\n".encode())
    if not kernel.profile.member_is_group:
        tree.put("class/vfio-dev", Directory(whole=True))
    vfio_devices = 0
    for group in kernel.iommu_groups.values():
        _put_group(tree, group, kernel.profile.iommu_group_type)
        for function in group.functions:
            _put_function(tree, function, kernel.profile)
            if function.vfio_device is not None and not kernel.profile.member_is_group:
                where = f"{_home(function.static)}/vfio-dev/vfio{vfio_devices}"
                tree.put(f"devices/{where}/subsystem", Link(f"{_up(where)}/class/vfio-dev"))
                tree.put(f"class/vfio-dev/vfio{vfio_devices}", Link(f"../../devices/{where}"))
                vfio_devices += 1
    for number in kernel.vfio_groups:
        where = f"virtual/vfio/{number}"
        tree.put(f"class/vfio/{number}", Link(f"../../devices/{where}"))
        tree.put(f"devices/{where}/uevent", f"DEVNAME=vfio/{number}\n".encode())
        tree.put(f"devices/{where}/power", Directory())
        tree.put(f"devices/{where}/subsystem", Link(f"{_up(where)}/class/vfio"))
    return tree


def _home(static: PciDevice) -> str:
    """The function's directory below /sys/devices: every bus is a root bus here."""
    domain, bus, _ = static.address.split(":")
    return f"pci{domain}:{bus}/{static.address}"


def _up(where: str) -> str:
    """From a directory below /sys/devices back to /sys."""
    return "/".join([".."] * (where.count("/") + 2))


def _put_group(tree: Directory, group: IommuGroup, kind: str) -> None:
    where = f"kernel/iommu_groups/{group.number}"
    tree.put(f"{where}/type", f"{kind}\n".encode())
    tree.put(f"{where}/reserved_regions", _RESERVED)
    tree.put(f"{where}/devices", Directory())
    iommu = f"virtual/iommu/{group.iommu.name}"
    tree.put(f"class/iommu/{group.iommu.name}", Link(f"../../devices/{iommu}"))
    tree.put(f"devices/{iommu}/subsystem", Link(f"{_up(iommu)}/class/iommu"))
    for name, content in _registers(group.iommu).items():
        tree.put(f"devices/{iommu}/{name}", f"{content}\n".encode())
    for function in group.functions:
        address, home = function.static.address, _home(function.static)
        tree.put(f"{where}/devices/{address}", Link(f"../../../../devices/{home}"))
        tree.put(f"devices/{iommu}/devices/{address}", Link(f"{_up(iommu + '/')}/devices/{home}"))


def _registers(iommu: Iommu) -> dict[str, str]:
    """The unit's registers as Linux shows them; what is not described is as under QEMU."""
    if iommu.kind == "amd":
        return {"amd-iommu/cap": "1f03000f", "amd-iommu/features": "29d3:0"}
    cap = _CAP | (iommu.address_width - 1) << 16 | _SAGAW.get(iommu.address_width, 0)
    ecap = _ECAP | (_ECAP_REMAPS if iommu.interrupt_remapping else 0)
    ecap |= _ECAP_SC if iommu.snoop_control else 0
    registers = {"cap": f"{cap:x}", "ecap": f"{ecap:x}", "version": "1:0"}
    return {f"intel-iommu/{name}": content for name, content in registers.items()}


def _put_function(tree: Directory, function: PciFunction, profile: Profile) -> None:
    static, home = function.static, _home(function.static)
    top = _up(home)
    files: dict[str, str | bytes] = {
        "vendor": f"0x{static.vendor:04x}",
        "device": f"0x{static.device:04x}",
        "subsystem_vendor": f"0x{static.subsystem_vendor:04x}",
        "subsystem_device": f"0x{static.subsystem_device:04x}",
        "class": f"0x{static.class_code:06x}",
        "revision": f"0x{static.revision:02x}",
        "irq": str(static.irq or (_IRQ if static.interrupt_pin else 0)),
        "resource": _resource(function),
        "config": _config(function, profile),
        "modalias": _modalias(static),
        "uevent": _uevent(function),
        "driver_override": "(null)" if function.driver is None else function.driver,
        "enable": "0",
        "numa_node": "-1",
        "local_cpulist": "0",
        "local_cpus": "1",
        "msi_bus": "1",
        "ari_enabled": "0",
        "broken_parity_status": "0",
        "dma_mask_bits": "32",
        "consistent_dma_mask_bits": "32",
        "d3cold_allowed": str(int(static.power_management)),
        "power_state": "D3hot" if static.power_management and function.vfio_device else "D0",
    }
    if static.pci_express:
        files |= _NO_LINK
    if static.reset and profile.sysfs_reset_method:
        files["reset_method"] = _reset_method(static)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else f"{content}\n".encode()
        tree.put(f"devices/{home}/{name}", data)
    for name, mode in _buttons(static).items():
        tree.put(f"devices/{home}/{name}", Blank(mode))
    for name in ("link", "power"):
        tree.put(f"devices/{home}/{name}", Directory())
    group, iommu = function.iommu_group.number, function.iommu_group.iommu.name
    links = {
        "subsystem": "bus/pci",
        "iommu_group": f"kernel/iommu_groups/{group}",
    }
    tree.put(f"devices/{home}/iommu", Link(f"../../virtual/iommu/{iommu}"))
    if function.driver is not None:
        links["driver"] = f"bus/pci/drivers/{function.driver}"
        of_driver = f"{links['driver']}/{static.address}"
        tree.put(of_driver, Link(f"../../../../devices/{home}"))
    for name, target in links.items():
        tree.put(f"devices/{home}/{name}", Link(f"{top}/{target}"))
    tree.put(f"bus/pci/devices/{static.address}", Link(f"../../../devices/{home}"))


def _reset_method(static: PciDevice) -> str:
    """Without a reset of its own, the function is reset by its power state."""
    described_without = static.config and static.power_management
    return "pm" if described_without else "flr"


def _buttons(static: PciDevice) -> dict[str, int]:
    """Files that hold nothing to read, with their modes."""
    buttons = {"remove": 0o220, "rescan": 0o200}
    if static.reset:
        buttons["reset"] = 0o200
    return buttons | {f"resource{bar.index}": 0o600 for bar in static.bars}


def _config(function: PciFunction, profile: Profile) -> bytes:
    """Configuration space; VFIO lets an idle function sleep in D3."""
    data, _ = hardware(function.static, profile, function.addresses)
    for at, _ in capabilities(data):
        if data[at] == PCI_CAP_ID_PM and function.vfio_device is not None:
            data[at + PCI_PM_CTRL] |= PCI_PM_CTRL_STATE_MASK
    return bytes(data)


def _resource(function: PciFunction) -> str:
    lines = [(0, 0, 0)] * _RESOURCES
    for bar in function.static.bars:
        start = function.addresses[bar.index]
        flags = _FLAGS[bar.kind] | (_PREFETCH if bar.prefetchable else 0)
        lines[bar.index] = (start, start + bar.size - 1, flags)
    return "\n".join(" ".join(f"0x{number:016x}" for number in line) for line in lines)


def _modalias(static: PciDevice) -> str:
    base, sub, interface = static.class_code.to_bytes(3, "big")
    return (
        f"pci:v{static.vendor:08X}d{static.device:08X}"
        f"sv{static.subsystem_vendor:08X}sd{static.subsystem_device:08X}"
        f"bc{base:02X}sc{sub:02X}i{interface:02X}"
    )


def _uevent(function: PciFunction) -> str:
    static = function.static
    lines = [] if function.driver is None else [f"DRIVER={function.driver}"]
    lines += [
        f"PCI_CLASS={static.class_code:04X}",
        f"PCI_ID={static.vendor:04X}:{static.device:04X}",
        f"PCI_SUBSYS_ID={static.subsystem_vendor:04X}:{static.subsystem_device:04X}",
        f"PCI_SLOT_NAME={static.address}",
        f"MODALIAS={_modalias(static)}",
    ]
    return "\n".join(lines)
