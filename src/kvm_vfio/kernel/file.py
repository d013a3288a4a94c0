# SPDX-License-Identifier: GPL-2.0-only
"""Open files, and the numbers that point at them.

Rule of this file: nothing here knows what a file does, only how long it lives.

An fd is a number in one process's table. What it points at is an *open file description*, Linux's
`struct file`; this is what is shared by dup, by fork and by passing an fd over a socket, and this
is what kernel objects hold. Closing a number drops one reference; only the last drop releases the
file, and a released file drops what it held in turn. So "is this fd the member?" is always a
question about files, never about numbers, and a group fd that was closed can live on for as long
as a KVM-VFIO device or a device fd holds its file.

Who holds whom (-> "holds a reference on"):

    fd -> file                       a device fd's file -> the VM
    KVM-VFIO device -> member file   a VFIO device fd's file -> the group's file (from 5.19)
    vfio_group -> container          a first-opened VFIO device -> the VM (from 6.2)
"""

from __future__ import annotations

from errno import EAGAIN, EBADF, EINVAL, ENODEV, ENOTTY, ESPIPE
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import IoctlTable, Row
from kvm_vfio.kernel.vfs import VFS_IOCTLS
from kvm_vfio.uapi.fcntl import O_RDWR

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task


_COUNTER = 8
_COUNTER_MAX = (1 << 64) - 1
_NUMBER = 0xFFFF_FFFF  # a request is an unsigned int


class Mapping(Protocol):
    """What a file's mmap gives: bytes that live as long as somebody maps them."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: slice, /) -> Any: ...  # noqa: ANN401  # bytes or a view
    def __setitem__(self, index: slice, value: bytes, /) -> None: ...


class File:
    """One open file description. It is born with one reference, its creator's."""

    __slots__ = ("access", "label", "references")

    kind: ClassVar[str] = "file"  # as a person would name it
    link: ClassVar[str] = ""  # what /proc/PID/fd/N shows
    mount: ClassVar[str] = "anon_inode"  # the file system it is in
    ioctls: ClassVar[IoctlTable] = IoctlTable()
    # What any request can be refused with, before a row is found for it or because there is none.
    ioctl_errnos: ClassVar[tuple[int, ...]] = (ENOTTY,)
    positional: ClassVar[bool] = False  # pread(2) and pwrite(2) get as far as the file

    def __init__(self) -> None:
        self.references = 1
        self.label: Any = None  # what an observer knows it by; nothing here reads it
        self.access = O_RDWR  # the access mode of the open that made it

    def require(self, *modes: int) -> None:
        """EBADF unless it was opened in one of these access modes."""
        if self.access not in modes:
            raise KernelError(EBADF, f"{self.name} was not opened for that")

    @property
    def name(self) -> str:
        """Which one it is, for people."""
        return self.kind

    @property
    def filesystem(self) -> str:
        """Which file system it is in: files can be cloned within one only."""
        return self.mount

    def get(self) -> None:
        """get_file: one more reference."""
        self.references += 1

    def put(self) -> None:
        """fput: one reference less; the last one releases the file."""
        self.references -= 1
        if self.references == 0:
            self.release()

    def release(self) -> None:
        """What the last put does. Drop what this file held, in the kernel's order."""

    @classmethod
    def tables(cls) -> tuple[IoctlTable, ...]:
        """Every table that has requests of such a file, in the order in which they are asked."""
        return VFS_IOCTLS, cls.ioctls

    @classmethod
    def row(cls, request: int) -> Row | None:
        """The row that answers `request` on such a file."""
        rows = (table.by_number.get(request & _NUMBER) for table in cls.tables())
        return next((row for row in rows if row is not None), None)

    @classmethod
    def documented(cls, request: int) -> tuple[int, ...]:
        """The errnos that `request` on such a file can be refused with, in any kernel."""
        row = cls.row(request)
        return cls.ioctl_errnos + (row.errnos if row else ())

    def ioctl(self, task: Task, request: int, arg: int) -> int:
        """ioctl(2) on this file: the requests of the VFS first, then the file's own."""
        request &= _NUMBER
        handler = VFS_IOCTLS.handlers.get(request)
        if handler is not None:
            return handler(self, task, arg)
        return self.unlocked_ioctl(task, request, arg)

    def unlocked_ioctl(self, task: Task, request: int, arg: int) -> int:
        """The file's own requests. ENOTTY for what its table does not have."""
        handler = self.ioctls.handlers.get(request)
        if handler is None:
            raise KernelError(ENOTTY, f"{self.kind} has no ioctl {request:#010x}")
        return handler(self, task, arg)

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        """read(2) and, with an offset, pread(2). ESPIPE; EINVAL: there is nothing to read."""
        self._refuse_position(offset)
        raise KernelError(EINVAL, f"{self.kind} cannot be read")

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        """write(2) and, with an offset, pwrite(2). ESPIPE; EINVAL: these files take no data."""
        self._refuse_position(offset)
        raise KernelError(EINVAL, f"{self.kind} cannot be written")

    def _refuse_position(self, offset: int | None) -> None:
        if offset is not None and not self.positional:
            raise KernelError(ESPIPE, f"{self.kind} has no position")

    def lseek(self, offset: int) -> int:
        """lseek(2). ESPIPE: these files have no position."""
        raise KernelError(ESPIPE, f"{self.kind} has no position")

    def takes_data(self, size: int, offset: int) -> bool:
        """Whether pwrite(2) reads the caller's memory; KernelError for what it refuses before."""
        return True

    def mmap(
        self, task: Task, size: int, offset: int, *, writable: bool, executable: bool = False
    ) -> Mapping:
        """mmap(2). ENODEV: most of these files cannot be mapped."""
        raise KernelError(ENODEV, f"{self.kind} cannot be mapped")


