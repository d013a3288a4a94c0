# SPDX-License-Identifier: GPL-2.0-only
"""Machines by chance, and a machine as the text of its file."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from kvm_vfio.machine.check import BAR_SIZES, msix_sizes
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

ADDRESSES = st.builds(
    "{:04x}:{:02x}:{:02x}.{}".format,
    st.integers(0, 3),
    st.integers(0, 255),
    st.integers(0, 31),
    st.integers(0, 7),
)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True).filter(lambda name: name != "none")
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=10)


@st.composite
def bar_sets(draw: st.DrawFn) -> tuple[Bar, ...]:
    bars = []
    index = draw(st.integers(0, 5))
    while index < 6:
        kinds = list(BarKind) if index < 5 else [BarKind.IO, BarKind.MEMORY32]
        kind = draw(st.sampled_from(kinds))
        least, most = BAR_SIZES[kind]
        size = 1 << draw(st.integers(least.bit_length() - 1, most.bit_length() - 1))
        bars.append(Bar(index, size, kind, kind is not BarKind.IO and draw(st.booleans())))
        index += draw(st.integers(2 if kind is BarKind.MEMORY64 else 1, 4))
    return tuple(bars)


@st.composite
def msix_in(draw: st.DrawFn, bars: tuple[Bar, ...]) -> Msix | None:
    vectors = draw(st.integers(1, 2048))
    table, pending = msix_sizes(vectors)
    room = [bar for bar in bars if bar.kind is not BarKind.IO and bar.size >= table + pending]
    if not room:
        return None
    bar = draw(st.sampled_from(room))
    offset = 8 * draw(st.integers(0, (bar.size - table - pending) // 8))
    return Msix(vectors, bar.index, offset, bar.index, offset + table)


@st.composite
def devices(draw: st.DrawFn, address: str) -> PciDevice:
    bars = draw(bar_sets())
    return PciDevice(
        address=address,
        vendor=draw(st.integers(0, 0xFFFE)),
        device=draw(st.integers(0, 0xFFFF)),
        class_code=draw(st.integers(0, 0xFFFFFF)),
        subsystem_vendor=draw(st.integers(0, 0xFFFF)),
        subsystem_device=draw(st.integers(0, 0xFFFF)),
        revision=draw(st.integers(0, 0xFF)),
        bars=bars,
        interrupt_pin=draw(st.integers(0, 4)),
        power_management=draw(st.booleans()),
        pci_express=draw(st.booleans()),
        msi=draw(st.none() | st.builds(Msi, st.sampled_from([1, 2, 4, 8, 16, 32]), st.booleans())),
        msix=draw(msix_in(bars)),
        multifunction=draw(st.booleans()),
        reset=draw(st.booleans()),
        driver=draw(st.none() | st.just("vfio-pci") | NAMES),
        addresses=tuple(
            (b.index, b.size) for b in bars if b.size < 1 << 31 and draw(st.booleans())
        ),
        interrupt_line=draw(st.integers(0, 0xFF)),
        irq=draw(st.integers(0, 0xFFFF)),
        config=tuple(draw(st.lists(st.builds(_config_bytes, st.binary(max_size=9)), max_size=2))),
        registers=tuple(RegisterValue(b.index, b.size - 4, 0xFFFF_FFFF) for b in bars),
    )


def _config_bytes(data: bytes) -> ConfigBytes:
    return ConfigBytes(0x40 + len(data), data, data[::-1] if len(data) % 2 else b"")


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Up to two IOMMUs of up to two groups of up to two devices."""
    shape = draw(
        st.lists(st.lists(st.integers(1, 2), min_size=1, max_size=2), min_size=1, max_size=2)
    )
    count = sum(map(sum, shape))
    groups = sum(map(len, shape))
    addresses = iter(draw(st.lists(ADDRESSES, min_size=count, max_size=count, unique=True)))
    numbers = iter(
        draw(st.lists(st.integers(0, 99), min_size=groups, max_size=groups, unique=True))
    )
    names = iter(draw(st.lists(NAMES, min_size=len(shape), max_size=len(shape), unique=True)))
    return Machine(
        name=draw(TEXTS),
        description=draw(TEXTS),
        architecture=draw(st.sampled_from(["x86_64", "aarch64"])),
        iommus=tuple(draw(_iommus(next(names), sizes, numbers, addresses)) for sizes in shape),
    )


@st.composite
def _iommus(
    draw: st.DrawFn, name: str, sizes: list[int], numbers: Iterator[int], addresses: Iterator[str]
) -> Iommu:
    kind = draw(st.sampled_from(["intel", "amd"]))
    return Iommu(
        name=name,
        kind=kind,
        snoop_control=kind == "amd" or draw(st.booleans()),
        interrupt_remapping=draw(st.booleans()),
        address_width=draw(st.integers(32, 64)),
        groups=tuple(
            IommuGroup(next(numbers), tuple(draw(devices(next(addresses))) for _ in range(size)))
            for size in sizes
        ),
    )


_RENAMED = {"class_code": "class", "data": "bytes"}


def toml_text(machine: Machine) -> str:
    """The file that describes `machine`, with every key written out."""
    lines = _keys(machine, "iommus")
    for iommu in machine.iommus:
        lines += ["[[iommu]]", *_keys(iommu, "groups")]
        for iommu_group in iommu.groups:
            lines += ["[[iommu.group]]", f"number = {iommu_group.number}"]
            for device in iommu_group.devices:
                lines += ["[[iommu.group.device]]", *_keys(device)]
    return "\n".join(lines)


def _keys(value: Any, but: str = "") -> list[str]:  # noqa: ANN401  # any of the dataclasses
    names = [name for name in value.__slots__ if name != but and _toml(name, value) is not None]
    return [f"{_RENAMED.get(name, name)} = {_toml(name, value)}" for name in names]


def _toml(name: str, owner: object) -> str | None:
    value = getattr(owner, name)
    if name == "interrupt_pin":
        return f'"{" ABCD"[value]}"' if value else None
    if name == "driver":
        return f'"{value or "none"}"'
    if name == "addresses":
        return "{ " + ", ".join(f"{index} = {address:#x}" for index, address in value) + " }"
    return _literal(value)


def _literal(value: object) -> str | None:
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case int():
            return hex(value)
        case Enum():
            return f'"{value.value}"'
        case bytes():
            return f'"{value.hex(" ")}"'
        case str():
            return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        case tuple():
            return "[" + ", ".join(filter(None, map(_literal, value))) + "]"
    return "{ " + ", ".join(_keys(value)) + " }"
