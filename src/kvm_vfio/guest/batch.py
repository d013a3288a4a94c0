# SPDX-License-Identifier: GPL-2.0-only
"""Many calls in one turn of the channel.

Rule of this file: it is the wire format of `agent.c`, and nothing else. The agent has registers, so
that a call can use what an earlier one of the same batch returned.
"""

from __future__ import annotations

import os
import struct
from enum import IntEnum

from kvm_vfio.errors import KvmVfioError

REGISTERS = 4096
_NO_REGISTER = 0xFFFF
_HEAD = struct.Struct("<BBHHH")
_RESULT = struct.Struct("<q")
_EVENT = struct.Struct("<QQ")
_SKIPPED = -(1 << 63)
_STUCK = _SKIPPED + 1
_PATIENCE = 5  # seconds, as in the agent
_WORD = (1 << 64) - 1


class Unanswered(KvmVfioError):
    """A call that never came back; the agent gave it up."""


class Register(int):
    """The number of a register, where it could be taken for a plain number."""


class _Op(IntEnum):
    CALL = 1
    POKE = 2
    PEEK = 3
    PUT = 4
    LOAD = 5
    TAKE = 6
    SKIP_IF = 7
    SKIP_UNLESS = 8
    EVENTS = 9
    CHILD = 10
    SET = 11
    CLOSE_ALL = 12
    RUN = 13


class Answer:
    """What came of one instruction: valid once the batch has been performed."""

    __slots__ = ("_result", "data", "what")

    def __init__(self, what: str) -> None:
        self.what = what
        self._result = _SKIPPED
        self.data = b""

    @property
    def skipped(self) -> bool:
        """Whether a skip before it left it out."""
        return self._result == _SKIPPED

    @property
    def raw(self) -> int:
        """The result, or -errno. Unanswered."""
        if self._result == _STUCK:
            raise Unanswered(f"{self.what} did not come back within {_PATIENCE} seconds")
        return self._result

    @property
    def result(self) -> int:
        """The result; where Linux returned -errno, OSError."""
        raw = self.raw
        if raw < 0:
            raise OSError(-raw, os.strerror(-raw))
        return raw

    def events(self) -> list[tuple[int, int]]:
        """What the probes saw: the number of the probe, and its argument."""
        return list(_EVENT.iter_unpack(self.data))

    def _read(self, op: _Op, answers: memoryview) -> int:
        """Take what is ours from the front of `answers`: how many bytes that was."""
        self._result = _RESULT.unpack_from(answers)[0]
        size = 0
        if self._result > 0 and op is _Op.PEEK:
            size = self._result
        elif self._result > 0 and op is _Op.EVENTS:
            size = self._result * _EVENT.size
        self.data = bytes(answers[8 : 8 + size])
        return 8 + size + -size % 8


class Batch:
    """Instructions in the order they are performed."""

    def __init__(self) -> None:
        self._instructions: list[tuple[_Op, bytes, Answer]] = []

    def __len__(self) -> int:
        return len(self._instructions)

    def call(self, number: int, *arguments: int, into: int | None = None, what: str = "") -> Answer:
        """A system call by number. `what` names it where something goes wrong."""
        return self._add(_Op.CALL, (number, *arguments), into=into, what=what or f"call {number}")

    def poke(self, address: int, data: bytes) -> Answer:
        """Put `data` into the worker's memory."""
        blob = data + bytes(-len(data) % 8)
        return self._add(_Op.POKE, (address, len(data)), blob=blob, what="poke")

    def put(self, address: int, value: int, size: int) -> Answer:
        """Put the low `size` bytes of a value, which may be a register's, into memory."""
        return self._add(_Op.PUT, (address, value, size), what="put")

    def peek(self, address: int, size: int) -> Answer:
        """Read memory."""
        return self._add(_Op.PEEK, (address, size), what="peek")

    def load(self, address: int, into: int) -> Answer:
        """Read an int into a register."""
        return self._add(_Op.LOAD, (address,), into=into, what="load")

    def set(self, register: int, value: int) -> None:
        """Give a register a value."""
        self._add(_Op.SET, (value,), into=register, what="set")

    def take(self, handle: int, fd: int) -> Answer:
        """Let register `handle` have the fd, -1 for any negative one; close the one it had."""
        return self._add(_Op.TAKE, (fd,), into=handle, what="take")

    def close_all(self) -> None:
        """Close what handles have, newest first."""
        self._add(_Op.CLOSE_ALL, (), what="close_all")

    def skip_if(self, value: int, other: int, count: int) -> None:
        """Leave out the next `count` instructions if both are equal."""
        self._add(_Op.SKIP_IF, (value, other, count), what="skip")

    def skip_unless(self, value: int, other: int, count: int) -> None:
        """Leave out the next `count` instructions if they differ."""
        self._add(_Op.SKIP_UNLESS, (value, other, count), what="skip")

    def events(self) -> Answer:
        """What the probes have seen since the last question."""
        return self._add(_Op.EVENTS, (), what="events")

    def child(self, *call: int) -> Answer:
        """A forked child that makes this system call, if one is given, and exits: its result.

        What the call writes, it writes into the child's memory.
        """
        return self._add(_Op.CHILD, call, what="fork")

    def run(self, argv: int, out: int, seconds: int, what: str) -> Answer:
        """Run the program whose argument vector is at `argv`, its output into fd `out`.

        The result is waitpid's status; ETIMEDOUT: it was killed after so many seconds.
        """
        return self._add(_Op.RUN, (argv, out, seconds), what=what)

    def request(self, start: int, room: int) -> tuple[int, bytes]:
        """From instruction `start`, as many as fit into `room` bytes: how many, and the bytes."""
        parts: list[bytes] = []
        for _, encoded, _ in self._instructions[start:]:
            room -= len(encoded)
            if room < 0:
                break
            parts.append(encoded)
        if not parts:
            raise ValueError(f"{self.what(start)} does not fit into the channel")
        return len(parts), b"".join(parts)

    def answered(self, start: int, count: int, answers: memoryview) -> None:
        """Take the answers of `count` instructions from `start`."""
        at = 0
        for op, _, answer in self._instructions[start : start + count]:
            at += answer._read(op, answers[at:])  # noqa: SLF001 - an Answer is filled here only

    def what(self, position: int) -> str:
        """What an instruction does, in a word or two."""
        return self._instructions[position][2].what if position < len(self) else "nothing"

    def _add(
        self,
        op: _Op,
        arguments: tuple[int, ...],
        *,
        into: int | None = None,
        blob: bytes = b"",
        what: str,
    ) -> Answer:
        registers = sum(isinstance(a, Register) << i for i, a in enumerate(arguments))
        register = _NO_REGISTER if into is None else into
        encoded = _HEAD.pack(op, len(arguments), register, registers, 0)
        encoded += struct.pack(f"<{len(arguments)}Q", *(a & _WORD for a in arguments)) + blob
        answer = Answer(what)
        self._instructions.append((op, encoded, answer))
        return answer
