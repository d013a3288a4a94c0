# SPDX-License-Identifier: GPL-2.0-only
"""User memory in this process: pages, holes, protection."""

from __future__ import annotations

from errno import EFAULT, ENOMEM

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.memory import PAGE, AddressSpace


@pytest.fixture
def mm() -> AddressSpace:
    return AddressSpace()


def faults(function: object, *arguments: object) -> bool:
    with pytest.raises(KernelError) as caught:
        function(*arguments)  # type: ignore[operator]  # any method of an address space
    return caught.value.errno == EFAULT


def test_fresh_pages_are_zero_whole_and_apart(mm: AddressSpace) -> None:
    first, second = mm.map(1), mm.map(PAGE + 1)
    assert (first.end - first.start, second.end - second.start) == (PAGE, 2 * PAGE)
    assert second.start >= first.end + PAGE
    assert mm.read(second.start, 2 * PAGE) == bytes(2 * PAGE)


def test_what_is_written_is_read(mm: AddressSpace) -> None:
    region = mm.map(PAGE)
    mm.write(region.start + 10, b"abc")
    assert mm.read(region.start + 9, 5) == b"\0abc\0"


@pytest.mark.parametrize("address", [0, 0x1000, 0xFFFF_FFFF_8100_0000, (1 << 64) - 1, 1 << 47])
@pytest.mark.parametrize("mapped", [False, True])
def test_where_nothing_is_mapped_every_access_faults(
    mm: AddressSpace, address: int, mapped: bool
) -> None:
    if mapped:
        mm.read(mm.map(PAGE).start, 1)
    assert faults(mm.read, address, 1)
    assert faults(mm.write, address, b"x")
    assert faults(mm.read_string, address, 10)
    assert not mm.pin(address, 1, write=False)


def test_an_access_that_runs_into_a_hole_faults_and_writes_nothing(mm: AddressSpace) -> None:
    region = mm.map(PAGE)
    assert faults(mm.read, region.end - 4, 5)
    assert faults(mm.write, region.end - 4, b"12345")
    assert mm.read(region.end - 4, 4) == bytes(4)


def test_an_access_may_cross_from_one_mapping_into_the_next(mm: AddressSpace) -> None:
    first = mm.map(PAGE, guard=0)
    second = mm.map(PAGE)
    assert first.end == second.start
    mm.write(first.end - 2, b"1234")
    assert mm.read(first.end - 3, 6) == b"\x001234\x00"
    assert mm.pin(first.start, 2 * PAGE, write=True)


@pytest.mark.parametrize("writable", [False, True])
@pytest.mark.parametrize("readable", [False, True])
def test_protection_decides_what_a_page_allows(
    mm: AddressSpace, readable: bool, writable: bool
) -> None:
    region = mm.map(PAGE, readable=readable, writable=writable)
    assert readable or faults(mm.read, region.start, 1)
    assert writable or faults(mm.write, region.start, b"x")
    assert bool(mm.pin(region.start, PAGE, write=False)) == readable
    assert bool(mm.pin(region.start, PAGE, write=True)) == writable


def test_a_page_that_becomes_unreadable_faults_although_it_was_read_before(
    mm: AddressSpace,
) -> None:
    region = mm.map(PAGE)
    mm.read(region.start, 1)
    region.readable = False
    assert faults(mm.read, region.start, 1)


def test_unmapped_memory_is_gone_although_it_was_read_before(mm: AddressSpace) -> None:
    region, other = mm.map(PAGE), mm.map(PAGE)
    mm.read(region.start, 1)
    mm.unmap(region)
    assert faults(mm.read, region.start, 1)
    assert mm.read(other.start, 1) == b"\0"


def test_memory_of_somebody_else_is_mapped_and_not_copied(mm: AddressSpace) -> None:
    shared = bytearray(PAGE)
    region = mm.map_data(shared)
    shared[:3] = b"abc"
    assert mm.read(region.start, 3) == b"abc"
    mm.write(region.start, b"A")
    assert shared[:3] == b"Abc"


def test_pinning_wants_every_page_of_the_range(mm: AddressSpace) -> None:
    region = mm.map(2 * PAGE)
    assert mm.pin(region.start, 2 * PAGE, write=True)
    assert not mm.pin(region.start, 2 * PAGE + 1, write=True)


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [(b"name\0more", 100, b"name"), (b"name\0", 4, b"name"), (b"\0", 1, b""), (b"name\0", 0, b"")],
)
def test_a_string_ends_before_its_nul_or_at_the_limit(
    mm: AddressSpace, text: bytes, limit: int, expected: bytes
) -> None:
    _, address = mm.allocate(len(text))
    mm.write(address, text)
    assert mm.read_string(address, limit) == expected


def test_a_string_may_cross_a_page_and_end_at_the_last_byte_before_a_hole(
    mm: AddressSpace,
) -> None:
    region = mm.map(2 * PAGE)
    text = b"x" * (PAGE + 9)
    mm.write(region.end - PAGE - 10, text + b"\0")
    assert mm.read_string(region.end - PAGE - 10, 2 * PAGE) == text
    mm.write(region.end - 1, b"x")
    assert faults(mm.read_string, region.end - 10, PAGE)


def test_allocations_are_aligned_and_do_not_overlap(mm: AddressSpace) -> None:
    sizes = [1, 16, 17, 300_000, 200_000, 200_000, 200_000, 200_000, 200_000, 5]
    spans = sorted((address, size) for size in sizes for _, address in [mm.allocate(size)])
    assert all(address % 16 == 0 for address, _ in spans)
    ends = [address + size for address, size in spans]
    assert all(end <= address for end, (address, _) in zip(ends, spans[1:], strict=False))
    for address, size in spans:
        mm.write(address, b"x" * size)


def test_an_address_space_can_be_full(mm: AddressSpace) -> None:
    with pytest.raises(KernelError) as caught:
        mm.map(PAGE, guard=1 << 40)
    assert caught.value.errno == ENOMEM


class Device(File):
    """A file whose memory can be mapped."""

    released = False

    def release(self) -> None:
        self.released = True


def test_a_mapping_of_a_file_holds_it_and_a_child_shares_it(mm: AddressSpace) -> None:
    file, shared = Device(), bytearray(PAGE)
    region = mm.map_data(shared, file=file)
    file.put()
    child = mm.copy()
    mm.unmap(region)
    assert not file.released
    child.write(region.start, b"x")
    assert shared[0] == ord("x")
    child.clear()
    assert file.released


def test_a_child_copies_all_other_memory(mm: AddressSpace) -> None:
    region = mm.map(PAGE)
    child = mm.copy()
    child.write(region.start, b"x")
    assert mm.read(region.start, 1) == b"\0"
    assert child.map(PAGE).start == mm.map(PAGE).start


def test_a_cleared_address_space_is_empty_and_can_be_used_again(mm: AddressSpace) -> None:
    _, address = mm.allocate(16)
    region = mm.map(PAGE)
    mm.clear()
    assert faults(mm.read, address, 1)
    assert faults(mm.read, region.start, 1)
    _, again = mm.allocate(16)
    mm.write(again, b"x")
