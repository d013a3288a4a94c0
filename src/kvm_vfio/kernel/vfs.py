# SPDX-License-Identifier: GPL-2.0-only
"""The requests that Linux answers before a file is asked (fs/ioctl.c, do_vfs_ioctl).

Rule of this file: only what holds for every file that is not a regular file. The file itself never
sees these numbers, so a device with "no such ioctl" still answers them; what is listed with an
errno alone was measured on every kernel there is a recording of.
"""

from __future__ import annotations

from errno import EBADF, EFAULT, EINVAL, EIO, ENOMEM, ENOTTY, EOPNOTSUPP, EXDEV
from typing import TYPE_CHECKING, Final

from kvm_vfio.errors import NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row, Support, not_modelled
from kvm_vfio.uapi.fs import (
    FICLONE,
    FICLONERANGE,
    FIDEDUPERANGE,
    FIFREEZE,
    FIGETBSZ,
    FILE_CLONE_RANGE,
    FILE_DEDUPE_RANGE,
    FIOASYNC,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    FIOQSIZE,
    FITHAW,
    FS_IOC_FIEMAP,
    FS_IOC_FSSETXATTR,
    FS_IOC_GETFSSYSFSPATH,
    FS_IOC_GETFSUUID,
    FS_IOC_SETFLAGS,
    FSXATTR,
)
from kvm_vfio.uapi.layout import INT32

if TYPE_CHECKING:
    from kvm_vfio.kernel.file import File
    from kvm_vfio.kernel.ioctl import Handler
    from kvm_vfio.kernel.task import Task

_BLOCK_SIZE = 4096  # of anonymous inodes and of /dev
_DEDUPE_TARGET = 32  # bytes of each target that follows a file_dedupe_range
_DEDUPE_LIMIT = 4096  # bytes of it all: a page
DEV: Final = "/dev"


def _block_size(file: File, task: Task, arg: int) -> int:
    task.copy_to_user(arg, INT32.pack(INT32.type(_BLOCK_SIZE)))
    return 0


def _read_flag(file: File, task: Task, arg: int) -> int:
    task.copy_from_user(arg, INT32.size)
    return 0


def _close_on_exec(file: File, task: Task, arg: int) -> int:
    return 0


def _fasync(file: File, task: Task, arg: int) -> int:
    if INT32.unpack(task.copy_from_user(arg, INT32.size)).value:
        raise KernelError(ENOTTY, f"{file.kind} sends no signals")
    return 0


def _always(errno: int, why: str) -> Handler:
    def refuse(file: File, task: Task, arg: int) -> int:
        raise KernelError(errno, f"{file.kind} {why}")

    return refuse


def _clone_from(file: File, task: Task, fd: int) -> int:
    source = task.fget(fd)
    if source.filesystem != file.filesystem:
        raise KernelError(EXDEV, f"{source.name} is in another file system")
    raise KernelError(EINVAL, f"{file.kind} is no regular file")


def _clone_range(file: File, task: Task, arg: int) -> int:
    wanted = FILE_CLONE_RANGE.unpack(task.copy_from_user(arg, FILE_CLONE_RANGE.size))
    return _clone_from(file, task, wanted.src_fd)


def _deduplicate(file: File, task: Task, arg: int) -> int:
    count_at = arg + FILE_DEDUPE_RANGE.offsets["dest_count"]
    count = int.from_bytes(task.copy_from_user(count_at, 2), "little")
    size = FILE_DEDUPE_RANGE.size + count * _DEDUPE_TARGET
    if size > _DEDUPE_LIMIT:
        raise KernelError(ENOMEM, f"{count} targets are more than a page of them")
    task.copy_from_user(arg, size)
    raise KernelError(EINVAL, f"{file.kind} is no regular file")


def _set_flags(file: File, task: Task, arg: int) -> int:
    if task.kernel.profile.vfs_sets_file_attributes:
        task.copy_from_user(arg, INT32.size)
    return file.unlocked_ioctl(task, FS_IOC_SETFLAGS, arg)


def _set_xattr(file: File, task: Task, arg: int) -> int:
    if task.kernel.profile.vfs_sets_file_attributes:
        wanted = FSXATTR.unpack(task.copy_from_user(arg, FSXATTR.size))
        if wanted.fsx_xflags > 1 or any(wanted[1:-1]):  # what was measured
            raise NotModelled("FS_IOC_FSSETXATTR with much to set: newer kernels judge it first")
    return file.unlocked_ioctl(task, FS_IOC_FSSETXATTR, arg)


_WHAT_THE_FILE_SAYS = (ENOTTY, EINVAL, EIO)

VFS_IOCTLS = IoctlTable(
    Row(FIGETBSZ, _block_size, Argument.FIXED, errnos=(EFAULT,)),
    Row(FIONBIO, _read_flag, Argument.FIXED, errnos=(EFAULT,)),
    Row(FIOASYNC, _fasync, Argument.FIXED, errnos=(EFAULT, ENOTTY)),
    Row(FIOCLEX, _close_on_exec, Argument.VALUE),
    Row(FIONCLEX, _close_on_exec, Argument.VALUE),
    Row(FIOQSIZE, _always(ENOTTY, "has no size"), Argument.VALUE, errnos=(ENOTTY,)),
    Row(FIFREEZE, _always(EOPNOTSUPP, "cannot freeze"), Argument.VALUE, errnos=(EOPNOTSUPP,)),
    Row(FITHAW, _always(EINVAL, "is not frozen"), Argument.VALUE, errnos=(EINVAL,)),
    Row(FS_IOC_FIEMAP, _always(EOPNOTSUPP, "has no extents"), Argument.VALUE, errnos=(EOPNOTSUPP,)),
    Row(FICLONE, _clone_from, Argument.VALUE, errnos=(EBADF, EXDEV, EINVAL)),
    Row(FICLONERANGE, _clone_range, Argument.FIXED, errnos=(EFAULT, EBADF, EXDEV, EINVAL)),
    Row(FIDEDUPERANGE, _deduplicate, Argument.FIXED, errnos=(EFAULT, ENOMEM, EINVAL)),
    Row(FS_IOC_SETFLAGS, _set_flags, Argument.FIXED, errnos=(EFAULT, *_WHAT_THE_FILE_SAYS)),
    Row(
        FS_IOC_FSSETXATTR,
        _set_xattr,
        Argument.FIXED,
        Support.PARTIAL,
        "only with next to nothing to set",
        errnos=(EFAULT, *_WHAT_THE_FILE_SAYS),
    ),
    not_modelled(FS_IOC_GETFSUUID, Argument.FIXED, "a UUID that is another one at each boot"),
    not_modelled(FS_IOC_GETFSSYSFSPATH, Argument.FIXED, "as FS_IOC_GETFSUUID"),
)
