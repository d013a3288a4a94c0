# SPDX-License-Identifier: GPL-2.0-only
"""Ioctls by name, with the fields of their argument.

Rule of this file: it decodes what the kernel has read or written, and reads nothing itself. A
structure is told as far as it was there: one that grows is as long as its caller made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from typing import Any

from msgspec import Struct, defstruct

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.ioctl import Argument
from kvm_vfio.trace.watched import Seen
from kvm_vfio.uapi import kvm, kvm_vm, kvm_x86, vfio
from kvm_vfio.uapi.layout import Layout, Request

_KNOWN = {
    **kvm.SYSTEM_REQUESTS,
    **kvm_x86.SYSTEM_REQUESTS,
    **kvm_x86.VCPU_REQUESTS,
    **kvm.VM_REQUESTS,
    **kvm_vm.VM_REQUESTS,
    **vfio.GROUP_REQUESTS,
    **vfio.DEVICE_REQUESTS,
    **vfio.CONTAINER_REQUESTS,
}


@cache
def known_requests() -> dict[str, Request]:
    """Every request by its name."""
    return {request.name: request for request in _KNOWN.values()} | {
        row.request.name: row.request
        for kind in _files()
        for table in kind.tables()
        for row in table
    }


def _files() -> Iterator[type[File]]:
    kinds = [File]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        yield kind


class Value(Struct):
    """An argument that is a number, or an address that was not read."""

    arg: int


class Text(Struct):
    """An argument that is the address of a string."""

    text: str


def find_request(kind: type[File] | None, number: int) -> Request:
    """The request `number`: VFIO gives a number out again for another kind of file."""
    row = kind.row(number) if kind is not None else None
    if row is not None:
        return row.request
    return _KNOWN.get(number) or Request(number, f"ioctl {number:#010x}")


_Reader = Callable[[bytes], Struct]


@lru_cache(maxsize=1024)  # a program can ask for any number
def _request(kind: type[File] | None, number: int) -> tuple[str, Layout[Any] | None, bool]:
    """Name, structure, and whether the argument is never an address."""
    row = kind.row(number) if kind is not None else None
    request = find_request(kind, number)
    return request.name, request.layout, row is not None and row.argument is Argument.VALUE


@lru_cache(maxsize=1024)
def _reader(layout: Layout[Any], size: int) -> _Reader:
    """Makes the record of a structure of which `size` bytes are there."""
    ends = [*list(layout.offsets.values())[1:], layout.size]
    fields = [name for name, end in zip(layout.offsets, ends, strict=True) if end <= size]
    raw = any(isinstance(value, bytes) for value in layout.unpack_fields(bytes(layout.size)))
    made: Callable[..., Struct] = defstruct(layout.name, [(name, Any) for name in fields], gc=False)
    unpack = layout.unpack_fields
    if size == layout.size and not raw:
        return lambda data: made(*unpack(data))
    count, whole = len(fields), layout.size

    def read(data: bytes) -> Struct:
        values = unpack(data[:whole].ljust(whole, b"\0"))[:count]
        return made(*(v.hex() if isinstance(v, bytes) else v for v in values))

    return read


def decode(
    kind: type[File] | None, number: int, arg: int, seen: Seen
) -> tuple[str, Struct | None, Struct | None]:
    """The name of a request, what its argument was, and what it was when the call returned."""
    name, layout, is_value = _request(kind, number)  # type: ignore[arg-type]  # a class can be hashed
    if is_value:
        return name, Value(arg), None
    data = seen.read.get(arg)
    if data is not None and layout is not None:
        out = None
        if arg in seen.written:
            written = seen.written[arg]
            out = _reader(layout, len(written))(written)
        return name, _reader(layout, len(data))(data), out
    if arg in seen.strings:
        return name, Text(seen.strings[arg].decode(errors="replace")), None
    return name, Value(arg), None
