# SPDX-License-Identifier: GPL-2.0-only
"""Device models by their names: those of this package, and those that others have installed.

Rule of this file: a model is imported when a machine names it. It knows of a model what
`kvm_vfio.kernel.pci.model.DeviceModel` says of it, and of that only how to make a device.
"""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol, cast

from kvm_vfio.errors import InputError
from kvm_vfio.machine.model import PciDevice

GROUP = "kvm_vfio.devices"
"""The entry points of a distribution that brings models: name = "module:Class"."""

_OWN = {
    "edu": "kvm_vfio.kernel.pci.edu:Edu",
    "nvme": "kvm_vfio.kernel.pci.nvme:Nvme",
}


class Model(Protocol):
    """A subclass of DeviceModel, as far as a machine file needs it."""

    options_type: type

    def at(self, address: str, *, trap: bool = True, **options: Any) -> PciDevice:  # noqa: ANN401
        """Such a device. ValueError: options that cannot be."""


def device_models() -> list[str]:
    """The names of all there are."""
    return sorted({*_OWN, *(each.name for each in entry_points(group=GROUP))})


def device_model(name: str) -> Model:
    """The model of that name; this package's own come first. KeyError; InputError: it is broken."""
    if name in _OWN:
        return cast("Model", _load(EntryPoint(name, _OWN[name], GROUP)))
    found = list(entry_points(group=GROUP, name=name))
    if not found:
        raise KeyError(name)
    try:
        return cast("Model", _load(found[0]))
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the device model {name} of {found[0].value} cannot be imported: {error}"
        ) from error


def _load(entry: EntryPoint) -> object:
    return getattr(import_module(entry.module), entry.attr)


def option_types(model: Model) -> dict[str, type]:
    """The options of a model, and what each is: int, str or bool."""
    kinds = {"int": int, "str": str, "bool": bool}
    return {
        field.name: kinds.get(field.type, str) if isinstance(field.type, str) else field.type
        for field in fields(model.options_type)
    }
