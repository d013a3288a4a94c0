# SPDX-License-Identifier: GPL-2.0-only
"""From a machine file, or a built-in machine's name, to a `Machine`.

Rule of this file: it is the only one in `machine` that reads files or needs a third party, and it
decides nothing about hardware (`check` does). Every fault of a file is told at once, one sentence
each: file and line, place, reason, remedy.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any, Literal, get_args

import msgspec

from kvm_vfio.errors import InputError
from kvm_vfio.machine.check import ADDRESS, Fault, faults, msix_sizes
from kvm_vfio.machine.devices import Model, device_model, device_models, option_types
from kvm_vfio.machine.lines import Lines, join
from kvm_vfio.machine.model import (
    Bar,
    BarKind,
    ConfigBytes,
    Iommu,
    IommuGroup,
    Machine,
    Msi,
    Msix,
    PciDevice,
    RegisterValue,
)

LIMIT = 1 << 20  # bytes; a thousand devices take a third of it
MOST_FAULTS = 20
MOST_DOTS = 100  # in one line: tomllib takes time and memory as the square of a key's parts
_BUILTIN = resources.files("kvm_vfio.machine") / "builtin"

# -- the format -----------------------------------------------------------------------------------
# Every key has a value to go on with, so that one fault does not hide the others. Which keys a file
# must have is in _KEYS.

_Kind = Literal["intel", "amd"]
_Pin = Literal["A", "B", "C", "D"]
_Architecture = Literal["x86_64", "aarch64"]
_SizeText = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,15}[KMGT]?\Z")]
_HexText = Annotated[str, msgspec.Meta(pattern=r"\A( *[0-9a-fA-F]{2})* *\Z")]
_Int = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]  # TOML's own range


class _Bar(msgspec.Struct):
    index: _Int = 0
    size: _Int | _SizeText = 0
    kind: BarKind = BarKind.MEMORY32
    prefetchable: bool = False


class _Msi(msgspec.Struct):
    vectors: _Int = 1
    maskable: bool = False


class _Msix(msgspec.Struct):
    vectors: _Int = 0
    table_bar: _Int = 0
    table_offset: _Int = 0
    pba_bar: _Int | None = None  # the table's
    pba_offset: _Int | None = None  # behind the table


class _ConfigBytes(msgspec.Struct):
    offset: _Int = 0x40
    bytes: _HexText = "00"
    writable: _HexText = ""


class _Register(msgspec.Struct):
    bar: _Int = 0
    offset: _Int = 0
    value: _Int = 0


class _Device(msgspec.Struct):
    address: str = ""
    vendor: _Int = 0
    device: _Int = 0
    class_: _Int = msgspec.field(default=0, name="class")
    subsystem_vendor: _Int = 0
    subsystem_device: _Int = 0
    revision: _Int = 0
    driver: str = "vfio-pci"
    interrupt_pin: _Pin | None = None
    bars: list[_Bar] = []
    power_management: bool = False
    pci_express: bool = False
    msi: _Msi | None = None
    msix: _Msix | None = None
    multifunction: bool = False
    reset: bool = False
    addresses: dict[str, _Int] = {}
    interrupt_line: _Int = 0
    irq: _Int = 0
    config: list[_ConfigBytes] = []
    registers: list[_Register] = []
    model: str | None = None
    options: dict[str, Any] = {}  # the model says what is in it
    trap: bool = True


class _Group(msgspec.Struct):
    number: _Int = -1  # that of no other group
    device: list[_Device] = []


class _Iommu(msgspec.Struct):
    name: str | None = None
    kind: _Kind = "intel"
    snoop_control: bool | None = None
    interrupt_remapping: bool = True
    address_width: _Int = 39
    group: list[_Group] = []


class _Machine(msgspec.Struct):
    name: str | None = None
    description: str = ""
    architecture: _Architecture = "x86_64"
    iommu: list[_Iommu] = []


# -- what msgspec cannot say ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Keys:
    """The keys of one kind of table: those it must have, and those that hold tables themselves."""

    struct: type[msgspec.Struct]
    required: tuple[str, ...] = ()
    arrays: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    without: tuple[str, ...] = ()

    @cached_property
    def known(self) -> tuple[str, ...]:
        names = (field.encode_name for field in msgspec.structs.fields(self.struct))
        return tuple(name for name in names if name not in self.without)


_KEYS: Mapping[str, _Keys] = {
    "": _Keys(_Machine, required=("iommu",), arrays=("iommu",)),
    "iommu": _Keys(_Iommu, arrays=("group",)),
    "group": _Keys(_Group, required=("number",), arrays=("device",)),
    "device": _Keys(
        _Device,
        required=("address", "vendor", "device", "class"),
        arrays=("bars", "config", "registers"),
        tables=("msi", "msix"),
        without=("options", "trap"),
    ),
    "modelled device": _Keys(
        _Device,
        required=("address",),
        # What the model says.
        without=(
            "bars",
            "config",
            "interrupt_pin",
            "msi",
            "msix",
            "pci_express",
            "power_management",
            "registers",
            "reset",
        ),
    ),
    "bars": _Keys(_Bar, required=("index", "size")),
    "config": _Keys(_ConfigBytes, required=("offset", "bytes")),
    "registers": _Keys(_Register, required=("bar", "offset", "value")),
    "msi": _Keys(_Msi),
    "msix": _Keys(_Msix, required=("vectors", "table_bar")),
}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "architecture": get_args(_Architecture),
    "iommu.kind": get_args(_Kind),
    "interrupt_pin": get_args(_Pin),
    "bars.kind": tuple(kind.value for kind in BarKind),
}
_WORDS: Mapping[str, str] = {
    "int": "a whole number",
    "float": "a fraction",
    "str": "text",
    "bool": "true or false",
    "array": "an array",
    "object": "a table",
    "date": "a date",
    "time": "a time",
    "datetime": "a date",
}
_REMEDIES: Mapping[str, str] = {
    "int": "write the number, without quotes",
    "int | str": 'write a number of bytes, or a text such as "4K" or "1M"',
    "str": "put it in quotes",
    "bool": "write true or false, without quotes",
    "object": "write { KEY = VALUE }",
}
_NO_SIZE = f"this is no size; {_REMEDIES['int | str']}"
_NO_MATCH: Mapping[str, str] = {
    "bytes": 'these are no bytes; write two hexadecimal digits for each, such as "05 00 80 00"',
    "writable": 'these are no bytes; write two hexadecimal digits for each, such as "ff 00"',
}
_ARRAY_REMEDIES: Mapping[str, str] = {
    "iommu": "write [[iommu]], in two brackets",
    "group": "write [[iommu.group]], in two brackets",
    "device": "write [[iommu.group.device]], in two brackets",
    "bars": "write [{ index = 0, size = 4096 }]",
    "config": 'write [{ offset = 0x40, bytes = "05 00" }]',
    "registers": "write [{ bar = 0, offset = 0x8, value = 1 }]",
}


def _wrong_keys(table: Mapping[str, Any], kind: str, where: str) -> Iterator[Fault]:
    """The keys that `table` should not have, and those it should, here and in the tables below."""
    modelled = kind == "device" and "model" in table
    keys = _KEYS["modelled device" if modelled else kind]
    for key in table:
        if key not in keys.known:
            near = difflib.get_close_matches(key, keys.known, 1)
            remedy = f"did you mean {near[0]}?" if near else "the keys are " + ", ".join(keys.known)
            place = join(where, key) if _BARE_KEY.fullmatch(key) else where
            yield Fault(place, f"there is no key {_shown(key)} here; {remedy}")
    for key in keys.required:
        if key not in table:
            yield Fault(join(where, key), f"the key {key} is missing; {_MISSING[key]}")
    for key, place, below in _tables_in(table, keys):
        yield from _wrong_keys(below, key, join(where, place))


def _tables_in(table: Mapping[str, Any], keys: _Keys) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The tables that are where tables should be, each with its key and its place in `table`."""
    for key in keys.arrays:
        array = table.get(key)
        for index, value in enumerate(array if isinstance(array, list) else ()):
            if isinstance(value, dict):
                yield key, f"{key}[{index}]", value
    for key in keys.tables:
        if isinstance(value := table.get(key), dict):
            yield key, key, value


