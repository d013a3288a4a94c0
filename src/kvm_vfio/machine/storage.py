# SPDX-License-Identifier: GPL-2.0-only
"""A device's data in a file of this computer.

Rule of this file: what the model asks of a storage (`kvm_vfio.kernel.pci.storage`), a file does. It
is read and written where it is, so what was flushed is there after a crash.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
from contextlib import suppress

from kvm_vfio.errors import InputError, StorageError

_ZEROES = bytes(1 << 20)
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_fallocate = ctypes.CDLL(None).fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class FileStorage:
    """All the bytes of an open file, which this object owns."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def __del__(self) -> None:
        with suppress(OSError):
            os.close(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """`Storage.read`."""
        try:
            data = os.pread(self._fd, size, offset)
        except OSError as error:
            raise StorageError(str(error)) from error
        if len(data) < size:
            raise StorageError("the file has become shorter")
        return data

    def write(self, offset: int, data: bytes) -> None:
        """`Storage.write`."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._fd, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise StorageError(str(error)) from error

    def discard(self, offset: int, size: int) -> None:
        """`Storage.discard`: a hole in the file; zeroes, where its file system has no holes."""
        if size and not _fallocate(self._fd, _PUNCH_HOLE | _KEEP_SIZE, offset, size):
            return
        while size:
            length = min(size, len(_ZEROES))
            self.write(offset, _ZEROES[:length])
            offset, size = offset + length, size - length

    def flush(self) -> None:
        """`Storage.flush`."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            raise StorageError(str(error)) from error


def open_storage(path: str) -> FileStorage:
    """The file at `path`, for one kernel at a time. InputError, with the reason and the remedy."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        reason = error.strerror or "it cannot be opened"
        raise InputError(
            f"{path}: {reason[0].lower()}{reason[1:]}; name a file that can be written"
        ) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{path}: this is no regular file; make one, with truncate --size=64M")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise InputError(f"{path}: another device keeps its data there; name another") from None
    return FileStorage(fd)
