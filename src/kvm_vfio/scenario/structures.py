# SPDX-License-Identifier: GPL-2.0-only
"""KVM's requests as words: `KVM_IRQFD fd=fd:e0 gsi=5`, and what came back in the structure.

Rule of this file: it knows the tables of `uapi` and no request in particular; what no two kernels
could agree on (the time) is not told.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kvm_vfio.scenario.hands import Content, Fd
from kvm_vfio.scenario.language import number
from kvm_vfio.uapi import kvm, kvm_vm, kvm_x86
from kvm_vfio.uapi.layout import Layout, Request

REQUESTS: dict[str, Request] = {
    request.name: request
    for module in (kvm, kvm_vm, kvm_x86)
    for request in vars(module).values()
    if isinstance(request, Request)
}
_READ = 2 << 30  # in a request's number: the kernel writes the structure
_TAILS = {"u32": 4, "u64": 8}  # words that follow the structure
_LOAD_TIME = 16  # the offset of count_load_time in each counter of a PIT
_COUNTER = 24


class Wanted(NamedTuple):
    """A structure to pass: its content, which may have fds in it, and its layout."""

    content: Content
    layout: Layout[Any]


def request_named(name: str) -> Request:
    """A request of KVM's by its name. ValueError."""
    if name not in REQUESTS:
        raise ValueError(f"there is no request {name!r} of KVM")
    return REQUESTS[name]


def wanted(request: Request, words: Sequence[str], address: Callable[[str], int]) -> Wanted:
    """The structure that `words` describe, FIELD=VALUE each, and what follows it. ValueError.

    A value is a number, the fd of a handle (fd:H), for a field of bytes hexadecimal digits, or the
    `address` of a piece of memory. What is not named is 0.
    """
    layout = request.layout
    if layout is None:
        raise ValueError(f"{request.name} takes a number")
    data = bytearray(layout.pack(layout.unpack(bytes(layout.size))))
    fds: list[tuple[int, Fd]] = []
    for word in words:
        name, equals, value = word.partition("=")
        tail, colon, items = word.partition(":")
        if not equals and colon and tail in _TAILS:
            size = _TAILS[tail]
            data += b"".join(_packed(number(item), size) for item in items.split(","))
        elif name not in layout.offsets:
            raise ValueError(f"{layout.name} has no field {name!r}")
        elif value.startswith("fd:"):
            fds.append((layout.offsets[name], Fd(value[3:])))
        else:
            size = _size(layout, name)
            place = layout.offsets[name]
            data[place : place + size] = _value(layout, name, value, size, address)
    return Wanted(_with_fds(bytes(data), fds), layout)


def _with_fds(data: bytes, fds: Sequence[tuple[int, Fd]]) -> Content:
    parts: list[Any] = []
    at = 0
    for offset, fd in sorted(fds, key=lambda pair: pair[0]):
        parts += [data[at:offset], fd]
        at = offset + 4
    return [*parts, data[at:]]


def _size(layout: Layout[Any], name: str) -> int:
    ends = [*sorted(layout.offsets.values()), layout.size]
    return ends[ends.index(layout.offsets[name]) + 1] - layout.offsets[name]


def _packed(value: int, size: int) -> bytes:
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _value(
    layout: Layout[Any], name: str, word: str, size: int, address: Callable[[str], int]
) -> bytes:
    blank = layout.unpack(bytes(layout.size))
    if isinstance(getattr(blank, name), bytes):
        return bytes.fromhex(word).ljust(size, b"\0")[:size]
    try:
        return _packed(number(word), size)
    except ValueError:
        return _packed(address(word), size)


def is_read_back(request: Request) -> bool:
    """Whether the kernel writes the structure."""
    return bool(int(request) & _READ) and request.layout is not None


def told(layout: Layout[Any], data: bytes) -> str:
    """The structure as it is now; what is 0 is left out, and so are addresses and the time."""
    fields = layout.unpack(_timeless(layout, data))._asdict()
    said = ((name, _text(value)) for name, value in fields.items() if name != "dirty_bitmap")
    return "".join(f" {name}={text}" for name, text in said if text.strip("0x"))


def _text(value: int | bytes) -> str:
    if isinstance(value, int):
        return f"{value:#x}"
    return value.rstrip(b"\0").hex()


def _timeless(layout: Layout[Any], data: bytes) -> bytes:
    timeless = bytearray(data)
    if layout is kvm_vm.KVM_CLOCK_DATA:
        for field in ("clock", "realtime", "host_tsc"):
            at = layout.offsets[field]
            timeless[at : at + 8] = bytes(8)
    elif layout in (kvm_vm.KVM_PIT_STATE, kvm_vm.KVM_PIT_STATE2):
        for counter in range(1, 3):
            at = counter * _COUNTER + _LOAD_TIME
            timeless[at : at + 8] = bytes(8)
    return bytes(timeless)
