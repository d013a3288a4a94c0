# SPDX-License-Identifier: GPL-2.0-only
"""A caller: its files, its memory, what it may do.

Rule of this file: handlers reach user memory and fds through the task that calls, and through
nothing else; what stands behind (an arena in this process, /proc/TID/mem of another) is not theirs
to know.
"""

from __future__ import annotations

from errno import EBADF
from typing import TYPE_CHECKING, Protocol

from kvm_vfio.kernel.error import KernelError

if TYPE_CHECKING:
    from kvm_vfio.kernel.file import File
    from kvm_vfio.kernel.kernel import Kernel


class Pages(Protocol):
    """Pinned memory, by the addresses it had: devices reach it whatever the program does then.

    EFAULT: it cannot be reached any more, which Linux does not know.
    """

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes, all of them in the range."""

    def write(self, address: int, data: bytes) -> None:
        """All of `data`, within the range; with EFAULT, what lies before the fault is written."""


class Mm(Protocol):
    """An address space. Threads share one; a forked child has its own, so identity is the check."""

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes, or KernelError(EFAULT)."""

    def write(self, address: int, data: bytes) -> None:
        """All of `data`, or KernelError(EFAULT)."""

    def read_string(self, address: int, limit: int) -> bytes:
        """The bytes before the first NUL, at most `limit` of them; KernelError(EFAULT)."""

    def pin(self, address: int, size: int, *, write: bool) -> Pages | None:
        """Pin the range for DMA; None unless every page is mapped, and writable if `write`."""


class Files(Protocol):
    """A table of fds."""

    def get(self, fd: int) -> File | None:
        """The file behind `fd`; None for a number that is free, or opened with O_PATH."""

    def install(self, file: File) -> int:
        """Give `file` the lowest free number. EMFILE, ENFILE; the reference goes even then."""


class Task:
    """One thread of a program, as the kernel sees it while it is in a system call.

    `lock_limit` is how many bytes it may lock for DMA (RLIMIT_MEMLOCK), None for no limit
    (CAP_IPC_LOCK).
    """

    __slots__ = (
        "copy_from_user",
        "copy_from_user_string",
        "copy_to_user",
        "files",
        "kernel",
        "lock_limit",
        "mm",
    )

    def __init__(
        self, kernel: Kernel, files: Files, mm: Mm, *, lock_limit: int | None = None
    ) -> None:
        self.kernel = kernel
        self.files = files
        self.mm = mm
        self.lock_limit = lock_limit
        self.copy_from_user = mm.read
        self.copy_from_user_string = mm.read_string
        self.copy_to_user = mm.write

    def fget(self, fd: int) -> File:
        """The file behind `fd`, borrowed for this call. EBADF, also for an O_PATH fd."""
        file = self.files.get(fd)
        if file is None:
            raise KernelError(EBADF, f"fd {fd} is not open")
        return file
