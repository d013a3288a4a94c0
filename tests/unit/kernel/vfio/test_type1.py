# SPDX-License-Identifier: GPL-2.0-only
"""type1: what a container maps, and what it says of itself."""

from __future__ import annotations

from dataclasses import replace
from errno import EEXIST, EFAULT, EINVAL, ENOENT, ENOMEM, ENOSPC, EOVERFLOW

import pytest

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.machine.model import Machine
from kvm_vfio.profiles import DEFAULT, PROFILES, Profile
from kvm_vfio.uapi.vfio import (
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_VADDR,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_DMA_UNMAP_FLAG_ALL,
    VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP,
    VFIO_DMA_UNMAP_FLAG_VADDR,
    VFIO_INFO_CAP_HEADER,
    VFIO_IOMMU_GET_INFO,
    VFIO_IOMMU_MAP_DMA,
    VFIO_IOMMU_TYPE1_DMA_MAP,
    VFIO_IOMMU_TYPE1_DMA_UNMAP,
    VFIO_IOMMU_TYPE1_INFO,
    VFIO_IOMMU_UNMAP_DMA,
    VFIO_TYPE1_IOMMU,
)
from tests.unit.kernel.program import MACHINE, Program, failing, must, profiles, since, start_vmm

READ, WRITE = VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE
MAP_VADDR, VADDR = VFIO_DMA_MAP_FLAG_VADDR, VFIO_DMA_UNMAP_FLAG_VADDR
ALL = VFIO_DMA_UNMAP_FLAG_ALL
TOP = 1 << 64
GIB = 1 << 30


class Mapper:
    """A program with a container of type1; `map` maps fresh memory, `unmap` answers the bytes."""

    def __init__(
        self,
        profile: Profile = DEFAULT,
        *,
        machine: Machine = MACHINE,
        kind: int | None = None,
        groups: tuple[int, ...] = (1,),
        lock_limit: int | None = None,
    ) -> None:
        self.program = Program(Kernel(machine, profile), lock_limit=lock_limit)
        self.fd = self.program.container()
        self.groups = [self.program.group(number) for number in groups]
        must(*(self.program.set_container(group, self.fd) for group in self.groups))
        must(self.program.set_iommu(self.fd, kind))

    def map(self, iova: int, size: int = PAGE, **differs: int) -> int:
        return self.program.map_dma(self.fd, iova, size, **differs)

    def unmap(self, iova: int, size: int = PAGE, **differs: int) -> int:
        return self.program.unmap_dma(self.fd, iova, size, **differs)

    def mapped(self) -> list[int]:
        """Where a mapping begins."""
        iommu = self.program.file(self.fd, ContainerFile).container.iommu
        assert iommu is not None
        return [mapping.start for mapping in iommu.mappings]


@pytest.fixture
def dma() -> Mapper:
    return Mapper()


# -- MAP_DMA ---------------------------------------------------------------------------------------


@profiles()
def test_mapped_is_what_does_not_overlap_and_unmapped_gives_its_bytes(profile: Profile) -> None:
    dma = Mapper(profile)
    assert [dma.map(0, 4 * PAGE), dma.map(4 * PAGE), dma.map(16 * PAGE)] == [0, 0, 0]
    for iova, size in ((0, PAGE), (3 * PAGE, 2 * PAGE), (16 * PAGE, PAGE), (0, 32 * PAGE)):
        assert dma.map(iova, size) == -EEXIST
    assert dma.unmap(0, 17 * PAGE) == 6 * PAGE
    assert dma.mapped() == []


@pytest.mark.parametrize(
    "differs",
    [
        {"argsz": 31},
        {"flags": 0},
        {"flags": 1 << 3 | READ},
        {"flags": MAP_VADDR | READ},
        {"size": 0},
        {"size": PAGE + 1},
        {"iova": 1},
        {"vaddr": PAGE + 8},
    ],
)
@profiles()
def test_a_mapping_that_makes_no_sense_is_einval(profile: Profile, differs: dict[str, int]) -> None:
    dma = Mapper(profile)
    assert dma.map(**{"iova": 0, **differs}) == -EINVAL
    assert dma.mapped() == []


