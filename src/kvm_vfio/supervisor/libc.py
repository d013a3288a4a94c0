# SPDX-License-Identifier: GPL-2.0-only
"""System calls that Python has no function for.

Rule of this file: a function has its system call's name, does one thing, and raises OSError.
"""

from __future__ import annotations

import ctypes
import os

from kvm_vfio.uapi.seccomp import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    SECCOMP_GET_NOTIF_SIZES,
    SECCOMP_NOTIF_SIZES,
    SECCOMP_SET_MODE_FILTER,
    SOCK_FPROG,
    SYSCALLS,
    seccomp_notif_sizes,
    sock_fprog,
)

NR = SYSCALLS.get(os.uname().machine, {})

CLONE_NEWNS = 0x0002_0000
CLONE_NEWUSER = 0x1000_0000

MS_RDONLY = 1 << 0
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_REMOUNT = 1 << 5
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_SLAVE = 1 << 19
MNT_DETACH = 1 << 1

RESOLVE_IN_ROOT = 0x10

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def _checked(result: int, path: str | None = None) -> int:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, os.strerror(errno), path)
    return result


def _call(name: str, *args: int | bytes | None) -> int:
    words = (ctypes.c_long(arg) if isinstance(arg, int) else ctypes.c_char_p(arg) for arg in args)
    return _checked(_syscall(ctypes.c_long(NR[name]), *words))


def prctl_subreaper() -> None:
    """PR_SET_CHILD_SUBREAPER: orphans below become our children."""
    _call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def prctl_parent_death(signal: int) -> None:
    """PR_SET_PDEATHSIG: `signal` comes when the parent is gone."""
    _call("prctl", PR_SET_PDEATHSIG, signal, 0, 0, 0)


def prctl_no_new_privs() -> None:
    """PR_SET_NO_NEW_PRIVS: exec gives nothing; without privilege, a filter needs it."""
    _call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def seccomp_notif_size() -> seccomp_notif_sizes:
    """How long the running kernel's structures are. EINVAL: it has no notification."""
    sizes = ctypes.create_string_buffer(SECCOMP_NOTIF_SIZES.size)
    _call("seccomp", SECCOMP_GET_NOTIF_SIZES, 0, ctypes.addressof(sizes))
    return SECCOMP_NOTIF_SIZES.unpack(sizes.raw)


def seccomp_set_mode_filter(flags: int, program: bytes) -> int:
    """Install a filter (instructions of 8 bytes); the listener's fd with NEW_LISTENER."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = ctypes.create_string_buffer(
        SOCK_FPROG.pack(sock_fprog(len(program) // 8, bytes(6), ctypes.addressof(code))),
        SOCK_FPROG.size,
    )
    return _call("seccomp", SECCOMP_SET_MODE_FILTER, flags, ctypes.addressof(fprog))


def unshare(flags: int) -> None:
    """unshare(2)."""
    _call("unshare", flags)


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    """mount(2)."""
    words = [ctypes.c_char_p(os.fsencode(word)) for word in (source, target)]
    words.append(ctypes.c_char_p(kind.encode() if kind else None))
    _checked(
        _libc.mount(*words, ctypes.c_ulong(flags), ctypes.c_char_p(options.encode())), path=target
    )


def umount(target: str, flags: int) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(ctypes.c_char_p(os.fsencode(target)), flags), path=target)


def inotify_init() -> int:
    """inotify_init1(2), not blocking, closed on exec."""
    return _call("inotify_init1", os.O_NONBLOCK | os.O_CLOEXEC)


def inotify_add_watch(fd: int, path: str, mask: int) -> int:
    """inotify_add_watch(2)."""
    return _call("inotify_add_watch", fd, os.fsencode(path), mask)


def kcmp(pid1: int, pid2: int, kind: int, index1: int = 0, index2: int = 0) -> int:
    """kcmp(2): 0 equal, 1 less, 2 greater, 3 unequal."""
    return _call("kcmp", pid1, pid2, kind, index1, index2)


def pidfd_getfd(pidfd: int, fd: int) -> int:
    """pidfd_getfd(2): our own number for another process's file."""
    return _call("pidfd_getfd", pidfd, fd, 0)


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2), without creating anything."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, resolve)
    return _call("openat2", directory, path, ctypes.addressof(how), ctypes.sizeof(how))
