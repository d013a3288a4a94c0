# SPDX-License-Identifier: GPL-2.0-only
"""What a call read, wrote and looked up: heard where the model does it, so nothing is read twice.

Rule of this file: it repeats what passes and changes none of it. What it keeps is one call's.
"""

from __future__ import annotations

from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.task import Files, Mm, Task

_MOST = 64  # files


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
        self.looked_up.clear()
        if self.written:
            self.written.clear()
        if self.strings:
            self.strings.clear()
        if self.made:
            self.made.clear()

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
        was_read, was_written, strings = seen.read, seen.written, seen.strings

        def copy_from_user(address: int, size: int) -> bytes:
            data = was_read[address] = read(address, size)
            return data

        def copy_to_user(address: int, data: bytes) -> None:
            write(address, data)
            was_written[address] = data

        def copy_from_user_string(address: int, limit: int) -> bytes:
            text = strings[address] = read_string(address, limit)
            return text

        self.copy_from_user = copy_from_user
        self.copy_to_user = copy_to_user
        self.copy_from_user_string = copy_from_user_string

    def fget(self, fd: int) -> File:
        looked_up = self._seen.looked_up
        file = self.files.get(fd)
        if len(looked_up) < _MOST:
            looked_up[fd] = file
        return super().fget(fd) if file is None else file
