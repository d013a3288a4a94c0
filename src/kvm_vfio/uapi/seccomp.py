# SPDX-License-Identifier: GPL-2.0-only
"""linux/seccomp.h and the headers beside it: what standing between a program and Linux takes.

Rule of this file: everything that depends on the architecture is in the tables at its end, whose
keys are the names that uname(2) gives. A structure inside another is laid out flat.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from kvm_vfio.uapi.layout import Layout, iow, iowr, s32, s64, u8, u16, u32, u64

# -- linux/seccomp.h: setting a filter ------------------------------------------------------------

SECCOMP_MODE_FILTER = 2
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_GET_NOTIF_SIZES = 3

SECCOMP_FILTER_FLAG_TSYNC = 1 << 0
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_FILTER_FLAG_TSYNC_ESRCH = 1 << 4  # with TSYNC and NEW_LISTENER together
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 1 << 5  # with NEW_LISTENER; Linux 5.19

# What a filter answers: an action above, 16 bits of data below.
SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_KILL_THREAD = 0x00000000
SECCOMP_RET_TRAP = 0x00030000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_TRACE = 0x7FF00000
SECCOMP_RET_LOG = 0x7FFC0000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ACTION_FULL = 0xFFFF0000
SECCOMP_RET_DATA = 0x0000FFFF


class seccomp_data(NamedTuple):
    """What a filter sees: `nr` of the call, AUDIT_ARCH_* in `arch`, six raw arguments."""

    nr: s32
    arch: u32
    instruction_pointer: u64
    arg0: u64
    arg1: u64
    arg2: u64
    arg3: u64
    arg4: u64
    arg5: u64


SECCOMP_DATA = Layout(seccomp_data, size=64)

# -- linux/seccomp.h: notifications ---------------------------------------------------------------


class seccomp_notif_sizes(NamedTuple):
    """What SECCOMP_GET_NOTIF_SIZES answers: how big the running kernel's structures are."""

    seccomp_notif: u16
    seccomp_notif_resp: u16
    seccomp_data: u16


class seccomp_notif(NamedTuple):
    """One call that waits for an answer. `pid` is the *thread* id; then the seccomp_data."""

    id: u64
    pid: u32
    flags: u32
    nr: s32
    arch: u32
    instruction_pointer: u64
    arg0: u64
    arg1: u64
    arg2: u64
    arg3: u64
    arg4: u64
    arg5: u64


class seccomp_notif_resp(NamedTuple):
    """The answer: `error` is a negative errno and wins over `val`."""

    id: u64
    val: s64
    error: s32
    flags: u32


class seccomp_notif_addfd(NamedTuple):
    """Put our `srcfd` into the caller, at `newfd` with FLAG_SETFD, else at the lowest free."""

    id: u64
    flags: u32
    srcfd: u32
    newfd: u32
    newfd_flags: u32


class seccomp_notif_id(NamedTuple):
    """The u64 that ID_VALID points to."""

    id: u64


SECCOMP_NOTIF_SIZES = Layout(seccomp_notif_sizes, size=6)
SECCOMP_NOTIF = Layout(seccomp_notif, size=80)
SECCOMP_NOTIF_RESP = Layout(seccomp_notif_resp, size=24)
SECCOMP_NOTIF_ADDFD = Layout(seccomp_notif_addfd, size=24)
SECCOMP_NOTIF_ID = Layout(seccomp_notif_id, size=8)

SECCOMP_USER_NOTIF_FLAG_CONTINUE = 1 << 0
SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP = 1 << 0
SECCOMP_ADDFD_FLAG_SETFD = 1 << 0
SECCOMP_ADDFD_FLAG_SEND = 1 << 1

