# SPDX-License-Identifier: GPL-2.0-only
"""A process of a script on the model, with the ordinary files that a script can open.

Rule of this file: what is in a file, and nothing of KVM or VFIO. These files are here so that a
script can offer the devices something else; what they answer was measured in the guests.
"""

from __future__ import annotations

from collections.abc import Callable
from errno import EAGAIN, EINVAL, EISDIR, ENODEV, ENOENT, ENOTCONN, EPIPE
from typing import TYPE_CHECKING

from kvm_vfio.client.in_process import OUR_NODES, ModelSyscalls, answering
from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File, Mapping, OtherFile, PathOnlyFile
from kvm_vfio.syscalls import Buffer
from kvm_vfio.uapi.fcntl import O_ACCMODE, O_CREAT, O_PATH, O_RDONLY, O_WRONLY
from kvm_vfio.uapi.fs import FIGETBSZ, FIOCLEX, FIONBIO, FIONCLEX
from kvm_vfio.uapi.kvm import KVMIO
from kvm_vfio.uapi.vfio import VFIO_TYPE

if TYPE_CHECKING:
    from kvm_vfio.kernel.task import Task

_DIRECTORIES = frozenset({"/", "/dev", "/dev/vfio", "/proc", "/sys", "/tmp"})  # noqa: S108 - a name
_SCRATCH = "/tmp/"  # noqa: S108 - where mkfile makes files; on no disk
_NUMBER = 0xFFFF_FFFF
_TCGETS = 0x5401
_OF_EVERY_FILE = frozenset({0, _NUMBER, _TCGETS, FIGETBSZ, FIONBIO, FIOCLEX, FIONCLEX})
_OF_DEVICES = (VFIO_TYPE, KVMIO)


class _OrdinaryFile(OtherFile):
    """A file with content: it knows requests of its own, and none of a device's."""

    __slots__ = ()

    def ioctl(self, task: Task, request: int, arg: int) -> int:
        """ENOTTY for a device's request. NotModelled for one that a file system may answer."""
        request &= _NUMBER
        if request not in _OF_EVERY_FILE and request >> 8 & 0xFF not in _OF_DEVICES:
            raise NotModelled(f"ioctl {request:#010x} on {self.name} is not modelled")
        return super().ioctl(task, request, arg)


class _NullFile(_OrdinaryFile):
    __slots__ = ()

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        return b""

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        return len(data)


class _ZeroFile(_NullFile):
    __slots__ = ()

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        return bytes(size)

    def mmap(
        self, task: Task, size: int, offset: int, *, writable: bool, executable: bool = False
    ) -> Mapping:
        return bytearray(size)


class _RegularFile(_OrdinaryFile):
    """A file with content, shared by all who open its name; the position is the opener's own."""

    __slots__ = ("_content", "_position")

    def __init__(self, name: str, content: bytearray) -> None:
        super().__init__(name)
        self._content = content
        self._position = 0

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        at = self._position if offset is None else offset
        data = bytes(self._content[at : at + size])
        if offset is None:
            self._position += len(data)
        return data

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        at = self._position if offset is None else offset
        self._content.extend(bytes(max(at - len(self._content), 0)))
        self._content[at : at + len(data)] = data
        if offset is None:
            self._position += len(data)
        return len(data)

    def mmap(
        self, task: Task, size: int, offset: int, *, writable: bool, executable: bool = False
    ) -> Mapping:
        return bytearray(size)  # of a new file every page is a hole; no script looks into it