@pytest.mark.parametrize("flags", [READ, WRITE, READ | WRITE])
def test_memory_that_only_reads_is_mapped_for_reading_only(dma: Mapper, flags: int) -> None:
    vaddr = dma.program.mm.map(PAGE, writable=False).start
    assert dma.map(0, vaddr=vaddr, flags=flags) == (-EFAULT if flags & WRITE else 0)


def test_a_larger_argsz_is_taken(dma: Mapper) -> None:
    assert dma.map(0, argsz=100) == 0


@since({"2013": -EINVAL, "6.18": -EOVERFLOW})
def test_a_range_that_wraps(profile: Profile, expected: int) -> None:
    dma = Mapper(profile)
    assert dma.map(TOP - PAGE, 2 * PAGE) == expected
    assert dma.map(0, 2 * PAGE, vaddr=TOP - PAGE) == expected
    assert dma.unmap(TOP - PAGE, 2 * PAGE) == expected
    assert dma.map(TOP - PAGE) == -profile.unreachable_iova_errno
    assert dma.unmap(TOP - PAGE) == 0


@since({"2013": -EINVAL, "6.18": -EOVERFLOW})
def test_that_it_wraps_is_seen_before_flags_and_alignment(profile: Profile, expected: int) -> None:
    dma = Mapper(profile)
    assert dma.map(TOP - PAGE, 2 * PAGE, flags=0) == expected
    assert dma.map(TOP - PAGE, PAGE + 1) == expected
    assert dma.map(TOP - PAGE, 0) == -EINVAL


@since({"2013": False, "6.18": True})
def test_what_is_found_in_a_range_that_ends_at_the_top(profile: Profile, expected: bool) -> None:
    dma = Mapper(profile)
    assert [dma.map(PAGE), dma.map(2 * PAGE)] == [0, 0]
    found = -EEXIST if expected else -profile.unreachable_iova_errno
    assert dma.map(PAGE, TOP - PAGE, vaddr=0) == found
    assert dma.unmap(PAGE, TOP - PAGE) == (2 * PAGE if expected else 0)
    assert len(dma.mapped()) == (0 if expected else 2)


@pytest.mark.parametrize(
    ("iova", "size", "expected"),
    [
        (512 * GIB - PAGE, PAGE, 0),
        (512 * GIB, PAGE, -EINVAL),
        (512 * GIB - PAGE, 2 * PAGE, -EINVAL),
        (0xFEE0_0000, PAGE, -EINVAL),
        (0xFEEF_F000, PAGE, -EINVAL),
        (0xFEDF_F000, 2 * PAGE, -EINVAL),
        (0xFEDF_F000, PAGE, 0),
        (0xFEF0_0000, PAGE, 0),
    ],
)
def test_an_iova_is_one_that_the_iommu_translates(
    dma: Mapper, iova: int, size: int, expected: int
) -> None:
    assert dma.map(iova, size) == expected


def test_where_nothing_is_mapped_in_the_program_nothing_can_be_mapped_for_dma(
    dma: Mapper,
) -> None:
    region = dma.program.mm.map(2 * PAGE)
    assert dma.map(0, 3 * PAGE, vaddr=region.start) == -EFAULT
    assert dma.map(0, vaddr=0) == -EFAULT
    assert dma.mapped() == []


@since({"2013": 0, "5.10": -ENOSPC})
def test_a_container_has_65535_mappings(profile: Profile, expected: int) -> None:
    dma = Mapper(profile)
    vaddr = dma.program.mm.map(PAGE).start
    wanted = dma.program.struct(VFIO_IOMMU_TYPE1_DMA_MAP, flags=READ, vaddr=vaddr, size=PAGE)
    for number in range(65535):
        dma.program.mm.write(wanted.address + 16, (number * PAGE).to_bytes(8, "little"))
        must(dma.program.ioctl(dma.fd, VFIO_IOMMU_MAP_DMA, wanted))
    assert dma.map(65535 * PAGE) == expected
    assert dma.map(0) == -EEXIST
    assert dma.map(512 * GIB) == (-ENOSPC if expected else -EFAULT)
    assert dma.unmap(7 * PAGE) == PAGE
    assert dma.map(7 * PAGE) == 0


def test_the_last_checks_in_their_order() -> None:
    dma = Mapper(lock_limit=PAGE)
    program = dma.program
    program.kernel.allocate = failing([0], KernelError(ENOMEM, "no memory"))
    assert dma.map(512 * GIB, vaddr=0) == -EINVAL
    assert dma.map(0, vaddr=0) == -ENOMEM
    assert dma.map(0, vaddr=0) == -EFAULT
    assert dma.map(0, 2 * PAGE) == -ENOMEM
    assert dma.mapped() == []


