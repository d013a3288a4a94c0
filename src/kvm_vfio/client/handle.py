# SPDX-License-Identifier: GPL-2.0-only
"""One open file, with an owner.

Rule of this file: it can pass a structure to an ioctl and back, and knows no ioctl in particular.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from kvm_vfio.syscalls import Buffer, Syscalls
from kvm_vfio.uapi.layout import Layout, Request

Fields = TypeVar("Fields", bound=tuple[Any, ...])


class HasFileno(Protocol):
    """An object with an fd: those of this package, a socket, a Python file."""

    def fileno(self) -> int: ...


Fd = int | HasFileno
"""An fd by its number, or an object that has one."""


def fd_of(file: Fd) -> int:
    """The number."""
    return file if isinstance(file, int) else file.fileno()


class Handle:
    """An open file that this object owns: closing the object closes the fd.

    One object serves one thread at a time: its calls share a piece of user memory. After `close`
    the fd is -1, so that a later call gets the kernel's own EBADF.
    """

    def __init__(self, syscalls: Syscalls, fd: int) -> None:
        self.syscalls = syscalls
        self._fd = fd
        self._memory: Buffer | None = None

    def fileno(self) -> int:
        """The fd, -1 when closed."""
        return self._fd

    def close(self) -> None:
        """close(2); does nothing the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self.syscalls.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} fd {self._fd}>"

    def _ioctl(self, request: Request, arg: int | Buffer = 0) -> int:
        return self.syscalls.ioctl(self._fd, request, arg)

    def _pass(self, request: Request, data: bytes) -> bytes:
        """Call `request` with the address of `data`; what is there afterwards."""
        memory = self._memory
        if memory is None or len(memory) < len(data):
            memory = self._memory = self.syscalls.buffer(max(len(data), 64))
        memory.write(data)
        self.syscalls.ioctl(self._fd, request, memory)
        return memory.read(len(data))

    def _exchange(self, request: Request, layout: Layout[Fields], fields: Fields) -> Fields:
        """Call `request` with a structure; the structure afterwards."""
        return layout.unpack(self._pass(request, layout.pack(fields)))
