# SPDX-License-Identifier: GPL-2.0-only
"""The wire format of the agent, from the host's side."""

from __future__ import annotations

import struct
from errno import EBADF

import pytest

from kvm_vfio.guest.batch import Answer, Batch, Register, Unanswered

SKIPPED, STUCK = -(1 << 63), -(1 << 63) + 1


def answered(batch: Batch, *parts: int | bytes) -> None:
    """Give the whole batch its answers: results, and the bytes that follow some."""
    packed = [p if isinstance(p, bytes) else struct.pack("<q", p) for p in parts]
    batch.answered(0, len(batch), memoryview(b"".join(packed)))


def test_an_instruction_is_a_head_its_arguments_and_a_blob() -> None:
    batch = Batch()
    batch.call(16, Register(3), 0xAE01, -1, into=7)
    batch.poke(0x1000, b"abc")
    count, request = batch.request(0, 4096)
    assert count == 2
    call = struct.pack("<BBHHH4Q", 1, 4, 7, 0b0010, 0, 16, 3, 0xAE01, (1 << 64) - 1)
    poke = struct.pack("<BBHHH2Q8s", 2, 2, 0xFFFF, 0, 0, 0x1000, 3, b"abc")
    assert request == call + poke


def test_a_batch_that_is_too_long_goes_in_parts() -> None:
    batch = Batch()
    for _ in range(10):
        batch.call(3, 0)
    one = len(batch.request(0, 4096)[1]) // 10
    assert batch.request(0, 4 * one + 1)[0] == 4
    assert batch.request(4, 4096)[0] == 6
    with pytest.raises(ValueError, match="call 3 does not fit"):
        batch.request(0, one - 1)


def test_every_instruction_gets_its_answer() -> None:
    batch = Batch()
    call, peek, events, last = batch.call(39), batch.peek(1, 3), batch.events(), batch.child()
    answered(batch, 42, 3, b"abc" + bytes(5), 2, struct.pack("<4Q", 0, 0xF0, 7, 1), 0)
    assert (call.result, peek.data, last.result) == (42, b"abc", 0)
    assert events.events() == [(0, 0xF0), (7, 1)]


def test_an_errno_is_an_oserror() -> None:
    batch = Batch()
    call = batch.call(3, -1)
    answered(batch, -EBADF)
    assert call.raw == -EBADF
    with pytest.raises(OSError, match="Bad file descriptor") as error:
        _ = call.result
    assert error.value.errno == EBADF


def test_a_call_that_was_given_up_says_which() -> None:
    batch = Batch()
    call = batch.call(0, 5, what="read")
    answered(batch, STUCK)
    with pytest.raises(Unanswered, match="read did not come back within 5 seconds"):
        _ = call.raw


def test_what_is_skipped_has_no_answer() -> None:
    batch = Batch()
    batch.skip_if(1, 1, 1)
    peek = batch.peek(0, 8)
    after = batch.call(39)
    answered(batch, 0, SKIPPED, 5)
    assert peek.skipped
    assert peek.data == b""
    assert after.result == 5


def test_an_answer_that_is_cut_short_is_refused() -> None:
    batch = Batch()
    batch.call(39)
    with pytest.raises(struct.error):
        answered(batch, b"1234")
    assert isinstance(batch.call(1), Answer)


def test_a_program_is_run_with_its_arguments_its_output_and_its_patience() -> None:
    batch = Batch()
    batch.run(0x1000, 5, 60, what="program")
    count, encoded = batch.request(0, 1 << 20)
    assert count == 1
    assert encoded == struct.pack("<BBHHH3Q", 13, 3, 0xFFFF, 0, 0, 0x1000, 5, 60)