_MISSING: Mapping[str, str] = {
    "iommu": "add an [[iommu]]",
    "number": "write the group's number, such as number = 1",
    "address": 'write it as lspci -D prints it, such as address = "0000:00:10.0"',
    "vendor": "write the vendor id, such as vendor = 0x1234",
    "device": "write the device id, such as device = 0x11e8",
    "class": "write the class code, such as class = 0x020000",
    "index": "write the BAR's index, 0 to 5",
    "size": 'write its size in bytes, such as size = "4K"',
    "offset": "write where it is, such as offset = 0x40",
    "bytes": 'write what is there, such as bytes = "05 00 80 00"',
    "bar": "write the index of the BAR, 0 to 5",
    "value": "write its 32 bits, such as value = 0x1",
    "vectors": "write how many there are, such as vectors = 4",
    "table_bar": "write the index of the BAR that holds the table",
}


def _typed(data: dict[str, Any]) -> tuple[_Machine, list[Fault]]:
    """`data` as tables of the right types. A value of the wrong type is told and taken away."""
    found: list[Fault] = []
    while len(found) < MOST_FAULTS:
        try:
            return msgspec.convert(data, _Machine), found
        except msgspec.ValidationError as error:
            message, _, path = str(error).rpartition(" - at `$.")
            place = path.removesuffix("`")
            found.append(Fault(place, _explained(message, place)))
            _take_away(data, place)
    return _Machine(), found


