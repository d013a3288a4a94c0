# SPDX-License-Identifier: GPL-2.0-only
"""The requests that Linux answers before a file is asked (fs/ioctl.c, do_vfs_ioctl).

Rule of this file: only what holds for every file that is not a regular file. The file itself never
sees these numbers, so a device with "no such ioctl" still answers them.
"""

from __future__ import annotations

from errno import EFAULT, ENOTTY
from typing import TYPE_CHECKING

from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.ioctl import Argument, IoctlTable, Row
from kvm_vfio.uapi.layout import INT32, Request

if TYPE_CHECKING:
    from kvm_vfio.kernel.file import File
    from kvm_vfio.kernel.task import Task

FIGETBSZ = Request(0x2, "FIGETBSZ", INT32)
FIONBIO = Request(0x5421, "FIONBIO", INT32)
FIONCLEX = Request(0x5450, "FIONCLEX")
FIOCLEX = Request(0x5451, "FIOCLEX")
FIOASYNC = Request(0x5452, "FIOASYNC", INT32)


_BLOCK_SIZE = 4096  # of anonymous inodes and of /dev


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


VFS_IOCTLS = IoctlTable(
    Row(FIGETBSZ, _block_size, Argument.FIXED, errnos=(EFAULT,)),
    Row(FIONBIO, _read_flag, Argument.FIXED, errnos=(EFAULT,)),
    Row(FIOASYNC, _fasync, Argument.FIXED, errnos=(EFAULT, ENOTTY)),
    Row(FIOCLEX, _close_on_exec, Argument.VALUE),
    Row(FIONCLEX, _close_on_exec, Argument.VALUE),
)