# -- locked memory ---------------------------------------------------------------------------------


def test_a_program_locks_no_more_than_it_may() -> None:
    dma = Mapper(lock_limit=3 * PAGE + 100)
    assert dma.map(0, 4 * PAGE) == -ENOMEM
    assert [dma.map(0, 2 * PAGE), dma.map(4 * PAGE), dma.map(8 * PAGE)] == [0, 0, -ENOMEM]
    assert dma.unmap(4 * PAGE) == PAGE
    assert dma.map(8 * PAGE) == 0
    dma.program.exit()
    assert dma.program.kernel.locked_vm == {}


def test_pages_are_pinned_one_by_one_until_the_first_that_cannot_be() -> None:
    dma = Mapper(lock_limit=2 * PAGE)
    short = dma.program.mm.map(2 * PAGE).start
    long = dma.program.mm.map(3 * PAGE).start
    assert dma.map(0, 5 * PAGE, vaddr=short) == -EFAULT
    assert dma.map(0, 5 * PAGE, vaddr=long) == -ENOMEM


def test_every_program_has_a_limit_of_its_own() -> None:
    dma = Mapper(lock_limit=PAGE)
    child = dma.program.fork()
    assert dma.map(0) == 0
    assert child.map_dma(dma.fd, PAGE) == 0
    assert dma.map(2 * PAGE) == -ENOMEM
    assert child.map_dma(dma.fd, 2 * PAGE) == -ENOMEM


# -- UNMAP_DMA -------------------------------------------------------------------------------------


@profiles()
def test_unmapping_nothing_succeeds_with_size_0(profile: Profile) -> None:
    dma = Mapper(profile)
    assert dma.unmap(0, 1 << 30) == 0


@pytest.mark.parametrize(
    "differs",
    [
        {"argsz": 23},
        {"flags": 1 << 3},
        {"flags": VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP},
        {"size": 0},
        {"size": PAGE - 1},
        {"iova": 1},
        {"flags": ALL, "size": PAGE},
        {"flags": ALL, "iova": PAGE, "size": 0},
        {"flags": ALL, "iova": 1, "size": 0},
    ],
)
@profiles()
def test_an_unmapping_that_makes_no_sense_is_einval(
    profile: Profile, differs: dict[str, int]
) -> None:
    dma = Mapper(profile)
    must(dma.map(0))
    assert dma.unmap(**{"iova": 0, **differs}) == -EINVAL
    assert dma.mapped() == [0]


@since({"2013": -EINVAL, "6.1": 3 * PAGE})
def test_everything_can_be_unmapped_at_once(profile: Profile, expected: int) -> None:
    dma = Mapper(profile)
    must(dma.map(0), dma.map(8 * GIB, 2 * PAGE))
    assert dma.unmap(0, 0, flags=ALL) == expected
    assert len(dma.mapped()) == (0 if expected > 0 else 2)


@pytest.mark.parametrize("ranges", [(1, 3), (0, 3), (1, 4), (1, 2), (2, 2), (3, 8)])
def test_version_2_cuts_no_mapping(dma: Mapper, ranges: tuple[int, int]) -> None:
    first, pages = ranges
    must(dma.map(0, 4 * PAGE), dma.map(4 * PAGE, 4 * PAGE))
    assert dma.unmap(first * PAGE, pages * PAGE) == -EINVAL
    assert dma.mapped() == [0, 4 * PAGE]


@profiles()
def test_version_1_takes_the_whole_of_a_mapping_for_its_first_page(profile: Profile) -> None:
    dma = Mapper(profile, kind=VFIO_TYPE1_IOMMU)
    must(dma.map(0, 4 * PAGE), dma.map(4 * PAGE, 4 * PAGE))
    assert dma.unmap(0) == 4 * PAGE
    assert dma.mapped() == [4 * PAGE]
    assert dma.unmap(0, 5 * PAGE) == 4 * PAGE


