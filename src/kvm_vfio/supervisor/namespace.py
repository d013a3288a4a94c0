# SPDX-License-Identifier: GPL-2.0-only
"""The program's own /dev and /sys, in namespaces that end with it.

Rule of this file: it changes nothing that anybody else can see, and undoes nothing: the kernel does
when the last process of the namespace is gone.

Root needs a mount namespace only. Anybody else makes a user namespace to be allowed one, in which
user and group keep their numbers.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from kvm_vfio.errors import Unsupported
from kvm_vfio.supervisor.libc import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MNT_DETACH,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SLAVE,
    mount,
    umount,
    unshare,
)
from kvm_vfio.supervisor.tree import Blank, Directory, Link, Node, NodeOfDevice

_TMPFS = MS_NOSUID | MS_NODEV | MS_NOEXEC


def private(dev: Directory, sys: Directory) -> list[int]:
    """Go where /dev and /sys are the program's own. Unsupported.

    Two fds: a directory for unnamed files that nothing can reach by a path, and the new /dev.
    """
    enter()
    try:
        directory = directory_for_files()
        cover("/dev", dev, read_only=False)
        cover("/sys", sys, read_only=True)
        return [directory, os.open("/dev", os.O_PATH | os.O_DIRECTORY)]
    except OSError as error:
        raise Unsupported(_why_forbidden(error)) from error


def enter() -> None:
    """Go into a mount namespace of our own, where nothing we mount is seen outside. Unsupported."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        if uid != 0 or not _unshared(CLONE_NEWNS):
            unshare(CLONE_NEWUSER | CLONE_NEWNS)
            Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1", encoding="ascii")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1", encoding="ascii")
        mount("none", "/", None, MS_REC | MS_SLAVE)
    except OSError as error:
        raise Unsupported(_why_forbidden(error)) from error


def _unshared(flags: int) -> bool:
    try:
        unshare(flags)
    except PermissionError:  # root in a container, often
        return False
    return True


# What forbids user namespaces, the value with which it does, and what allows them.
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("user/max_user_namespaces", "0", "10000"),
    ("user/max_mnt_namespaces", "0", "10000"),
)


def _why_forbidden(error: OSError) -> str:
    for name, forbids, allows in _SWITCHES:
        with suppress(OSError):
            if Path("/proc/sys", name).read_text(encoding="ascii").strip() == forbids:
                setting = name.replace("/", ".")
                return (
                    "this computer does not let you make user namespaces; as root:"
                    f" sysctl {setting}={allows}"
                )
    return (
        f"a private /dev and /sys cannot be made here ({error}); run as root, outside a container"
    )


def directory_for_files() -> int:
    """An fd of a directory on a tmpfs that is mounted nowhere; its name is nobody else's."""
    # Without MS_NOEXEC: where Linux maps a device to execute, so must its file here.
    mount("tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    path = f"/dev/kvm-vfio-{secrets.token_hex(8)}"
    os.mkdir(path)
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY)
    umount("/dev", MNT_DETACH)
    return directory


def cover(path: str, tree: Directory, *, read_only: bool) -> None:
    """Put `tree` in the place of the directory `path`, whose other entries stay visible."""
    old = os.open(path, os.O_PATH | os.O_DIRECTORY)
    mount("tmpfs", path, "tmpfs", _TMPFS, "mode=755")
    _fill(path, tree, old)
    os.close(old)
    if read_only:
        mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | _TMPFS)


def _fill(path: str, tree: Directory, old: int | None) -> None:
    if old is not None and not tree.whole:
        with os.scandir(f"/proc/self/fd/{old}") as entries:
            for entry in entries:
                if entry.name not in tree:
                    _show(entry, f"{path}/{entry.name}")
    for name, node in tree.items():
        _make(f"{path}/{name}", name, node, old)


def _show(entry: os.DirEntry[str], path: str) -> None:
    """Let what the covered directory has show through."""
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), path)
    elif entry.is_dir():
        os.mkdir(path)
        mount(entry.path, path, None, MS_BIND | MS_REC)
    else:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        mount(entry.path, path, None, MS_BIND)


def _make(path: str, name: str, node: Node, old: int | None) -> None:
    match node:
        case Directory():
            os.mkdir(path)
            below = _directory(name, old)
            _fill(path, node, below)
            if below is not None:
                os.close(below)
        case Link():
            os.symlink(node.target, path)
        case NodeOfDevice():
            # Anybody may make a character device with number 0; opening it fails loudly.
            os.mknod(path, stat.S_IFCHR)
            os.chmod(path, node.mode)
        case Blank():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            os.chmod(path, node.mode)
        case bytes():
            fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o444)
            os.write(fd, node)
            os.close(fd)


def _directory(name: str, old: int | None) -> int | None:
    if old is None:
        return None
    try:
        return os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=old)
    except OSError:
        return None
