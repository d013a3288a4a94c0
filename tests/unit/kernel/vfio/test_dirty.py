# SPDX-License-Identifier: GPL-2.0-only
"""Dirty page tracking, as Linux 5.10, 6.1, 6.12 and 7.3 answered the same calls."""

from __future__ import annotations

from dataclasses import dataclass
from errno import EACCES, EFAULT, EINVAL, ENOTTY, EOVERFLOW

import pytest

from kvm_vfio.kernel.memory import PAGE
from kvm_vfio.profiles import Profile
from kvm_vfio.uapi import vfio
from tests.unit.kernel.program import Program, boot, must, profiles, since

START, STOP, GET = 1, 2, 4
ROOM = 64


@dataclass
class Tracker:
    """A container with pages 0 to 3 and 8 to 9 mapped, and room for a bitmap."""

    program: Program
    container: int
    bits: int

    def ask(self, flags: int, argsz: int = 8, rest: bytes = b"") -> int:
        head = vfio.VFIO_IOMMU_TYPE1_DIRTY_BITMAP.pack(
            vfio.vfio_iommu_type1_dirty_bitmap(argsz, flags)
        )
        return self.program.ioctl(
            self.container, vfio.VFIO_IOMMU_DIRTY_PAGES, self.program.put(head + rest)
        )

    def get(self, page: float, pages: float, **differs: int) -> int | str:
        """GET_BITMAP: -errno, or the first two bytes."""
        self.program.mm.write(self.bits, bytes(ROOM))
        asked = {
            "iova": int(page * PAGE),
            "size": int(pages * PAGE),
            "bitmap_pgsize": PAGE,
            "bitmap_size": 8,
            "bitmap_data": self.bits,
            **differs,
        }
        argsz = asked.pop("argsz", 48)
        layout = vfio.VFIO_IOMMU_TYPE1_DIRTY_BITMAP_GET
        return self.ask(GET, argsz, layout.pack(layout.type(**asked))) or self.read()

    def read(self) -> str:
        return self.program.mm.read(self.bits, 2).hex()

    def unmap(self, page: int, pages: int, flags: int = 1, **differs: int) -> tuple[int, int]:
        """UNMAP_DMA with a bitmap: the answer, and how many pages went."""
        asked = {"pgsize": PAGE, "size": 8, "data": self.bits, **differs}
        argsz = asked.pop("argsz", 48)
        layout = vfio.VFIO_IOMMU_TYPE1_DMA_UNMAP
        head = layout.pack(layout.type(argsz, flags, page * PAGE, pages * PAGE))
        at = self.program.put(head + vfio.VFIO_BITMAP.pack(vfio.vfio_bitmap(**asked)))
        answer = self.program.ioctl(self.container, vfio.VFIO_IOMMU_UNMAP_DMA, at)
        return answer, layout.unpack(self.program.mm.read(at, layout.size)).size // PAGE


def tracker(profile: Profile, kind: int = vfio.VFIO_TYPE1v2_IOMMU) -> Tracker:
    program = boot(profile)
    container, group = program.container(), program.group(1)
    must(program.set_container(group, container), program.set_iommu(container, kind))
    for page, pages in ((0, 4), (8, 2)):
        must(program.map_dma(container, page * PAGE, pages * PAGE))
    return Tracker(program, container, program.put(bytes(ROOM)))


MEASURED = profiles("5.10", "6.1", "6.12", "7.3")


@MEASURED
def test_what_is_asked_is_judged_in_this_order(profile: Profile) -> None:
    dirty = tracker(profile)
    assert dirty.program.ioctl(dirty.container, vfio.VFIO_IOMMU_DIRTY_PAGES, 0) == -EFAULT
    for flags, argsz in ((START, 7), (0, 8), (3, 8), (8, 8), (GET, 8)):
        assert dirty.ask(flags, argsz) == -EINVAL
    assert dirty.get(0, 4) == -EINVAL  # tracking is off
    assert [dirty.ask(STOP), dirty.ask(START), dirty.ask(START)] == [0, 0, 0]
    assert dirty.get(0, 4) == "0f00"


