# SPDX-License-Identifier: GPL-2.0-only
"""Memory slots and dirty logs: every answer here was measured on the kernels named."""

from __future__ import annotations

from collections.abc import Sequence
from errno import E2BIG, EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOTTY, ENXIO
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.kvm.memslots import DirtyBitmap, MemSlots
from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.profiles import PROFILES, Profile
from kvm_vfio.uapi.kvm_vm import (
    KVM_CAP_DIRTY_LOG_RING,
    KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
    KVM_CLEAR_DIRTY_LOG,
    KVM_CLEAR_DIRTY_LOG_LAYOUT,
    KVM_DIRTY_LOG,
    KVM_ENABLE_CAP,
    KVM_ENABLE_CAP_LAYOUT,
    KVM_GET_DIRTY_LOG,
    KVM_GET_NR_MMU_PAGES,
    KVM_MEM_LOG_DIRTY_PAGES,
    KVM_MEM_READONLY,
    KVM_RESET_DIRTY_RINGS,
    KVM_SET_NR_MMU_PAGES,
    KVM_SET_USER_MEMORY_REGION,
    KVM_SET_USER_MEMORY_REGION2,
    KVM_USERSPACE_MEMORY_REGION,
    KVM_USERSPACE_MEMORY_REGION2,
)
from tests.unit.kernel.program import Program, boot, since

LOG, READONLY = KVM_MEM_LOG_DIRTY_PAGES, KVM_MEM_READONLY
PAGE = 0x1000
UA = 0x7F00_0000_0000
SMM = 1 << 16
MEASURED = pytest.mark.parametrize(
    "profile",
    [p for p in PROFILES.values() if p.vm],
    ids=[p.name for p in PROFILES.values() if p.vm],
)

Region = tuple[int, int, int, int, int]  # slot, flags, guest_phys_addr, memory_size, userspace_addr


class Memory:
    """A program with a VM."""

    def __init__(self, profile: Profile = PROFILES["6.12"]) -> None:
        self.program: Program = boot(profile)
        self.vm = self.program.vm()

    @property
    def slots(self) -> MemSlots:
        return self.program.file(self.vm, VmFile).vm.memslots

    def set(self, *region: int) -> int:
        names = ("slot", "flags", "guest_phys_addr", "memory_size", "userspace_addr")
        fields = dict(zip(names, region, strict=True))
        wanted = self.program.struct(KVM_USERSPACE_MEMORY_REGION, **fields)
        return self.program.ioctl(self.vm, KVM_SET_USER_MEMORY_REGION, wanted)

    def enable(self, cap: int, argument: int) -> int:
        wanted = self.program.struct(KVM_ENABLE_CAP_LAYOUT, cap=cap, arg0=argument)
        return self.program.ioctl(self.vm, KVM_ENABLE_CAP, wanted)

    def log(self, slot: int = 0, size: int = 16) -> bytes | int:
        address = self.program.put(b"\xaa" * size)
        wanted = self.program.struct(KVM_DIRTY_LOG, slot=slot, dirty_bitmap=address)
        answer = self.program.ioctl(self.vm, KVM_GET_DIRTY_LOG, wanted)
        return answer or self.program.mm.read(address, size)

    def clear(self, slot: int, count: int, first: int, bits: bytes = bytes(16)) -> int:
        wanted = self.program.struct(
            KVM_CLEAR_DIRTY_LOG_LAYOUT,
            slot=slot,
            num_pages=count,
            first_page=first,
            dirty_bitmap=self.program.put(bits),
        )
        return self.program.ioctl(self.vm, KVM_CLEAR_DIRTY_LOG, wanted)


@pytest.fixture
def memory() -> Memory:
    return Memory()


# -- one region ------------------------------------------------------------------------------------

FRESH: dict[str, tuple[Region, int]] = {
    "plain": ((0, 0, 0, PAGE, UA), 0),
    "logged": ((0, LOG, 0, PAGE, UA), 0),
    "read-only": ((0, READONLY, 0, PAGE, UA), 0),
    "both": ((0, LOG | READONLY, 0, PAGE, UA), 0),
    "guest_memfd": ((0, 4, 0, PAGE, UA), -EINVAL),
    "unknown flag": ((0, 1 << 31, 0, PAGE, UA), -EINVAL),
    "size of a byte": ((0, 0, 0, 1, UA), -EINVAL),
    "size not of pages": ((0, 0, 0, PAGE + 1, UA), -EINVAL),
    "guest address not of pages": ((0, 0, 1, PAGE, UA), -EINVAL),
    "address not of pages": ((0, 0, 0, PAGE, UA + 1), -EINVAL),
    "at 0": ((0, 0, 0, PAGE, 0), 0),
    "kernel address": ((0, 0, 0, PAGE, 0xFFFF_FFFF_8100_0000), -EINVAL),
    "wraps": ((0, 0, 0xFFFF_FFFF_FFFF_F000, 2 * PAGE, UA), -EINVAL),
    "ends at 2**64": ((0, 0, 0xFFFF_FFFF_FFFF_F000, PAGE, UA), -EINVAL),
    "2**31 pages": ((0, 0, 0, 1 << 43, 0), -EINVAL),
    "SMM": ((SMM, 0, 0, PAGE, UA), 0),
    "a third address space": ((2 * SMM, 0, 0, PAGE, UA), -EINVAL),
    "the last slot that never is": ((0xFFFF, 0, 0, PAGE, UA), -EINVAL),
    "delete nothing": ((0, 0, 0, 0, UA), -EINVAL),
}


