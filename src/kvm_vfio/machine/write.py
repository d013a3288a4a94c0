# SPDX-License-Identifier: GPL-2.0-only
"""From a machine to the TOML text that describes it: the way back of `load`.

Rule of this file: what is read back equals what was written; a key whose value is the format's own
default is left out where a person would leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass

from kvm_vfio.machine.check import size_text
from kvm_vfio.machine.classes import class_name
from kvm_vfio.machine.model import (
    Bar,
    BarKind,
    Behaviour,
    ConfigBytes,
    Iommu,
    Machine,
    PciDevice,
    RegisterValue,
)

_ABILITIES = ("power_management", "pci_express", "multifunction", "reset")


def machine_text(machine: Machine) -> str:
    """The text of a machine file."""
    return "\n".join(_lines(machine)) + "\n"


def _lines(machine: Machine) -> Iterator[str]:
    yield f"name = {_text(machine.name)}"
    if machine.description:
        yield f"description = {_text(machine.description)}"
    yield f"architecture = {_text(machine.architecture)}"
    for iommu in machine.iommus:
        yield from ("", "[[iommu]]", *_iommu(iommu))
        for group in iommu.groups:
            yield from ("", "[[iommu.group]]", f"number = {group.number}")
            for device in group.devices:
                yield from ("", f"[[iommu.group.device]]  # {class_name(device.class_code)}")
                yield from _device(device)


def _iommu(iommu: Iommu) -> Iterator[str]:
    yield f"name = {_text(iommu.name)}"
    yield f"kind = {_text(iommu.kind)}"
    yield f"snoop_control = {_word(iommu.snoop_control)}"
    yield f"interrupt_remapping = {_word(iommu.interrupt_remapping)}"
    yield f"address_width = {iommu.address_width}"


def _device(device: PciDevice) -> Iterator[str]:
    yield f"address = {_text(device.address)}"
    yield f"vendor = {device.vendor:#06x}"
    yield f"device = {device.device:#06x}"
    yield f"class = {device.class_code:#08x}"
    yield f"subsystem_vendor = {device.subsystem_vendor:#06x}"
    yield f"subsystem_device = {device.subsystem_device:#06x}"
    yield f"revision = {device.revision:#04x}"
    yield f"driver = {_text(device.driver or 'none')}"
    yield from _found(device)
    if device.behaviour:
        yield from _model(device.behaviour)
        yield from ("multifunction = true",) if device.multifunction else ()
        return
    if device.interrupt_pin:
        yield f'interrupt_pin = "{" ABCD"[device.interrupt_pin]}"'
    yield from (f"{name} = true" for name in _ABILITIES if getattr(device, name))
    if device.bars:
        yield f"bars = [{', '.join(map(_bar, device.bars))}]"
    if device.msi:
        maskable = ", maskable = true" if device.msi.maskable else ""
        yield f"msi = {{ vectors = {device.msi.vectors}{maskable} }}"
    if device.msix:
        x = device.msix
        yield (
            f"msix = {{ vectors = {x.vectors}, table_bar = {x.table_bar}, "
            f"table_offset = {x.table_offset:#x}, pba_bar = {x.pba_bar}, "
            f"pba_offset = {x.pba_offset:#x} }}"
        )
    yield from _array("config", map(_config, device.config))
    yield from _array("registers", map(_register, device.registers))


def _found(device: PciDevice) -> Iterator[str]:
    """What firmware and Linux have made of the device."""
    if device.addresses:
        places = (f"{index} = {address:#x}" for index, address in device.addresses)
        yield f"addresses = {{ {', '.join(places)} }}"
    if device.interrupt_line:
        yield f"interrupt_line = {device.interrupt_line}"
    if device.irq:
        yield f"irq = {device.irq}"


def _array(key: str, items: Iterable[str]) -> Iterator[str]:
    lines = [f"  {item}," for item in items]
    yield from (f"{key} = [", *lines, "]") if lines else ()


def _config(config: ConfigBytes) -> str:
    writable = f', writable = "{config.writable.hex(" ", 4)}"' if config.writable else ""
    return f'{{ offset = {config.offset:#x}, bytes = "{config.data.hex(" ", 4)}"{writable} }}'


def _register(register: RegisterValue) -> str:
    place = f"bar = {register.bar}, offset = {register.offset:#06x}"
    return f"{{ {place}, value = {register.value:#010x} }}"


def _model(behaviour: Behaviour) -> Iterator[str]:
    """The model, which says the rest itself."""
    yield f"model = {_text(behaviour.name)}"
    values = asdict(behaviour.options) if is_dataclass(behaviour.options) else {}  # type: ignore[arg-type]  # no class
    if values:
        yield f"options = {{ {', '.join(f'{k} = {_value(v)}' for k, v in values.items())} }}"
    if not behaviour.trap:
        yield "trap = false"


def _value(value: int | str) -> str:
    if isinstance(value, bool):
        return _word(value)
    return _text(value) if isinstance(value, str) else str(value)


def _bar(bar: Bar) -> str:
    kind = "" if bar.kind is BarKind.MEMORY32 else f", kind = {_text(bar.kind.value)}"
    prefetchable = ", prefetchable = true" if bar.prefetchable else ""
    return f"{{ index = {bar.index}, size = {_text(size_text(bar.size))}{kind}{prefetchable} }}"


def _text(text: str) -> str:
    """A basic string: JSON's escapes are TOML's too, but for those in pairs."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _word(value: bool) -> str:  # noqa: FBT001 - what it spells
    return "true" if value else "false"
