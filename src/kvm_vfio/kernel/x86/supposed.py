# SPDX-License-Identifier: GPL-2.0-only
"""Caches of CPUs whose stores nobody sees: those of a program that runs by itself.

Rule of this file: it supposes the driver that No-Snoop DMA needs. Before each such DMA a guest's
driver has its CPU execute WBINVD. KVM executes it while noncoherent DMA is registered for the VM,
and else lets it do nothing. So a page is written back by the next No-Snoop read while one of the
VMs of its program is registered, and never without; no other way of writing back is seen.

A page that was never written back is 0 in memory, but for what devices have written there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvm_vfio.kernel.kvm.vm import Vm
    from kvm_vfio.kernel.task import Mm
    from kvm_vfio.kernel.x86.cache import Mapped

_PAGE = 4096
_MOST_PAGES = 1 << 15  # 128 MiB of what memory holds


class SupposedCaches:
    """`Caches` for programs under supervision."""

    def __init__(self, vms: Callable[[], Iterable[Vm]]) -> None:
        """`vms` are those that live."""
        self._vms = vms
        self._memory: dict[tuple[Mm, int], bytearray] = {}

    def write_back(self, cpu: int) -> None:
        """A model's vCPU executes WBINVD. Programs have none."""

    def read(self, mapping: Mapped, iova: int, size: int) -> bytes:
        """What memory holds, after the WBINVD that the guest's driver issues."""
        address = mapping.address(iova)
        data = mapping.pages.read(address, size)  # a fault comes before all else
        if self._executes_wbinvd(mapping.mm):
            for page, _, _ in _pages(address, size):
                self._put(mapping.mm, page * _PAGE, mapping.pages.read(page * _PAGE, _PAGE))
            return data
        return b"".join(
            bytes(self._memory.get((mapping.mm, page), _ZEROES)[low:high])
            for page, low, high in _pages(address, size)
        )

    def write(self, mapping: Mapped, iova: int, data: bytes, *, snoop: bool) -> None:
        """What a device writes, both memory and the program have."""
        mapping.pages.write(mapping.address(iova), data)
        self._put(mapping.mm, mapping.address(iova), data)

    def _executes_wbinvd(self, mm: Mm) -> bool:
        return any(vm.mm is mm and vm.has_noncoherent_dma() for vm in self._vms())

    def _put(self, mm: Mm, address: int, data: bytes) -> None:
        done = 0
        for page, low, high in _pages(address, len(data)):
            if (mm, page) not in self._memory:
                while len(self._memory) >= _MOST_PAGES:
                    del self._memory[next(iter(self._memory))]
                self._memory[mm, page] = bytearray(_PAGE)
            self._memory[mm, page][low:high] = data[done : done + high - low]
            done += high - low


_ZEROES = bytes(_PAGE)


def _pages(address: int, size: int) -> list[tuple[int, int, int]]:
    """(page, from, to within it) of a range."""
    pieces = []
    end = address + size
    while address < end:
        page, low = address // _PAGE, address % _PAGE
        high = min(_PAGE, low + end - address)
        pieces.append((page, low, high))
        address += high - low
    return pieces