@MEASURED
@pytest.mark.parametrize(("region", "expected"), FRESH.values(), ids=FRESH)
def test_a_region_of_a_fresh_vm(profile: Profile, region: Region, expected: int) -> None:
    assert Memory(profile).set(*region) == expected


@since({"2013": 0, "5.10": 509, "6.1": 32764}, "count")
def test_how_many_slots_an_address_space_has(profile: Profile, count: int) -> None:
    if profile.vm:
        memory = Memory(profile)
        assert memory.set(count - 1, 0, 0, PAGE, UA) == 0
        assert memory.set(SMM + count - 1, 0, 0, PAGE, UA) == 0
        assert memory.set(count, 0, PAGE, PAGE, UA) == -EINVAL


def test_where_a_slot_may_end() -> None:
    for linux, below, beyond in (("5.10", 0, 0), ("6.1", 0, -EINVAL), ("7.3", 0, -EINVAL)):
        memory = Memory(PROFILES[linux])
        assert memory.set(0, 0, (1 << 40) - PAGE, PAGE, UA) == below
        assert memory.set(1, 0, 1 << 40, PAGE, UA) == beyond
        assert memory.set(0, 0, 1 << 52, PAGE, UA) == beyond  # moved


@pytest.mark.parametrize(
    ("linux", "end"),
    [("5.10", 0x7FFF_FFFF_F000), ("6.1", 0x7FFF_FFFF_F000), ("6.12", (1 << 56) - PAGE)],
)
def test_where_user_memory_ends(linux: str, end: int) -> None:
    memory = Memory(PROFILES[linux])
    assert memory.set(0, 0, 0, 2 * PAGE, end - PAGE) == -EINVAL
    assert memory.set(0, 0, 0, 2 * PAGE, end - 2 * PAGE) == 0
    assert memory.set(1, 0, 2 * PAGE, PAGE, end) == -EINVAL


# -- several ---------------------------------------------------------------------------------------

SEQUENCES: dict[str, tuple[Sequence[Region], Sequence[int]]] = {
    "again": ([(0, 0, 0, PAGE, UA)] * 2, [0, 0]),
    "delete twice": ([(0, 0, 0, PAGE, UA), (0, 0, 0, 0, UA), (0, 0, 0, 0, UA)], [0, 0, -EINVAL]),
    "delete, all else wrong": ([(0, 0, 0, PAGE, UA), (0, 3, 1 << 60, 0, UA + PAGE)], [0, 0]),
    "delete, unaligned": ([(0, 0, 0, PAGE, UA), (0, 0, 1, 0, UA)], [0, -EINVAL]),
    "delete, unknown flag": ([(0, 0, 0, PAGE, UA), (0, 8, 0, 0, UA)], [0, -EINVAL]),
    "another size": ([(0, 0, 0, PAGE, UA), (0, 0, 0, 2 * PAGE, UA)], [0, -EINVAL]),
    "another address": ([(0, 0, 0, PAGE, UA), (0, 0, 0, PAGE, UA + PAGE)], [0, -EINVAL]),
    "read-only on": ([(0, 0, 0, PAGE, UA), (0, 2, 0, PAGE, UA)], [0, -EINVAL]),
    "read-only off": ([(0, 2, 0, PAGE, UA), (0, 0, 0, PAGE, UA)], [0, -EINVAL]),
    "log on and off": ([(0, flags, 0, PAGE, UA) for flags in (0, 1, 0)], [0, 0, 0]),
    "move": ([(0, 0, 0, PAGE, UA), (0, 0, 0x4000, PAGE, UA)], [0, 0]),
    "move over itself": ([(0, 0, 0, 2 * PAGE, UA), (0, 0, PAGE, 2 * PAGE, UA)], [0, 0]),
    "move over another": (
        [(0, 0, 0, PAGE, UA), (1, 0, PAGE, PAGE, UA), (1, 0, 0, PAGE, UA)],
        [0, 0, -EEXIST],
    ),
    "the same place": ([(0, 0, 0, PAGE, UA), (1, 0, 0, PAGE, UA)], [0, -EEXIST]),
    "overlap": ([(0, 0, 0, 4 * PAGE, UA), (1, 0, 3 * PAGE, 4 * PAGE, UA)], [0, -EEXIST]),
    "side by side": ([(0, 0, 0, 4 * PAGE, UA), (1, 0, 4 * PAGE, PAGE, UA)], [0, 0]),
    "the same place in SMM": ([(0, 0, 0, PAGE, UA), (SMM, 0, 0, PAGE, UA)], [0, 0]),
    "overlap, and too high": ([(0, 0, 0, PAGE, UA), (1, 0, 0, (1 << 40) + PAGE, 0)], [0, -EEXIST]),
    "the same memory": ([(0, 0, 0, PAGE, UA), (1, 0, PAGE, PAGE, UA)], [0, 0]),
    "another size, where another is": (
        [(0, 0, 0, PAGE, UA), (1, 0, PAGE, PAGE, UA), (0, 0, 0, 2 * PAGE, UA)],
        [0, 0, -EINVAL],
    ),
}


