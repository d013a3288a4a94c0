# SPDX-License-Identifier: GPL-2.0-only
"""A program's memory, where the program is this process."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.supervisor.memory import PAGE, AddressSpace, Stale

PROT_NONE, PROT_READ, PROT_WRITE = 0, 1, 2


class Pages:
    """Two pages side by side, whose protection can be changed."""

    def __init__(self, *, private: bool = False) -> None:
        shared = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
        self._map = mmap.mmap(-1, 3 * PAGE, flags=shared | mmap.MAP_ANONYMOUS)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        self._map[: 2 * PAGE] = bytes(range(256)) * (2 * PAGE // 256)
        self.protect(2, PROT_NONE)

    def protect(self, page: int, protection: int) -> None:
        libc = ctypes.CDLL(None)
        address = ctypes.c_void_p(self.address + page * PAGE)
        assert libc.mprotect(address, ctypes.c_size_t(PAGE), protection) == 0


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def mm() -> AddressSpace:
    return new_mm()


def new_mm(require_valid: Callable[[], None] = lambda: None) -> AddressSpace:
    space = AddressSpace(os.getpid(), require_valid)
    space.begin(os.getpid())
    return space


@pytest.mark.parametrize("size", [0, 1, 24, PAGE, 2 * PAGE])
def test_read(mm: AddressSpace, pages: Pages, size: int) -> None:
    assert mm.read(pages.address, size) == (bytes(range(256)) * 32)[:size]


@pytest.mark.parametrize(
    "where", [0, 8, 0x1000, 0xFFFF_FFFF_8100_0000, 0x8000_0000_0000_0000, (1 << 64) - 1]
)
def test_what_is_not_there(mm: AddressSpace, where: int) -> None:
    for access in (
        lambda: mm.read(where, 4),
        lambda: mm.write(where, b"1234"),
        lambda: mm.read_string(where, 16),
    ):
        with pytest.raises(KernelError, match="not all there") as error:
            access()
        assert error.value.errno == 14
    assert not mm.pin(where & -PAGE, PAGE, write=False)


def test_memory_without_access_is_not_there(mm: AddressSpace, pages: Pages) -> None:
    end = pages.address + 2 * PAGE
    assert len(mm.read(end - 4, 4)) == 4
    with pytest.raises(KernelError):
        mm.read(end - 2, 4)
    with pytest.raises(KernelError):
        mm.write(end - 2, b"1234")


def test_read_only_memory_is_not_written(mm: AddressSpace, pages: Pages) -> None:
    pages.protect(0, PROT_READ)
    before = mm.read(pages.address, 4)
    with pytest.raises(KernelError):
        mm.write(pages.address, b"abcd")
    assert mm.read(pages.address, 4) == before


def test_write(mm: AddressSpace, pages: Pages) -> None:
    mm.write(pages.address + PAGE - 3, b"across")
    assert mm.read(pages.address + PAGE - 3, 6) == b"across"


def test_strings(mm: AddressSpace, pages: Pages) -> None:
    mm.write(pages.address + PAGE - 3, b"across\0")
    assert mm.read_string(pages.address + PAGE - 3, 64) == b"across"
    assert mm.read_string(pages.address + PAGE - 3, 4) == b"acro"
    mm.write(pages.address + 2 * PAGE - 4, b"end\0")
    assert mm.read_string(pages.address + 2 * PAGE - 4, 4096) == b"end"


def test_pin(mm: AddressSpace, pages: Pages) -> None:
    assert mm.pin(pages.address, 2 * PAGE, write=True)
    assert not mm.pin(pages.address, 3 * PAGE, write=False)
    pages.protect(1, PROT_READ)
    assert mm.pin(pages.address, 2 * PAGE, write=False)
    assert not mm.pin(pages.address, 2 * PAGE, write=True)


def test_what_was_read_second_comes_along_and_is_never_stale(
    mm: AddressSpace, pages: Pages
) -> None:
    first, second = pages.address, pages.address + 512
    for content in (b"aaaa", b"bbbb", b"cccc"):
        mm.write(second, content)
        mm.begin(os.getpid())
        assert mm.read(first, 24) == bytes(range(24))
        assert mm.read(second, 4) == content
        assert mm.read(second, 8)[:4] == content  # another size is read anew
    pages.protect(0, PROT_NONE)
    mm.begin(os.getpid())
    with pytest.raises(KernelError):
        mm.read(first, 24)


def test_a_follower_that_is_gone_faults_only_when_it_is_read(
    mm: AddressSpace, pages: Pages
) -> None:
    first, second = pages.address, pages.address + PAGE
    for _ in range(2):
        mm.begin(os.getpid())
        mm.read(first, 24)
        mm.read(second, 4)
    pages.protect(1, PROT_NONE)
    mm.begin(os.getpid())
    assert mm.read(first, 24) == bytes(range(24))
    with pytest.raises(KernelError):
        mm.read(second, 4)


def test_another_address_space_is_noticed(mm: AddressSpace, pages: Pages) -> None:
    mark = pages.address + 100
    mm.know_by(mark, 16)
    for _ in range(2):
        mm.begin(os.getpid())
        mm.verify()
        assert mm.read(pages.address, 24) == bytes(range(24))
        assert mm.read(pages.address + 512, 4) == bytes(range(4))
    with pytest.raises(KernelError):
        mm.read(8, 4)
    mm.write(mark, b"another program's")
    with pytest.raises(Stale):
        mm.verify()
    with pytest.raises(Stale):
        mm.read(pages.address, 24)
    mm.know_by(0, 0)
    mm.verify()
    pages.protect(0, PROT_NONE)
    mm.know_by(mark + PAGE, 16)
    pages.protect(1, PROT_NONE)
    with pytest.raises(Stale):
        mm.verify()


def test_nothing_counts_once_the_call_is_over(pages: Pages) -> None:
    def over() -> None:
        raise RuntimeError("over")

    mm = new_mm(over)
    with pytest.raises(RuntimeError):
        mm.read(pages.address, 4)


# -- as devices reach it ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 24, PAGE, PAGE + 1, 2 * PAGE])
@pytest.mark.parametrize("known", [False, True])
def test_pinned_memory(mm: AddressSpace, pages: Pages, size: int, known: bool) -> None:
    if known:
        mm.know_by(pages.address + 16, 16)
    pinned = mm.pin(pages.address, 2 * PAGE, write=True)
    assert pinned is not None
    assert pinned.read(pages.address, size) == (bytes(range(256)) * 32)[:size]
    mm.know_by(0, 0)
    pinned.write(pages.address, bytes(size))
    assert pinned.read(pages.address, size) == bytes(size)
    if size < 2 * PAGE:
        assert pinned.read(pages.address + size, 1) == bytes([size & 255])


def test_what_is_protected_since_is_reached(mm: AddressSpace) -> None:
    pages = Pages(private=True)
    pinned = mm.pin(pages.address, 2 * PAGE, write=True)
    assert pinned is not None
    across = pages.address + PAGE - 2
    for protection in (PROT_READ, PROT_NONE):
        pages.protect(1, protection)
        pinned.write(across, b"four")
        assert pinned.read(across, 4) == b"four"
        assert pinned.read(across + 2, 2) == b"ur"
        pinned.write(across, b"1234")
    pages.protect(1, PROT_READ | PROT_WRITE)
    assert mm.read(across, 4) == b"1234"


def test_what_is_unmapped_since_is_not(mm: AddressSpace) -> None:
    memory = mmap.mmap(-1, 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    pinned = mm.pin(address, 2 * PAGE, write=True)
    assert pinned is not None
    libc = ctypes.CDLL(None)
    assert libc.munmap(ctypes.c_void_p(address + PAGE), ctypes.c_size_t(PAGE)) == 0
    for access in (
        lambda: pinned.read(address + PAGE - 2, 4),
        lambda: pinned.write(address + PAGE - 2, b"four"),
    ):
        with pytest.raises(KernelError, match="the program has nothing at"):
            access()
    assert pinned.read(address + PAGE - 2, 2) == b"fo"
    libc.mmap(ctypes.c_void_p(address + PAGE), ctypes.c_size_t(PAGE), 3, 0x32, -1, 0)


def test_a_program_that_is_another_now(mm: AddressSpace, pages: Pages) -> None:
    mm.know_by(pages.address, 16)
    pinned = mm.pin(pages.address, PAGE, write=True)
    assert pinned is not None
    mm.write(pages.address, b"x")
    mm.begin(os.getpid())
    for access in (
        lambda: pinned.read(pages.address + 64, 4),
        lambda: pinned.write(pages.address + 64, b"four"),
    ):
        with pytest.raises(KernelError, match="the program that mapped it is gone"):
            access()


def test_a_process_that_is_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    mm = AddressSpace(child, lambda: None)
    with pytest.raises(KernelError, match="the program that mapped it is gone"):
        mm.read_pinned(PAGE, 4)
    with pytest.raises(KernelError, match="the program that mapped it is gone"):
        mm.write_pinned(PAGE, b"four")
