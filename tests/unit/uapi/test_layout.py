# SPDX-License-Identifier: GPL-2.0-only
"""How a structure is laid out and a request numbered, whatever the structure."""

from __future__ import annotations

import struct
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.uapi import fcntl, kvm, layout, pci, seccomp, vfio
from kvm_vfio.uapi.layout import Layout, Request, io, ior, iow, iowr, s32, s64, u8, u16, u32, u64

WIDTHS = {"B": (0, 2**8), "H": (0, 2**16), "I": (0, 2**32), "Q": (0, 2**64)} | {
    "i": (-(2**31), 2**31),
    "q": (-(2**63), 2**63),
}
EVERY_LAYOUT = [
    value
    for module in (kvm, vfio, seccomp, layout)
    for value in vars(module).values()
    if isinstance(value, Layout)
]


class every_width(NamedTuple):  # noqa: N801  # named as the kernel names structures
    a: u8
    b: Annotated[bytes, "1s"]
    c: u16
    d: u32
    e: u64
    f: s64
    g: s32


EVERY_WIDTH = Layout(every_width, size=28)


def values(codec: Layout[Any]) -> st.SearchStrategy[Any]:
    def field(code: str) -> st.SearchStrategy[int] | st.SearchStrategy[bytes]:
        if code.endswith("s"):
            return st.binary(min_size=int(code[:-1]), max_size=int(code[:-1]))
        low, beyond = WIDTHS[code]
        return st.integers(low, beyond - 1)

    hints = get_type_hints(codec.type, include_extras=True).values()
    return st.tuples(*(field(get_args(hint)[1]) for hint in hints)).map(codec.type._make)


def test_offsets_are_those_of_c() -> None:
    assert EVERY_WIDTH.offsets == {"a": 0, "b": 1, "c": 2, "d": 4, "e": 8, "f": 16, "g": 24}
    assert EVERY_WIDTH.name == "every_width"


@pytest.mark.parametrize("codec", [EVERY_WIDTH, *EVERY_LAYOUT], ids=lambda codec: codec.name)
@given(data=st.data())
def test_round_trip(codec: Layout[Any], data: st.DataObject) -> None:
    value = data.draw(values(codec))
    packed = codec.pack(value)
    assert len(packed) == codec.size
    assert codec.unpack(packed) == value
    assert codec.unpack_fields(packed) == tuple(value)


@given(st.binary(min_size=24, max_size=24))
def test_bytes_round_trip(data: bytes) -> None:
    assert kvm.KVM_DEVICE_ATTR.pack(kvm.KVM_DEVICE_ATTR.unpack(data)) == data


def test_little_endian() -> None:
    assert kvm.KVM_DEVICE_ATTR.pack(kvm.kvm_device_attr(1, 2, 3, 4)) == bytes.fromhex(
        "01000000 02000000 0300000000000000 0400000000000000"
    )


@given(st.binary(max_size=64).filter(lambda data: len(data) != 24))
def test_another_number_of_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(struct.error):
        kvm.KVM_DEVICE_ATTR.unpack(data)


def test_a_misaligned_field_is_refused() -> None:
    class hole(NamedTuple):  # noqa: N801  # named as the kernel names structures
        a: u32
        b: u64

    with pytest.raises(TypeError, match=r"^hole\.b is not aligned: name the padding before it$"):
        Layout(hole, size=16)


def test_a_wrong_size_is_refused() -> None:
    class short(NamedTuple):  # noqa: N801  # named as the kernel names structures
        a: u32

    with pytest.raises(TypeError, match=r"^short has 4 bytes of fields, 8 stated$"):
        Layout(short, size=8)


def test_a_value_too_wide_is_refused() -> None:
    with pytest.raises(struct.error):
        kvm.KVM_DEVICE_ATTR.pack(kvm.kvm_device_attr(2**32, 0, 0, 0))


@pytest.mark.parametrize(
    ("make", "number"),
    [(ior, 0x8018AE05), (iow, 0x4018AE05), (iowr, 0xC018AE05)],
)
def test_direction_and_size_are_in_the_number(make: Any, number: int) -> None:  # noqa: ANN401  # three functions of one shape
    request = make("X", kvm.KVMIO, 5, kvm.KVM_DEVICE_ATTR)
    assert request == number
    assert request.layout is kvm.KVM_DEVICE_ATTR


def test_io_says_nothing_of_its_argument() -> None:
    request = io("VFIO_IOMMU_MAP_DMA", 0x3B, 113, vfio.VFIO_IOMMU_TYPE1_DMA_MAP)
    assert request == 0x3B71
    assert request.layout is vfio.VFIO_IOMMU_TYPE1_DMA_MAP
    assert repr(request) == "VFIO_IOMMU_MAP_DMA (0x00003b71)"


def test_one_number_two_requests() -> None:
    number = int(vfio.VFIO_IOMMU_MAP_DMA)
    assert vfio.CONTAINER_REQUESTS[number] is vfio.VFIO_IOMMU_MAP_DMA
    assert vfio.DEVICE_REQUESTS[number] is vfio.VFIO_DEVICE_PCI_HOT_RESET
    assert number not in vfio.GROUP_REQUESTS


@pytest.mark.parametrize("module", [kvm, vfio, seccomp], ids=lambda module: module.__name__)
def test_a_request_carries_its_own_name(module: Any) -> None:  # noqa: ANN401  # a module has no protocol
    requests = {n: value for n, value in vars(module).items() if isinstance(value, Request)}
    assert requests
    assert {name: request.name for name, request in requests.items()} == {n: n for n in requests}


@pytest.mark.parametrize("module", [kvm, vfio], ids=lambda module: module.__name__)
def test_every_request_belongs_to_a_kind_of_file(module: Any) -> None:  # noqa: ANN401  # a module has no protocol
    tables = [value for name, value in vars(module).items() if name.endswith("_REQUESTS")]
    listed = {id(request) for table in tables for request in table.values()}
    assert {id(value) for value in vars(module).values() if isinstance(value, Request)} == listed


def test_headers_are_data() -> None:
    """No module of numbers has a public function of its own."""
    for module in (kvm, vfio, seccomp, pci, fcntl):
        here = [v for v in vars(module).values() if getattr(v, "__module__", "") == module.__name__]
        public = [v.__name__ for v in here if callable(v) and not isinstance(v, type)]
        assert [name for name in public if not name.startswith("_")] == []