@MEASURED
def test_version_1_tracks_nothing(profile: Profile) -> None:
    dirty = tracker(profile, vfio.VFIO_TYPE1_IOMMU)
    assert [dirty.ask(flags) for flags in (START, STOP, 0)] == [-EACCES] * 3
    assert dirty.unmap(0, 4) == (-EINVAL, 4)


@MEASURED
def test_every_mapped_page_of_the_range_is_dirty(profile: Profile) -> None:
    dirty = tracker(profile)
    dirty.ask(START)
    assert dirty.get(0, 4) == "0f00"
    assert dirty.get(0, 16) == "0f03"
    assert dirty.get(0, 5) == "0f00"
    assert dirty.get(4, 1) == "0000"
    assert dirty.get(0, 4, bitmap_size=16) == "0f00"


@MEASURED
def test_bits_shifted_beyond_a_mapping_are_reported_again(profile: Profile) -> None:
    dirty = tracker(profile)
    dirty.ask(START)
    assert dirty.get(8, 2) == "0300"
    assert dirty.get(0, 16) == "0f03"
    assert dirty.get(8, 2) == "0f03"


@MEASURED
@pytest.mark.parametrize(
    ("page", "pages", "differs"),
    [
        (1, 1, {}),
        (0, 2, {}),
        (0.5, 1, {}),
        (0, 4.5, {}),
        (0, 0, {}),
        (0, 256, {}),  # of which the bitmap has no room for all
        (0, 4, {"bitmap_pgsize": 2 * PAGE}),
        (0, 4, {"bitmap_pgsize": 0}),
        (0, 4, {"bitmap_size": 0}),
        (0, 4, {"bitmap_size": 7}),
        (0, 4, {"bitmap_data": 0xFFFF_FFFF_8100_0000}),
        (0, 4, {"argsz": 47}),
    ],
)
def test_a_range_or_bitmap_that_does_not_fit_is_einval(
    profile: Profile, page: float, pages: float, differs: dict[str, int]
) -> None:
    dirty = tracker(profile)
    dirty.ask(START)
    assert dirty.get(page, pages, **differs) == -EINVAL


@MEASURED
def test_a_bitmap_that_is_not_there_is_efault(profile: Profile) -> None:
    dirty = tracker(profile)
    dirty.ask(START)
    hole = dirty.program.hole()
    assert dirty.get(0, 4, bitmap_data=hole) == -EFAULT
    assert dirty.unmap(0, 4, data=hole) == (-EFAULT, 4)
    assert dirty.get(0, 4) == "0f00"  # still mapped


@since({"5.10": -EINVAL, "6.18": -EOVERFLOW} | {"2013": -ENOTTY})
def test_a_range_that_wraps(profile: Profile, expected: int) -> None:
    dirty = tracker(profile, vfio.VFIO_TYPE1v2_IOMMU if profile.type1v2 else vfio.VFIO_TYPE1_IOMMU)
    assert dirty.get(0, 2, iova=(1 << 64) - PAGE) == expected


@MEASURED
def test_unmapping_reports_what_goes(profile: Profile) -> None:
    dirty = tracker(profile)
    dirty.ask(START)
    dirty.program.mm.write(dirty.bits, bytes(ROOM))
    assert (dirty.unmap(8, 2), dirty.read()) == ((0, 2), "0300")
    assert dirty.unmap(8, 2) == (0, 0)
    for differs in ({"argsz": 24}, {"pgsize": 2 * PAGE}, {"size": 0}):
        assert dirty.unmap(0, 4, **differs) == (-EINVAL, 4)
    dirty.ask(STOP)
    assert dirty.unmap(0, 4) == (-EINVAL, 4)
    assert dirty.unmap(0, 4, flags=0) == (0, 4)


@profiles("6.1", "7.3")
@pytest.mark.parametrize("flags", [3, 5])
def test_a_bitmap_goes_with_no_other_flag(profile: Profile, flags: int) -> None:
    dirty = tracker(profile)
    dirty.ask(START)
    assert dirty.unmap(0, 4, flags=flags) == (-EINVAL, 4)
