# SPDX-License-Identifier: GPL-2.0-only
"""Every wait for a guest ends, whatever the guest does. An agent that is not there is played."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from kvm_vfio.guest.batch import Batch
from kvm_vfio.guest.channel import Channel, GuestDied
from kvm_vfio.guest.machine import MEMORY_BYTES
from kvm_vfio.guest.plan import CHANNEL_ADDRESS, REQUEST_BYTES

ANSWERS = CHANNEL_ADDRESS + 4096 + REQUEST_BYTES


class Agent:
    """The other end: writes what an agent would, at the place where it would."""

    def __init__(self) -> None:
        self.memory = os.memfd_create("memory")
        os.ftruncate(self.memory, MEMORY_BYTES)
        self.bell_in, host_out = os.pipe()
        host_in, self.bell_out = os.pipe()
        self.line = (os.fdopen(host_out, "wb", 0), os.fdopen(host_in, "rb", 0))
        self.channel = Channel(self.memory, self.line, patience=0.2)

    def header(self, *words: int, at: int = 1) -> None:
        """Write words of the header, from `done` on unless said."""
        os.pwrite(self.memory, struct.pack(f"<{len(words)}Q", *words), CHANNEL_ADDRESS + 8 * at)

    def answer(self, *results: int) -> None:
        data = struct.pack(f"<{len(results)}q", *results)
        os.pwrite(self.memory, data, ANSWERS)
        self.header(len(results), len(data), len(results) - 1)

    def serve(self, *turns: Callable[[], None]) -> threading.Thread:
        """Do a turn for each doorbell, and ring 'd' after it."""

        def work() -> None:
            for turn in turns:
                assert os.read(self.bell_in, 1) == b"b"
                turn()
                os.write(self.bell_out, b"d")

        thread = threading.Thread(target=work)
        thread.start()
        return thread

    def close(self) -> None:
        self.channel.close()
        for file in self.line:
            file.close()
        for fd in (self.memory, self.bell_in, self.bell_out):
            if fd >= 0:
                os.close(fd)


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.close()


def calls(count: int) -> Batch:
    batch = Batch()
    for number in range(count):
        batch.call(number, what=f"call-{number}")
    return batch


def test_a_batch_may_take_several_turns(agent: Agent) -> None:
    batch = Batch()
    answers = [batch.call(number) for number in range(5)]
    thread = agent.serve(lambda: agent.answer(10, 11), lambda: agent.answer(12, 13, 14))
    agent.channel.perform(batch)
    thread.join()
    assert [answer.result for answer in answers] == [10, 11, 12, 13, 14]


def test_a_guest_that_hangs_is_given_up(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvm_vfio.guest.channel._GLANCE", 0.05)
    agent.header(1, 0, 2)
    with pytest.raises(GuestDied, match="the guest hangs in call-2"):
        agent.channel.perform(calls(5))


def test_a_worker_that_dies_is_told_with_what_it_did(agent: Agent) -> None:
    agent.header(0, 0, 3, 11)
    os.write(agent.bell_out, b"e")
    with pytest.raises(GuestDied, match=r"call-3 killed the guest's worker \(status 0xb\)"):
        agent.channel.perform(calls(5))


def test_a_guest_that_ends_is_told(agent: Agent) -> None:
    os.close(agent.bell_out)
    agent.bell_out = -1
    with pytest.raises(GuestDied, match="the guest ended in call-0"):
        agent.channel.perform(calls(1))
    with pytest.raises(GuestDied, match="the guest ended"):
        agent.channel.wait(0.1)


def test_a_guest_that_no_longer_listens_is_told(agent: Agent) -> None:
    os.close(agent.bell_in)
    agent.bell_in = -1
    with pytest.raises(GuestDied, match="the guest ended"):
        agent.channel.perform(calls(1))


@pytest.mark.parametrize("header", [(0, 0), (2, 8), (1, 1 << 40)])
def test_nonsense_is_refused(agent: Agent, header: tuple[int, ...]) -> None:
    thread = agent.serve(lambda: agent.header(*header))
    with pytest.raises(GuestDied, match="answers nonsense"):
        agent.channel.perform(calls(1))
    thread.join()


def test_lost_events_are_no_answer(agent: Agent) -> None:
    def turn() -> None:
        agent.answer(0)
        agent.header(1, at=6)

    thread = agent.serve(turn)
    with pytest.raises(GuestDied, match="lost events"):
        agent.channel.perform(calls(1))
    thread.join()


def test_waiting_for_nothing_ends(agent: Agent) -> None:
    assert agent.channel.wait(0.05) == b""


def test_the_name_is_text_up_to_its_end(agent: Agent) -> None:
    os.pwrite(agent.memory, b"6.1.0-56-amd64 #1 SMP\0rest", CHANNEL_ADDRESS + 64)
    assert agent.channel.text() == "6.1.0-56-amd64 #1 SMP"