@MEASURED
@pytest.mark.parametrize(("regions", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_regions_one_after_the_other(
    profile: Profile, regions: Sequence[Region], expected: Sequence[int]
) -> None:
    memory = Memory(profile)
    assert [memory.set(*region) for region in regions] == list(expected)


def test_a_region_with_private_memory_is_newer(memory: Memory) -> None:
    for linux, flags, expected in (("6.1", 0, -ENOTTY), ("6.12", 0, 0), ("6.12", 4, -EINVAL)):
        program = boot(PROFILES[linux])
        wanted = program.struct(
            KVM_USERSPACE_MEMORY_REGION2, flags=flags, memory_size=PAGE, pad1=1, pad2=b"\1" * 112
        )
        assert program.ioctl(program.vm(), KVM_SET_USER_MEMORY_REGION2, wanted) == expected


def refuse(structure: str, wanted: str) -> None:
    if wanted == structure:
        raise KernelError(ENOMEM, "refused")


@pytest.mark.parametrize("flags", [0, LOG])
def test_an_allocation_that_fails_leaves_the_slots_alone(flags: int) -> None:
    program = boot()
    vm = program.vm()
    slots = program.file(vm, VmFile).vm.memslots
    wanted = program.struct(KVM_USERSPACE_MEMORY_REGION, flags=flags, memory_size=PAGE)
    for structure in ("dirty_bitmap", "kvm_memory_slot")[0 if flags else 1 :]:
        program.kernel.allocate = partial(refuse, structure)
        assert program.ioctl(vm, KVM_SET_USER_MEMORY_REGION, wanted) == -ENOMEM
        assert (slots.slots(), slots.pages) == ([], 0)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, SMM, SMM + 1]),
            st.sampled_from([0, LOG, READONLY]),
            st.integers(0, 6).map(lambda page: page * PAGE),
            st.integers(0, 3).map(lambda pages: pages * PAGE),
            st.sampled_from([UA, UA + PAGE]),
        ),
        max_size=12,
    )
)
def test_slots_of_one_address_space_never_overlap(regions: list[Region]) -> None:
    memory = Memory()
    for region in regions:
        before = [(s.number, s.start, s.size, s.flags) for s in memory.slots.slots()]
        answer = memory.set(*region)
        slots = memory.slots.slots()
        if answer:
            assert [(s.number, s.start, s.size, s.flags) for s in slots] == before
        for space in (0, 1):
            pages = [
                page
                for slot in slots
                if slot.number >> 16 == space
                for page in range(slot.start, slot.start + slot.size)
            ]
            assert len(pages) == len(set(pages))
        assert memory.slots.pages == sum(slot.size for slot in slots)


# -- dirty logs ------------------------------------------------------------------------------------


def test_a_log_is_of_whole_words_and_nothing_is_dirty(memory: Memory) -> None:
    assert memory.log() == -ENOENT
    memory.set(0, 0, 0, 70 * PAGE, UA)
    assert memory.log() == -ENOENT
    memory.set(0, LOG, 0, 70 * PAGE, UA)
    assert memory.log(size=20) == bytes(16) + b"\xaa" * 4
    assert memory.log(SMM) == -ENOENT
    assert memory.log(2 * SMM) == -EINVAL
    assert memory.log(32764) == -EINVAL
    wanted = memory.program.struct(KVM_DIRTY_LOG)
    assert memory.program.ioctl(memory.vm, KVM_GET_DIRTY_LOG, wanted) == -EFAULT


