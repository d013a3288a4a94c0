# SPDX-License-Identifier: GPL-2.0-only
"""How C lays out a structure, and how Linux numbers a request.

Rule of this file: it knows no structure and no request in particular.

A structure is a NamedTuple with the kernel's own name, each field annotated with its width. Padding
is a field with a name, as the kernel's headers have it, so that every byte has an owner. The size
is stated where the structure is declared and checked against the fields::

    class kvm_device_attr(NamedTuple):
        flags: u32
        group: u32
        attr: u64
        addr: u64

    KVM_DEVICE_ATTR = Layout(kvm_device_attr, size=24)

The tables of the uapi are little-endian; that is right for every architecture in question.
"""

from __future__ import annotations

import struct
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeVar, get_args, get_type_hints

u8 = Annotated[int, "B"]
u16 = Annotated[int, "H"]
u32 = Annotated[int, "I"]
u64 = Annotated[int, "Q"]
s32 = Annotated[int, "i"]
s64 = Annotated[int, "q"]

Fields = TypeVar("Fields", bound=tuple[Any, ...])


class Layout(Generic[Fields]):
    """The bytes of one C structure: `size` in bytes, `offsets` of its fields, both directions."""

    __slots__ = (
        "_codec",
        "_make",
        "name",
        "offsets",
        "pack_fields",
        "size",
        "type",
        "unpack_fields",
    )

    def __init__(self, kind: type[Fields], *, size: int) -> None:
        self.type = kind
        self.name = kind.__name__
        self.offsets: dict[str, int] = {}
        codes = "<"
        for field, hint in get_type_hints(kind, include_extras=True).items():
            code = get_args(hint)[1]
            at, width = struct.calcsize(codes), struct.calcsize("<" + code)
            align = 1 if code.endswith("s") else width
            if at % align:
                raise TypeError(f"{self.name}.{field} is not aligned: name the padding before it")
            self.offsets[field] = at
            codes += code
        self._codec = struct.Struct(codes)
        if self._codec.size != size:
            raise TypeError(f"{self.name} has {self._codec.size} bytes of fields, {size} stated")
        self.size = size
        self.unpack_fields = self._codec.unpack  # the bare tuple, for the hottest paths
        self.pack_fields = self._codec.pack  # each field an argument, likewise
        self._make: Any = kind._make  # type: ignore[attr-defined]  # every kind is a NamedTuple

    def unpack(self, data: bytes) -> Fields:
        """The structure in exactly `size` bytes."""
        result: Fields = self._make(self._codec.unpack(data))
        return result

    def pack(self, value: Fields) -> bytes:
        """The bytes of `value`."""
        return self._codec.pack(*value)


class Request(int):
    """An ioctl request number, with the name and the structure that its header gives it."""

    name: str
    layout: Layout[Any] | None

    def __new__(cls, number: int, name: str, layout: Layout[Any] | None = None) -> Self:
        self = super().__new__(cls, number)
        self.name = name
        self.layout = layout
        return self

    def __repr__(self) -> str:
        return f"{self.name} ({int(self):#010x})"


_WRITE, _READ = 1, 2  # directions as asm-generic/ioctl.h names them, seen from user space


def _encode(direction: int, kind: int, number: int, size: int) -> int:
    return direction << 30 | size << 16 | kind << 8 | number


def io(name: str, kind: int, number: int, layout: Layout[Any] | None = None) -> Request:
    """_IO: the number says nothing about the argument; `layout` may say what it points to."""
    return Request(_encode(0, kind, number, 0), name, layout)


def ior(name: str, kind: int, number: int, layout: Layout[Any]) -> Request:
    """_IOR: the kernel writes a structure."""
    return Request(_encode(_READ, kind, number, layout.size), name, layout)


def iow(name: str, kind: int, number: int, layout: Layout[Any]) -> Request:
    """_IOW: the kernel reads a structure."""
    return Request(_encode(_WRITE, kind, number, layout.size), name, layout)


def iowr(name: str, kind: int, number: int, layout: Layout[Any]) -> Request:
    """_IOWR: the kernel reads a structure and writes it back."""
    return Request(_encode(_READ | _WRITE, kind, number, layout.size), name, layout)


class int32(NamedTuple):
    """A lone `int` behind a pointer, such as the fd in KVM_DEV_VFIO_GROUP_ADD."""

    value: s32


class uint32(NamedTuple):
    """A lone `unsigned int` behind a pointer."""

    value: u32


class uint64(NamedTuple):
    """A lone `u64` behind a pointer."""

    value: u64


INT32 = Layout(int32, size=4)
UINT32 = Layout(uint32, size=4)
UINT64 = Layout(uint64, size=8)