@profiles()
def test_version_1_unmaps_nothing_from_within_a_mapping(profile: Profile) -> None:
    dma = Mapper(profile, kind=VFIO_TYPE1_IOMMU)
    must(dma.map(0, 4 * PAGE), dma.map(4 * PAGE, 4 * PAGE))
    assert dma.unmap(3 * PAGE) == 0
    assert dma.unmap(PAGE, 7 * PAGE) == 0
    assert dma.mapped() == [0, 4 * PAGE]


def test_a_structure_that_cannot_be_written_is_efault_with_all_unmapped(dma: Mapper) -> None:
    must(dma.map(0))
    wanted = VFIO_IOMMU_TYPE1_DMA_UNMAP.pack(VFIO_IOMMU_TYPE1_DMA_UNMAP.type(24, 0, 0, PAGE))
    address = dma.program.put_at_page_end(wanted, writable=False)
    assert dma.program.ioctl(dma.fd, VFIO_IOMMU_UNMAP_DMA, address) == -EFAULT
    assert dma.mapped() == []


def test_mappings_go_with_the_last_group_and_not_with_the_containers_fd() -> None:
    vmm = start_vmm()
    program = vmm.program
    must(program.map_dma(vmm.container, 0))
    program.close(vmm.container)
    assert program.kernel.snapshot().vfio_groups[0].dma_mappings == 1
    program.close(vmm.group)
    assert program.kernel.locked_vm == {}


def test_in_5_10_only_the_program_that_mapped_unmaps() -> None:
    dma = Mapper(PROFILES["5.10"])
    must(dma.map(0))
    child = dma.program.fork()
    assert child.unmap_dma(dma.fd, 0) == 0
    assert dma.mapped() == [0]
    assert dma.unmap(0) == PAGE


# -- a mapping whose program goes on elsewhere -----------------------------------------------------


@profiles("2013", "4.19", "5.10")
def test_until_5_11_an_address_cannot_be_taken_away(profile: Profile) -> None:
    dma = Mapper(profile)
    must(dma.map(0))
    assert dma.unmap(0, flags=VADDR) == -EINVAL
    assert dma.map(0, flags=MAP_VADDR) == -EINVAL


@profiles("6.1", "6.12", "6.18", "7.3")
def test_an_address_is_taken_away_once_and_given_back_once(profile: Profile) -> None:
    dma = Mapper(profile)
    must(dma.map(0), dma.map(PAGE))
    assert dma.map(0, flags=MAP_VADDR) == -EINVAL
    assert dma.unmap(PAGE, flags=VADDR) == PAGE
    assert dma.unmap(0, 2 * PAGE, flags=VADDR) == -EINVAL
    assert dma.unmap(0, flags=VADDR) == PAGE
    assert dma.mapped() == [0, PAGE]
    assert dma.map(0, 2 * PAGE, flags=MAP_VADDR) == -EINVAL
    assert dma.map(8 * PAGE, flags=MAP_VADDR) == -ENOENT
    assert dma.map(0, flags=MAP_VADDR) == 0
    assert dma.map(0, flags=MAP_VADDR) == -EINVAL


def test_every_address_can_be_taken_away_at_once(dma: Mapper) -> None:
    must(dma.map(0), dma.map(8 * PAGE))
    assert dma.unmap(0, 0, flags=ALL | VADDR) == 2 * PAGE
    assert dma.unmap(0, 0, flags=ALL) == 2 * PAGE


def test_who_gives_an_address_back_has_the_pages_charged() -> None:
    dma = Mapper(lock_limit=2 * PAGE)
    child = dma.program.fork()
    must(dma.map(0, 2 * PAGE), child.map_dma(dma.fd, 8 * PAGE))
    must(dma.unmap(0, 2 * PAGE, flags=VADDR))
    assert child.map_dma(dma.fd, 0, 2 * PAGE, flags=MAP_VADDR) == -ENOMEM
    must(child.unmap_dma(dma.fd, 8 * PAGE))
    assert child.map_dma(dma.fd, 0, 2 * PAGE, flags=MAP_VADDR) == 0
    assert dma.program.kernel.locked_vm == {child.mm: 2 * PAGE}
    assert child.unmap_dma(dma.fd, 0, 2 * PAGE) == 2 * PAGE
    assert dma.program.kernel.locked_vm == {}


# -- GET_INFO --------------------------------------------------------------------------------------

MIGRATION, DMA_AVAIL, IOVA_RANGES = 2, 3, 1