class _Pipe:
    """What both ends share. Neither end waits (O_NONBLOCK)."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.readers = self.writers = 1


class _PipeReader(_OrdinaryFile):
    __slots__ = ("_pipe",)

    def __init__(self, pipe: _Pipe) -> None:
        super().__init__("a pipe")
        self.access = O_RDONLY
        self._pipe = pipe

    def release(self) -> None:
        self._pipe.readers -= 1

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        self._refuse_position(offset)
        if not self._pipe.content and self._pipe.writers:
            raise KernelError(EAGAIN, "the pipe is empty")
        data = bytes(self._pipe.content[:size])
        del self._pipe.content[:size]
        return data


class _PipeWriter(_OrdinaryFile):
    __slots__ = ("_pipe",)

    def __init__(self, pipe: _Pipe) -> None:
        super().__init__("a pipe")
        self.access = O_WRONLY
        self._pipe = pipe

    def release(self) -> None:
        self._pipe.writers -= 1

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        self._refuse_position(offset)
        if not self._pipe.readers:
            raise KernelError(EPIPE, "nobody can read the pipe any more")
        self._pipe.content += data
        return len(data)


class _Socket(_OrdinaryFile):
    """A stream socket that is connected to nothing."""

    __slots__ = ()

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        self._refuse_position(offset)
        raise KernelError(EINVAL, "the socket is not connected")

    def write(self, task: Task, data: bytes, offset: int | None) -> int:
        self._refuse_position(offset)
        raise KernelError(ENOTCONN, "the socket is not connected")


class _Directory(_OrdinaryFile):
    __slots__ = ()

    def read(self, task: Task, size: int, offset: int | None) -> bytes:
        raise KernelError(EISDIR, f"{self.name} is a directory")

    def mmap(
        self, task: Task, size: int, offset: int, *, writable: bool, executable: bool = False
    ) -> Mapping:
        raise KernelError(ENODEV, f"{self.name} is a directory")


class ScriptProcess(ModelSyscalls):
    """A process on a model kernel, in a file system with next to nothing in it."""

    _scratch: dict[str, bytearray] | None = None
    asked: Callable[[File, int, int], None] | None = None
    """Hears of every ioctl: the file, the request, the errno or 0."""

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        """ioctl(2)."""
        file, errno = self.files.get(fd), 0
        try:
            return super().ioctl(fd, request, arg)
        except OSError as error:
            errno = error.errno or 0
            raise
        finally:
            if file is not None and self.asked is not None:
                self.asked(file, request, errno)

    def open(self, path: str, flags: int) -> int:
        """open(2): a device node of the machine, or an ordinary file. ENOENT, EISDIR."""
        if path.startswith(OUR_NODES) and path not in _DIRECTORIES:
            return super().open(path, flags)
        with answering(f"open {path}"):
            return self.files.install(self._ordinary(path, flags))

    def _ordinary(self, path: str, flags: int) -> File:
        if path in _DIRECTORIES:
            if not flags & O_PATH and (flags & O_ACCMODE != O_RDONLY or flags & O_CREAT):
                raise KernelError(EISDIR, f"{path} is a directory")
            file: File = _Directory(path)
        elif path in ("/dev/null", "/dev/zero"):
            file = (_NullFile if path == "/dev/null" else _ZeroFile)(path)
        elif path.startswith(_SCRATCH):
            file = self._scratch_file(path, create=bool(flags & O_CREAT))
        elif path.startswith("/dev/"):
            raise KernelError(ENOENT, f"{path} is no device node here")
        elif flags & O_CREAT:
            raise NotModelled(f"whether {path} can be made is not modelled")
        else:
            file = OtherFile(path)  # it is there, as for any process on a model
        if flags & O_PATH:
            return PathOnlyFile(path)
        file.access = flags & O_ACCMODE
        return file

    def _scratch_file(self, path: str, *, create: bool) -> File:
        there = self._scratch = self._scratch if self._scratch is not None else {}
        if "/" in path.removeprefix(_SCRATCH):
            raise KernelError(ENOENT, f"there is no directory for {path}")
        if path not in there and not create:
            raise KernelError(ENOENT, f"there is no {path}")
        return _RegularFile(path, there.setdefault(path, bytearray()))

    def pipe(self) -> tuple[int, int]:
        """pipe2(2), O_NONBLOCK."""
        pipe = _Pipe()
        return self.files.install(_PipeReader(pipe)), self.files.install(_PipeWriter(pipe))

    def memfd(self) -> int:
        """memfd_create(2)."""
        return self.files.install(_RegularFile("a memfd", bytearray()))

    def socket(self) -> int:
        """socket(2), AF_UNIX, SOCK_STREAM."""
        return self.files.install(_Socket("a socket"))

    def fork(self) -> ScriptProcess:
        """fork(2): the child has the same file system."""
        child = super().fork()
        child._scratch = self._scratch  # noqa: SLF001 - its own kind
        return child