SECCOMP_IOC_MAGIC = ord("!")
SECCOMP_IOCTL_NOTIF_RECV = iowr("SECCOMP_IOCTL_NOTIF_RECV", SECCOMP_IOC_MAGIC, 0, SECCOMP_NOTIF)
SECCOMP_IOCTL_NOTIF_SEND = iowr(
    "SECCOMP_IOCTL_NOTIF_SEND", SECCOMP_IOC_MAGIC, 1, SECCOMP_NOTIF_RESP
)
SECCOMP_IOCTL_NOTIF_ID_VALID = iow(
    "SECCOMP_IOCTL_NOTIF_ID_VALID", SECCOMP_IOC_MAGIC, 2, SECCOMP_NOTIF_ID
)
SECCOMP_IOCTL_NOTIF_ADDFD = iow(
    "SECCOMP_IOCTL_NOTIF_ADDFD", SECCOMP_IOC_MAGIC, 3, SECCOMP_NOTIF_ADDFD
)
# The flags go by value, whatever the number says of a u64 behind a pointer. Linux 6.6.
SECCOMP_IOCTL_NOTIF_SET_FLAGS = iow(
    "SECCOMP_IOCTL_NOTIF_SET_FLAGS", SECCOMP_IOC_MAGIC, 4, SECCOMP_NOTIF_ID
)

# -- linux/filter.h, linux/bpf_common.h: classic BPF ----------------------------------------------


class sock_filter(NamedTuple):
    """One instruction; `jt` and `jf` count instructions to skip."""

    code: u16
    jt: u8
    jf: u8
    k: u32


class sock_fprog(NamedTuple):
    """`len` instructions at the user address `filter`."""

    len: u16
    pad: Annotated[bytes, "6s"]
    filter: u64


SOCK_FILTER = Layout(sock_filter, size=8)
SOCK_FPROG = Layout(sock_fprog, size=16)

BPF_LD = 0x00
BPF_ALU = 0x04
BPF_JMP = 0x05
BPF_RET = 0x06
BPF_W = 0x00
BPF_ABS = 0x20
BPF_AND = 0x50
BPF_RSH = 0x70
BPF_JA = 0x00
BPF_JEQ = 0x10
BPF_JGT = 0x20
BPF_JGE = 0x30
BPF_JSET = 0x40
BPF_K = 0x00
BPF_MAXINSNS = 4096

# -- linux/prctl.h, linux/kcmp.h, linux/inotify.h ------------------------------------------------

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

KCMP_FILE = 0
KCMP_VM = 1

IN_CLOSE_WRITE = 0x08
IN_CLOSE_NOWRITE = 0x10
IN_CLOSE = IN_CLOSE_WRITE | IN_CLOSE_NOWRITE
IN_Q_OVERFLOW = 0x4000


class inotify_event(NamedTuple):
    """`len` bytes of name follow."""

    wd: s32
    mask: u32
    cookie: u32
    len: u32


INOTIFY_EVENT = Layout(inotify_event, size=16)

# -- per architecture -----------------------------------------------------------------------------

AUDIT_ARCH_X86_64 = 0xC000003E
AUDIT_ARCH_AARCH64 = 0xC00000B7

AUDIT_ARCH: Mapping[str, int] = {"x86_64": AUDIT_ARCH_X86_64, "aarch64": AUDIT_ARCH_AARCH64}

# x32 calls have the arch of x86-64 and this bit in their number.
X32_SYSCALL_BIT = 0x40000000

# name: x86_64, aarch64 (None: that architecture never had it)
_NUMBERS: Mapping[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "close": (3, 57),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "ioctl": (16, 29),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "mremap": (25, 216),
    "dup": (32, 23),
    "dup2": (33, None),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "fcntl": (72, 25),
    "ftruncate": (77, 46),
    "creat": (85, None),
    "ptrace": (101, 117),
    "prctl": (157, 167),
    "mount": (165, 40),
    "exit_group": (231, 94),
    "inotify_add_watch": (254, 27),
    "openat": (257, 56),
    "newfstatat": (262, 79),
    "unshare": (272, 97),
    "eventfd2": (290, 19),
    "dup3": (292, 24),
    "inotify_init1": (294, 26),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "seccomp": (317, 277),
    "memfd_create": (319, 279),
    "execveat": (322, 281),
    "preadv2": (327, 286),
    "pwritev2": (328, 287),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "close_range": (436, 436),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
}

SYSCALLS: Mapping[str, Mapping[str, int]] = {
    "x86_64": {name: x86_64 for name, (x86_64, _) in _NUMBERS.items()},
    "aarch64": {name: nr for name, (_, nr) in _NUMBERS.items() if nr is not None},
}
