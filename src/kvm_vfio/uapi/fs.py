# SPDX-License-Identifier: GPL-2.0-only
"""linux/fs.h and asm-generic/ioctls.h: the requests that any file may be asked."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from kvm_vfio.uapi.layout import INT32, Layout, Request, s64, u16, u32, u64


class file_clone_range(NamedTuple):
    """FICLONERANGE: which file, from where, how many bytes, to where."""

    src_fd: s64
    src_offset: u64
    src_length: u64
    dest_offset: u64


class file_dedupe_range(NamedTuple):
    """FIDEDUPERANGE, up to its targets."""

    src_offset: u64
    src_length: u64
    dest_count: u16
    reserved1: u16
    reserved2: u32


class fsxattr(NamedTuple):
    """FS_IOC_FSSETXATTR."""

    fsx_xflags: u32
    fsx_extsize: u32
    fsx_nextents: u32
    fsx_projid: u32
    fsx_cowextsize: u32
    fsx_pad: Annotated[bytes, "8s"]


FILE_CLONE_RANGE = Layout(file_clone_range, size=32)
FILE_DEDUPE_RANGE = Layout(file_dedupe_range, size=24)
FSXATTR = Layout(fsxattr, size=28)


FIGETBSZ = Request(0x2, "FIGETBSZ", INT32)
FIONBIO = Request(0x5421, "FIONBIO", INT32)
FIONCLEX = Request(0x5450, "FIONCLEX")
FIOCLEX = Request(0x5451, "FIOCLEX")
FIOASYNC = Request(0x5452, "FIOASYNC", INT32)
FIOQSIZE = Request(0x5460, "FIOQSIZE")
FICLONE = Request(0x4004_9409, "FICLONE")
FICLONERANGE = Request(0x4020_940D, "FICLONERANGE", FILE_CLONE_RANGE)
FS_IOC_SETFLAGS = Request(0x4008_6602, "FS_IOC_SETFLAGS", INT32)
FS_IOC_FSSETXATTR = Request(0x401C_5820, "FS_IOC_FSSETXATTR", FSXATTR)
FS_IOC_GETFSUUID = Request(0x8011_1500, "FS_IOC_GETFSUUID")
FS_IOC_GETFSSYSFSPATH = Request(0x8081_1501, "FS_IOC_GETFSSYSFSPATH")
FIFREEZE = Request(0xC004_5877, "FIFREEZE")
FITHAW = Request(0xC004_5878, "FITHAW")
FIDEDUPERANGE = Request(0xC018_9436, "FIDEDUPERANGE", FILE_DEDUPE_RANGE)
FS_IOC_FIEMAP = Request(0xC020_660B, "FS_IOC_FIEMAP")