class OtherFile(File):
    """A file that is none of ours: a pipe, a socket, a regular file. Only its identity matters."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    @property
    def name(self) -> str:
        """What it was opened as."""
        return self._name

    @property
    def filesystem(self) -> str:
        """/dev, or one that nothing else is in."""
        return "/dev" if self._name.startswith("/dev/") else f"that of {self._name}"


class PathOnlyFile(OtherFile):
    """A file opened with O_PATH: an fd is taken, and every call but close and dup is EBADF."""

    __slots__ = ()


class Waiter(Protocol):
    """Who waits in an eventfd's wait queue."""

    def woken(self) -> None:
        """The eventfd has been signalled (EPOLLIN)."""

    def hung_up(self) -> None:
        """Its file is released (EPOLLHUP): nobody has an fd for it any more."""


class EventFile(File):
    """An eventfd: a counter that a signal adds 1 to and a read takes to 0.

    Who is to signal it, or waits for that, holds the counter (`hold`) and not the file: it goes on
    counting when nobody has an fd for it any more.
    """

    __slots__ = ("count", "holders", "waiters")
    kind = "an eventfd"
    link = "anon_inode:[eventfd]"

    def __init__(self, count: int = 0) -> None:
        super().__init__()
        self.count = count
        self.holders = 0
        self.waiters: list[Waiter] = []

    def hold(self) -> None:
        """eventfd_ctx_fileget."""
        self.holders += 1

    def let_go(self) -> None:
        """eventfd_ctx_put."""
        self.holders -= 1

    def release(self) -> None:
        """eventfd_release: tell those who wait."""
        for waiter in self.waiters.copy():
            waiter.hung_up()

    def signal(self) -> None:
        """eventfd_signal, by whoever holds the eventfd."""
        self._add(1)

    def _add(self, count: int) -> None:
        self.count = min(self.count + count, _COUNTER_MAX)
        for waiter in self.waiters:
            waiter.woken()

    def take(self) -> None:
        """eventfd_ctx_do_read: to 0."""
        self.count = 0

    def is_signalled(self) -> bool:
        """Whether a read would not wait."""
        return self.count > 0

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        """The counter, 8 bytes. EINVAL: too few bytes asked; EAGAIN: nothing has been signalled."""
        self._refuse_position(offset)
        if size < _COUNTER:
            raise KernelError(EINVAL, "an eventfd is read in 8 bytes")
        if not self.count:
            raise KernelError(EAGAIN, "the eventfd has not been signalled")
        count, self.count = self.count, 0
        return count.to_bytes(_COUNTER, "little")

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        """Add 8 bytes' worth to the counter. EINVAL; EAGAIN: it would reach all ones."""
        self._refuse_position(offset)
        if len(data) < _COUNTER or data[:_COUNTER] == b"\xff" * _COUNTER:
            raise KernelError(EINVAL, "an eventfd takes 8 bytes, and not all ones")
        count = int.from_bytes(data[:_COUNTER], "little")
        if self.count + count >= _COUNTER_MAX:
            raise KernelError(EAGAIN, "the eventfd is full")
        self._add(count)
        return _COUNTER


class FdTable:
    """The numbers of one process. A new one is always the lowest that is free."""

    __slots__ = ("_end", "_files", "_free", "_usable", "get")

    def __init__(self) -> None:
        self._files: dict[int, File] = {}
        self._usable: dict[int, File] = {}  # those not opened with O_PATH
        self._free: list[int] = []  # a heap: the numbers below `_end` that are free
        self._end = 0
        self.get = self._usable.get  # `Files.get`, which every call begins with

    def peek(self, fd: int) -> File | None:
        """The file behind `fd`, opened with O_PATH or not."""
        return self._files.get(fd)

    def install(self, file: File) -> int:
        """Give `file` a number. The caller's reference goes to the table."""
        if self._free:
            fd = heappop(self._free)
        else:
            fd, self._end = self._end, self._end + 1
        self._put(fd, file)
        return fd

    def _put(self, fd: int, file: File) -> None:
        self._files[fd] = file
        if not isinstance(file, PathOnlyFile):
            self._usable[fd] = file

    def remove(self, fd: int) -> File | None:
        """Take the number away; the table's reference goes to the caller."""
        file = self._files.pop(fd, None)
        if file is not None:
            self._usable.pop(fd, None)
            heappush(self._free, fd)
        return file

    def copy(self) -> FdTable:
        """fork: the same files under the same numbers."""
        other = FdTable()
        for fd, file in self._files.items():
            file.get()
            other._put(fd, file)
        other._free, other._end = self._free.copy(), self._end
        return other

    def numbers(self) -> list[int]:
        """Every number in use, ascending."""
        return sorted(self._files)