CLEARED = {
    (0, 64, 0): 0,
    (0, 70, 0): 0,
    (0, 6, 64): 0,
    (0, 0, 0): 0,
    (0, 0, 64): 0,
    (0, 1, 0): -EINVAL,
    (0, 64, 1): -EINVAL,
    (0, 128, 0): -EINVAL,
    (0, 64, 64): -EINVAL,
    (0, 5, 64): -EINVAL,
    (0, 0, 70): -EINVAL,
    (0, 0, 128): -EINVAL,
    (0, 70, (1 << 64) - 64): -EINVAL,
    (1, 0, 0): -ENOENT,
    (1, 0, 1): -EINVAL,
    (2 * SMM, 0, 0): -EINVAL,
}


@pytest.mark.parametrize(("asked", "expected"), CLEARED.items())
def test_which_pages_can_be_cleared(
    memory: Memory, asked: tuple[int, int, int], expected: int
) -> None:
    memory.set(0, LOG, 0, 70 * PAGE, UA)
    assert memory.clear(*asked) == expected


def test_a_log_that_is_set_at_first_is_cleared_by_hand(memory: Memory) -> None:
    assert memory.enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3) == 0
    memory.set(0, LOG, 0, 70 * PAGE, UA)
    everything = b"\xff" * 8 + b"\x3f" + bytes(7)
    assert [memory.log(), memory.log()] == [everything, everything]
    assert memory.clear(0, 70, 0, b"\x0f" + bytes(15)) == 0
    assert memory.log() == b"\xf0" + everything[1:]
    memory.set(0, 0, 0, 70 * PAGE, UA)
    memory.set(0, LOG, 0, 70 * PAGE, UA)
    assert memory.log() == everything
    memory.clear(0, 64, 0, b"\xff" * 8)
    memory.set(0, LOG, 0x10_0000, 70 * PAGE, UA)  # moved: the log stays
    assert memory.log() == bytes(8) + everything[8:]


@pytest.mark.parametrize(
    ("options", "expected"), [(0, 0), (1, 0), (2, -EINVAL), (3, 0), (5, -EINVAL)]
)
def test_manual_protection_has_two_options(memory: Memory, options: int, expected: int) -> None:
    assert memory.enable(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, options) == expected


@given(
    st.integers(1, 200_000),
    st.lists(st.tuples(st.integers(0, 3200), st.binary(min_size=1, max_size=40)), max_size=8),
)
def test_a_bitmap_is_what_a_plain_one_is(pages: int, cleared: list[tuple[int, bytes]]) -> None:
    bitmap = DirtyBitmap(pages, initially_set=True)
    size = len(bitmap)
    plain = bytearray(((1 << pages) - 1).to_bytes(size, "little"))
    for at, mask in cleared:
        bits = mask[: max(min(size - at, 4096 - at % 4096), 0)]
        bitmap.clear(at, bits)
        for place, byte in enumerate(bits, at):
            plain[place] &= ~byte & 0xFF
    assert b"".join(bitmap.chunk(at) for at in range(0, size, 4096)) == plain


# -- rings and shadow pages ------------------------------------------------------------------------


def test_a_vm_with_dirty_rings_has_no_logs(memory: Memory) -> None:
    memory.set(0, LOG, 0, PAGE, UA)
    reset = KVM_RESET_DIRTY_RINGS
    assert memory.program.ioctl(memory.vm, reset) == -EINVAL
    sizes = {0: -EINVAL, 2048: -EINVAL, 4097: -EINVAL, 1 << 32: -EINVAL, 1 << 21: -E2BIG}
    sizes |= {1 << 20: 0, PAGE: -EINVAL}
    assert {size: memory.enable(KVM_CAP_DIRTY_LOG_RING, size) for size in sizes} == sizes
    assert memory.program.ioctl(memory.vm, reset) == 0
    assert [memory.log(), memory.log(0xFFFF), memory.clear(0, 0, 1)] == [-ENXIO] * 3


@pytest.mark.parametrize("linux", ["5.10", "6.1"])
def test_shadow_pages_follow_the_memory_until_somebody_says_how_many(linux: str) -> None:
    memory = Memory(PROFILES[linux])
    program, vm = memory.program, memory.vm

    def pages() -> int:
        return program.ioctl(vm, KVM_GET_NR_MMU_PAGES)

    assert pages() == 0
    memory.set(0, 0, 0, PAGE, UA)
    assert pages() == 64
    memory.set(1, 0, 1 << 30, 65600 * PAGE, 0)
    assert pages() == 1312
    assert program.ioctl(vm, KVM_SET_NR_MMU_PAGES, 63) == -EINVAL
    for asked, told in ((5000, 5000), ((1 << 32) + 64, 64), (0xFFFF_FFFF, -1)):
        assert program.ioctl(vm, KVM_SET_NR_MMU_PAGES, asked) == 0
        assert pages() == told
    memory.set(1, 0, 0, 0, 0)
    assert pages() == -1