def info(dma: Mapper, argsz: int) -> tuple[tuple[int, ...], dict[int, bytes]]:
    """The structure and, by id, the capabilities it leads to."""
    address = dma.program.put(argsz.to_bytes(4, "little") + bytes(max(argsz, 24)))
    must(dma.program.ioctl(dma.fd, VFIO_IOMMU_GET_INFO, address))
    answer = dma.program.mm.read(address, max(argsz, 24))
    head = VFIO_IOMMU_TYPE1_INFO.unpack(answer[:24])
    found, at = {}, head.cap_offset
    while at:
        header = VFIO_INFO_CAP_HEADER.unpack(answer[at : at + 8])
        found[header.id] = answer[at : header.next or head.argsz]
        at = header.next
    return head, found


@since(
    {"2013": (1, 0xFFFF_FFFF_FFFF_F000), "5.10": (3, 0xFFFF_FFFF_FFFF_F000), "6.1": (3, 0x40201000)}
)
def test_it_says_which_pages_it_maps(profile: Profile, expected: tuple[int, int]) -> None:
    (_, *flags_and_sizes, _, _), _ = info(Mapper(profile), 1000)
    assert tuple(flags_and_sizes) == expected


@profiles("5.10", "6.1", "6.12", "6.18", "7.3")
def test_the_chain_is_there_with_room_for_it_and_argsz_says_how_much(profile: Profile) -> None:
    dma = Mapper(profile)
    (needed, _, _, offset, _), found = info(dma, 24)
    assert (needed > 24, offset, found) == (True, 0, {})
    (argsz, _, _, offset, _), found = info(dma, needed)
    assert (argsz, offset, set(found)) == (needed, 24, {MIGRATION, DMA_AVAIL, IOVA_RANGES})
    assert info(dma, needed - 1)[1] == {}


def test_without_room_for_the_offset_the_offset_is_not_written(dma: Mapper) -> None:
    address = dma.program.put(bytes([16, 0, 0, 0]) + bytes(12) + b"\xff" * 8)
    must(dma.program.ioctl(dma.fd, VFIO_IOMMU_GET_INFO, address))
    assert dma.program.mm.read(address + 16, 8) == b"\xff" * 8


def test_it_says_how_many_more_mappings_fit_and_which_iovas(dma: Mapper) -> None:
    must(dma.map(0), dma.map(PAGE))
    _, found = info(dma, 1000)
    assert int.from_bytes(found[DMA_AVAIL][8:12], "little") == 65533
    words = [int.from_bytes(found[IOVA_RANGES][at : at + 8], "little") for at in range(16, 48, 8)]
    assert words == [0, 0xFEDF_FFFF, 0xFEF0_0000, 512 * GIB - 1]
    assert int.from_bytes(found[MIGRATION][16:24], "little") == PAGE


def test_a_chain_that_cannot_be_written_is_efault(dma: Mapper) -> None:
    address = dma.program.put_at_page_end((1000).to_bytes(24, "little"))
    assert dma.program.ioctl(dma.fd, VFIO_IOMMU_GET_INFO, address) == -EFAULT


def test_a_narrower_iommu_does_not_join_while_something_is_mapped_beyond_it() -> None:
    first, second, *others = MACHINE.iommus
    machine = replace(MACHINE, iommus=(first, replace(second, address_width=48), *others))
    dma = Mapper(machine=machine, groups=(7,))
    must(dma.map(512 * GIB))
    narrow = dma.program.group(1)
    assert dma.program.set_container(narrow, dma.fd) == -EINVAL
    must(dma.unmap(512 * GIB))
    assert dma.program.set_container(narrow, dma.fd) == 0


def test_the_narrowest_iommu_decides_which_iovas_there_are() -> None:
    first, second, *others = MACHINE.iommus
    machine = replace(MACHINE, iommus=(first, replace(second, address_width=48), *others))
    dma = Mapper(machine=machine, groups=(7,))
    assert dma.map(512 * GIB) == 0
    narrow = dma.program.group(1)
    must(dma.program.unset_container(dma.groups[0]))
    must(dma.program.set_container(dma.groups[0], dma.fd), dma.program.set_iommu(dma.fd))
    must(dma.program.set_container(narrow, dma.fd))
    assert dma.map(512 * GIB) == -EINVAL
    must(dma.program.unset_container(narrow))
    assert dma.map(512 * GIB) == 0
