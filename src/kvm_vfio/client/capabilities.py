# SPDX-License-Identifier: GPL-2.0-only
"""VFIO's growing structures from the caller's side: argsz asked twice, capabilities walked.

Rule of this file: no structure in particular.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kvm_vfio.uapi.vfio import VFIO_INFO_CAP_HEADER


def ask_whole(ask: Callable[[int], bytes], size: int) -> bytes:
    """The whole answer of `ask(argsz)`: if it says that it is larger than `size`, ask again.

    An answer begins with the argsz that would have been enough.
    """
    answer = ask(size)
    needed = int.from_bytes(answer[:4], "little")
    return ask(needed) if needed > size else answer


def capabilities(answer: bytes, first: int) -> Iterator[tuple[int, bytes]]:
    """(id, the bytes from its header on) of every capability; `first` is the offset, 0 for none.

    ValueError for a chain that leaves the answer or goes round.
    """
    seen: set[int] = set()
    at = first
    while at:
        if at in seen or at + VFIO_INFO_CAP_HEADER.size > len(answer):
            raise ValueError(f"the capability chain is broken at offset {at}")
        seen.add(at)
        header = VFIO_INFO_CAP_HEADER.unpack(answer[at : at + VFIO_INFO_CAP_HEADER.size])
        yield header.id, answer[at:]
        at = header.next