def _explained(message: str, place: str) -> str:
    names = re.findall(r"[a-z_]+", place)
    if message.startswith("Invalid enum value"):
        choices = _CHOICES.get(names[-1]) or _CHOICES[".".join(names[-2:])]
        value = message.removeprefix("Invalid enum value ")
        return f"{_shown(value[1:-1])} is not known here; write {_listed(choices)}"
    if "matching regex" in message:
        return _NO_MATCH.get(names[-1], _NO_SIZE)
    if re.search(r"[<>]=", message):
        return "this number has more than 64 bits; write a smaller one"
    expected, got = re.findall(r"`(.+?)`", message)
    expected = expected.removesuffix(" | null")
    words = " or ".join(_WORDS[word] for word in expected.split(" | "))
    remedy = _ARRAY_REMEDIES[names[-1]] if expected == "array" else _REMEDIES[expected]
    return f"it must be {words}, not {_WORDS[got]}; {remedy}"


def _take_away(data: Any, place: str) -> None:  # noqa: ANN401  # tables and arrays, nested
    *above, last = (int(i) if i else key for key, i in re.findall(r"([a-z_]+)|\[(\d+)\]", place))
    for step in above:
        data = data[step]
    if isinstance(last, int):
        data[last] = {}  # the places of the others stay what they are
    else:
        del data[last]


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:-1]) + " or " + words[-1]


def _shown(text: str) -> str:
    """`text` fit for a message: in quotes, short, and without control characters."""
    text = text if len(text) <= 40 else text[:37] + "..."  # noqa: PLR2004  # half a line
    return f'"{ascii(text)[1:-1]}"'


# -- from tables to values ------------------------------------------------------------------------

_PINS = (None, "A", "B", "C", "D")
_SIZE = re.compile(r"[0-9]{1,15}[KMGT]?")
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def _machine(table: _Machine, name: str) -> Machine:
    return Machine(
        name=name if table.name is None else table.name,
        description=table.description,
        architecture=table.architecture,
        iommus=tuple(_iommu(iommu, index) for index, iommu in enumerate(table.iommu)),
    )


def _iommu(table: _Iommu, index: int) -> Iommu:
    amd = table.kind == "amd"
    unit = "ivhd" if amd else "dmar"
    return Iommu(
        name=f"{unit}{index}" if table.name is None else table.name,
        kind=table.kind,
        snoop_control=amd if table.snoop_control is None else table.snoop_control,
        interrupt_remapping=table.interrupt_remapping,
        address_width=table.address_width,
        groups=tuple(
            IommuGroup(group.number, tuple(map(_device, group.device))) for group in table.group
        ),
    )


def _device(table: _Device) -> PciDevice:
    return _described(table) if table.model is None else _modelled(table, table.model)


def _modelled(table: _Device, name: str) -> PciDevice:
    """What the model makes of it, with the ids that the file gives; `_model_faults` judges."""
    address = _canonical(table.address)
    try:
        model = device_model(name)
        device = model.at(address, trap=table.trap, **_options(model, table.options))
    except (KeyError, TypeError, ValueError, InputError):
        return PciDevice(address, 0, 0, 0)
    return replace(
        device,
        behaviour=replace(device.behaviour, name=name) if device.behaviour else None,
        vendor=table.vendor or device.vendor,
        device=table.device or device.device,
        class_code=table.class_ or device.class_code,
        subsystem_vendor=table.subsystem_vendor or device.subsystem_vendor,
        subsystem_device=table.subsystem_device or device.subsystem_device,
        revision=table.revision or device.revision,
        multifunction=table.multifunction or device.multifunction,
        addresses=_addresses(table),
        interrupt_line=table.interrupt_line,
        irq=table.irq,
        driver=None if table.driver == "none" else table.driver,
    )


