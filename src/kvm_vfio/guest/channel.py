# SPDX-License-Identifier: GPL-2.0-only
"""Between host and agent: memory that both have, and doorbells on a serial line.

Rule of this file: every wait ends. What a guest writes is data to be checked, never trusted.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import time
from typing import IO, NamedTuple

from kvm_vfio.errors import KvmVfioError
from kvm_vfio.guest.batch import Batch
from kvm_vfio.guest.machine import CHANNEL_BYTES
from kvm_vfio.guest.plan import ANSWER_BYTES, CHANNEL_ADDRESS, REQUEST_BYTES

_HEADER = 4096
_ANSWERS = _HEADER + REQUEST_BYTES
_WORDS = struct.Struct("<8Q")
_TEXT = slice(_WORDS.size, _HEADER)
_GLANCE = 1.0  # seconds between two looks at how far a batch is


class GuestDied(KvmVfioError):
    """The guest ended or answers no more: it can only be booted again."""


class _Header(NamedTuple):
    """`struct header` of the agent, without the text."""

    instructions: int
    done: int
    answer_size: int
    position: int
    worker_status: int
    held: int
    events_lost: int
    probes: int


class Channel:
    """The host's side. `patience` is how many seconds the agent may stay at one instruction."""

    def __init__(self, memory: int, line: tuple[IO[bytes], IO[bytes]], *, patience: float) -> None:
        self._memory = mmap.mmap(memory, CHANNEL_BYTES, offset=CHANNEL_ADDRESS)
        self._to, self._from = line
        self._patience = patience

    def close(self) -> None:
        self._memory.close()

    def header(self) -> _Header:
        """What the agent says of itself now."""
        return _Header._make(_WORDS.unpack_from(self._memory))

    def text(self) -> str:
        """The kernel's own name, or why there is no worker."""
        return self._memory[_TEXT].split(b"\0")[0].decode(errors="replace")

    def ring(self, bell: bytes) -> None:
        """Say something to the agent."""
        try:
            os.write(self._to.fileno(), bell)
        except BrokenPipeError:
            raise GuestDied("the guest ended") from None

    def wait(self, seconds: float) -> bytes:
        """The agent's next doorbell, empty when none came in time. GuestDied when QEMU ended."""
        ready, _, _ = select.select([self._from], [], [], seconds)
        if not ready:
            return b""
        bell = os.read(self._from.fileno(), 1)
        if not bell:
            raise GuestDied("the guest ended")
        return bell

    def perform(self, batch: Batch, *, more_patience: float = 0.0) -> None:
        """Have every instruction of `batch` performed, in as many turns as it takes.

        `more_patience`: so many seconds longer may the agent stay at one instruction.
        """
        start = 0
        while start < len(batch):
            count, request = batch.request(start, REQUEST_BYTES)
            self._memory[_HEADER : _HEADER + len(request)] = request
            self._memory[0:16] = struct.pack("<2Q", count, 0)
            self.ring(b"b")
            self._wait_for_batch(batch, start, self._patience + more_patience)
            header = self.header()
            if not 0 < header.done <= count or header.answer_size > ANSWER_BYTES:
                raise GuestDied("the guest's agent answers nonsense")
            if header.events_lost:
                raise GuestDied("the guest lost events: its trace buffer overran")
            try:
                with memoryview(self._memory) as view, view[_ANSWERS:] as answers:
                    batch.answered(start, header.done, answers)
            except struct.error:
                raise GuestDied("the guest's agent answers nonsense") from None
            start += header.done

    def left_over(self) -> bytes:
        """The events that came with the end of a worker."""
        return self._memory[_ANSWERS : _ANSWERS + min(self.header().answer_size, ANSWER_BYTES)]

    def _wait_for_batch(self, batch: Batch, start: int, patience: float) -> None:
        moved = time.monotonic()
        before = self.header()
        while True:
            ready, _, _ = select.select([self._from], [], [], _GLANCE)
            now = self.header()
            what = batch.what(start + now.position)
            if ready:
                break
            if now.position != before.position:
                before, moved = now, time.monotonic()
            elif time.monotonic() - moved > patience:
                raise GuestDied(f"the guest hangs in {what}")
        bell = os.read(self._from.fileno(), 1)
        if bell == b"d":
            return
        if bell == b"e":
            raise GuestDied(f"{what} killed the guest's worker (status {now.worker_status:#x})")
        raise GuestDied(f"the guest ended in {what}")
