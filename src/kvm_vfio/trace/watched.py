# SPDX-License-Identifier: GPL-2.0-only
"""What a call read, wrote and looked up: heard where the model does it, so nothing is read twice.

Rule of this file: it repeats what passes and changes none of it. What it keeps is one call's, and
as much as a record can hold.
"""

from __future__ import annotations

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.task import Files, Mm, Task

_LONGEST = 4096  # bytes of one piece
_MOST = 64  # pieces, files


class Seen:
    """Of one call: memory by its address, files by the fd that named them, files that got an fd."""

    __slots__ = ("looked_up", "made", "read", "strings", "written")

    def __init__(self) -> None:
        self.read: dict[int, bytes] = {}
        self.written: dict[int, bytes] = {}
        self.strings: dict[int, bytes] = {}
        self.looked_up: dict[int, File | None] = {}  # None: the number was free
        self.made: list[tuple[int, File]] = []

    def clear(self) -> None:
        """The next call begins."""
        self.read.clear()
        for each in (self.written, self.strings, self.looked_up, self.made):
            if each:
                each.clear()

    def installed(self, file: File, fd: int) -> None:
        """`file` got the number `fd`."""
        if len(self.made) < _MOST:
            self.made.append((fd, file))


class WatchedTask(Task):
    """A task that lets `seen` know."""

    __slots__ = ("_seen",)

    def __init__(
        self,
        kernel: Kernel,
        files: Files,
        mm: Mm,
        *,
        lock_limit: int | None = None,
        seen: Seen,
    ) -> None:
        super().__init__(kernel, files, mm, lock_limit=lock_limit)
        self._seen = seen
        read, write, read_string = mm.read, mm.write, mm.read_string

        def copy_from_user(address: int, size: int) -> bytes:
            data = read(address, size)
            if size <= _LONGEST and len(seen.read) < _MOST:
                seen.read[address] = data
            return data

        def copy_to_user(address: int, data: bytes) -> None:
            write(address, data)
            if len(data) <= _LONGEST and len(seen.written) < _MOST:
                seen.written[address] = data

        def copy_from_user_string(address: int, limit: int) -> bytes:
            text = read_string(address, limit)
            seen.strings[address] = text[:_LONGEST]
            return text

        self.copy_from_user = copy_from_user
        self.copy_to_user = copy_to_user
        self.copy_from_user_string = copy_from_user_string

    def fget(self, fd: int) -> File:
        if len(self._seen.looked_up) < _MOST:
            self._seen.looked_up[fd] = None
        file = super().fget(fd)
        if fd in self._seen.looked_up:
            self._seen.looked_up[fd] = file
        return file