def _options(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes as numbers: "64M" where a whole number is wanted."""
    kinds = option_types(model)
    return {
        name: _bytes(value)
        if kinds.get(name) is int and isinstance(value, str) and _SIZE.fullmatch(value)
        else value
        for name, value in options.items()
    }


def _model_faults(table: _Machine) -> Iterator[Fault]:
    """What is wrong with models and their options."""
    for i, iommu in enumerate(table.iommu):
        for g, group in enumerate(iommu.group):
            for d, device in enumerate(group.device):
                if device.model is not None:
                    for place, reason in _wrong_model(device.model, device):
                        yield Fault(f"iommu[{i}].group[{g}].device[{d}].{place}", reason)


def _wrong_model(name: str, table: _Device) -> Iterator[Fault]:
    try:
        model = device_model(name)
    except KeyError:
        known = _listed(tuple(device_models()))
        yield Fault("model", f"there is no device model {_shown(name)}; there are {known}")
        return
    except InputError as error:
        yield Fault("model", f"{error}; mend it, or install it anew")
        return
    wrong = list(_wrong_options(option_types(model), _options(model, table.options)))
    yield from wrong
    if not wrong:
        try:
            model.at(table.address, trap=table.trap, **_options(model, table.options))
        except ValueError as error:
            yield Fault("options", str(error))


def _wrong_options(kinds: Mapping[str, type], options: Mapping[str, Any]) -> Iterator[Fault]:
    for name, value in options.items():
        if name not in kinds:
            near = difflib.get_close_matches(name, kinds, 1)
            there = f"they are {', '.join(kinds)}" if kinds else "the model has none"
            remedy = f"did you mean {near[0]}?" if near else there
            yield Fault("options", f"there is no option {_shown(name)}; {remedy}")
        elif type(value) is not kinds[name]:
            wanted = kinds[name].__name__
            remedy = _REMEDIES["int | str" if wanted == "int" else wanted]
            yield Fault("options", f"{name} must be {_WORDS[wanted]}; {remedy}")


def _described(table: _Device) -> PciDevice:
    return PciDevice(
        address=_canonical(table.address),
        vendor=table.vendor,
        device=table.device,
        class_code=table.class_,
        subsystem_vendor=table.subsystem_vendor,
        subsystem_device=table.subsystem_device,
        revision=table.revision,
        bars=tuple(Bar(b.index, _bytes(b.size), b.kind, b.prefetchable) for b in table.bars),
        interrupt_pin=_PINS.index(table.interrupt_pin),
        power_management=table.power_management,
        pci_express=table.pci_express,
        msi=Msi(table.msi.vectors, table.msi.maskable) if table.msi else None,
        msix=_msix(table.msix) if table.msix else None,
        multifunction=table.multifunction,
        reset=table.reset,
        addresses=_addresses(table),
        interrupt_line=table.interrupt_line,
        irq=table.irq,
        config=tuple(
            ConfigBytes(each.offset, bytes.fromhex(each.bytes), bytes.fromhex(each.writable))
            for each in table.config
        ),
        registers=tuple(RegisterValue(r.bar, r.offset, r.value) for r in table.registers),
        driver=None if table.driver == "none" else table.driver,
    )


def _addresses(table: _Device) -> tuple[tuple[int, int], ...]:
    return tuple(
        (int(index) if re.fullmatch("[0-9]{1,4}", index) else -1, address)
        for index, address in table.addresses.items()
    )


def _msix(table: _Msix) -> Msix:
    pba_bar = table.table_bar if table.pba_bar is None else table.pba_bar
    behind = table.table_offset + msix_sizes(table.vectors)[0] if pba_bar == table.table_bar else 0
    pba_offset = behind if table.pba_offset is None else table.pba_offset
    return Msix(table.vectors, table.table_bar, table.table_offset, pba_bar, pba_offset)


def _bytes(size: int | str) -> int:
    if isinstance(size, int):
        return size
    return int(size.rstrip("KMGT")) << _UNITS.get(size[-1], 0)


def _canonical(address: str) -> str:
    """A PCI address as Linux spells it: "00:1F.2" is 0000:00:1f.2."""
    address = address.lower()
    return f"0000:{address}" if address.count(":") == 1 else address


# -- from text to a machine -----------------------------------------------------------------------

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_DEVICE = re.compile(r"iommu\[\d+\]\.group\[\d+\]\.device\[\d+\]")
_OF_BARS = re.compile(r"\.(bars|msix?)\b.*")


def describe(data: dict[str, Any], name: str) -> tuple[Machine, list[Fault]]:
    """The machine in `data`, which is used up, and all that is wrong with it.

    What has a wrong key or type is not judged as hardware: the value there is not the file's.
    """
    wrong_keys = list(islice(_wrong_keys(data, "", ""), MOST_FAULTS))
    table, wrong_types = _typed(data)
    machine = _machine(table, name)
    wrong_models = list(islice(_model_faults(table), MOST_FAULTS))
    found = wrong_keys + wrong_types + wrong_models
    if max(len(wrong_keys), len(wrong_types)) < MOST_FAULTS:
        told = {_OF_BARS.sub(".bars", fault.place) for fault in found}
        others = (f for f in faults(machine) if told.isdisjoint(_around(f.place)))
        found += islice(others, MOST_FAULTS + 1)
    return machine, found


def _around(place: str) -> Iterator[str]:
    """`place` and what it is in. A device's BARs and interrupts are one: they name each other."""
    place = _OF_BARS.sub(".bars", place)
    while place:
        yield place
        place = place[: max(place.rfind("."), place.rfind("["), 0)]


def parse_machine(text: str, file: str) -> Machine:
    """The machine in a TOML text. InputError: everything that is wrong, a line each."""
    data = _toml(text, file)
    machine, found = describe(data, Path(file).stem)
    if found:
        lines = Lines(text)
        found.sort(key=lambda fault: lines.of(fault.place) or 0)
        told = [_sentence(file, lines, machine, fault) for fault in found[:MOST_FAULTS]]
        if len(found) > MOST_FAULTS:
            told.append(f"{file}: there is more; mend these first")
        raise InputError("\n".join(told))
    return machine


def _toml(text: str, file: str) -> dict[str, Any]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") > MOST_DOTS:
            raise InputError(f"{file}:{number}: it has more than {MOST_DOTS} dots; write fewer")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(_not_toml(file, str(error))) from None
    except RecursionError:
        raise InputError(f"{file}: it is nested too deeply; a machine is four deep") from None
    except ValueError:  # Python's own limit on digits
        raise InputError(f"{file}: it has a number of thousands of digits; write 64 bits") from None


def _not_toml(file: str, message: str) -> str:
    """What tomllib says, with its "(at line 3, column 7)" where places stand."""
    match = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    place = f"{file}:{match[2]}:{match[3]}" if match else file
    reason = shorten(match[1] if match else message, 160)
    return f"{place}: this is not TOML: {reason[0].lower()}{reason[1:]}"


def _sentence(file: str, lines: Lines, machine: Machine, fault: Fault) -> str:
    line = lines.of(fault.place)
    where = f"{file}:{line}: " if line else f"{file}: "
    addresses = {
        f"iommu[{i}].group[{g}].device[{d}]": device.address
        for i, iommu in enumerate(machine.iommus)
        for g, group in enumerate(iommu.groups)
        for d, device in enumerate(group.devices)
    }
    device = _DEVICE.match(fault.place)
    address = addresses.get(device[0], "") if device else ""
    subject = f" ({address})" if ADDRESS.fullmatch(address) else ""
    at = f"{fault.place}{subject}: " if fault.place else ""
    return where + at + fault.reason


def builtin_machines() -> list[str]:
    """The names of the machines that come with this package."""
    names = (entry.name for entry in _BUILTIN.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_machine(name_or_path: str | Path) -> Machine:
    """A built-in machine by its name, or the machine in a TOML file. InputError."""
    if name_or_path in builtin_machines():
        file = f"{name_or_path}.toml"
        return parse_machine((_BUILTIN / file).read_text(encoding="utf-8"), file)
    return parse_machine(_read(Path(name_or_path)), str(name_or_path))


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(LIMIT + 1)
    except FileNotFoundError:
        names = _listed(tuple(builtin_machines()))
        raise InputError(
            f"{path}: there is no such file; the built-in machines are {names}"
        ) from None
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(f"{path}: {reason[0].lower()}{reason[1:]}; name a file to read") from None
    if len(data) > LIMIT:
        raise InputError(f"{path}: it has more than {LIMIT >> 20} MiB; name a machine file")
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: this is not UTF-8; save the file as UTF-8") from None
