# SPDX-License-Identifier: GPL-2.0-only
"""Our open files inside programs: how they get there, how they are known, how they end.

Rule of this file: a number is never an identity.

Each of our files stands in the program as a file on a tmpfs that is mounted nowhere, under a name
that no other has and that is gone from the directory: the text of its /proc link names it wherever
it has been dup'ed, inherited or passed to. inotify on the directory reports the close of a
description that could write exactly once and by that name, at the *last* close: fork, exec, exit,
SIGKILL, a message on a socket and a mapping all count. A second such description by that name
nobody but root can get, who would have to mean it. The files of one device are one inode, whose
memory its BARs are.

A release is heard of later than it happened, so the model is told of all releases before each call
(`drain`). What a program closes before it calls is then closed for the call.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator
from errno import ENFILE
from fcntl import ioctl
from pathlib import Path
from struct import unpack_from
from termios import FIONREAD

from kvm_vfio.errors import Unsupported
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kvm.stats import StatsFile
from kvm_vfio.kernel.kvm.vcpu import VcpuFile
from kvm_vfio.kernel.vfio.device import VfioDevice, VfioDeviceFile
from kvm_vfio.supervisor.events import ProgramEvents
from kvm_vfio.supervisor.libc import inotify_add_watch, inotify_init
from kvm_vfio.uapi.seccomp import IN_CLOSE_WRITE, INOTIFY_EVENT
from kvm_vfio.uapi.vfio import VFIO_PCI_ROM_REGION_INDEX

_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
_EVENTS_AT_ONCE = 4096
_EVENTS_EACH = 2  # the program's close, and ours of what it maps
_REGION_SHIFT = 40
_DELETED = b" (deleted)"


class OpenFiles:
    """Every file of ours that some program has open, by the text of its /proc link."""

    def __init__(self, directory: int, released: Callable[[File | None], None]) -> None:
        """Unsupported: inotify is used up.

        `directory`: an fd of a directory, on a tmpfs, whose path nothing else has.

        `released` is called with a file that no program has any more before it is put, and with
        None after.
        """
        self.by_link: dict[bytes, File] = {}
        self.handed_out: Counter[str] = Counter()  # by the kind of file
        self.installed: Callable[[File, int], None] | None = None  # hears of a file and its number
        self.events = ProgramEvents()
        self._directory = directory
        self._released = released
        self._links: dict[bytes, bytes] = {}  # by the name in the directory
        self._homes: dict[VfioDevice, str] = {}  # the file of each open device
        self._made = 0
        try:
            self._inotify = inotify_init()
            inotify_add_watch(self._inotify, f"/proc/self/fd/{directory}", IN_CLOSE_WRITE)
        except OSError as error:
            raise Unsupported(
                f"inotify cannot be used ({error.strerror}); end another user of it, or as root:"
                " sysctl fs.inotify.max_user_instances=1024"
            ) from error
        # With no more files than this, inotify's queue holds the end of all of them.
        self._limit = int(_QUEUE.read_text()) // _EVENTS_EACH
        self._pending = bytearray(4)
        self._none = bytes(4)

    def __len__(self) -> int:
        return len(self._links)

    def install(self, file: File, hand_over: Callable[[int], int]) -> int:
        """Open `file` in a program; `hand_over` gives it our fd and returns the program's.

        The reference goes with it, also when it fails. ENFILE.
        """
        try:
            fd = self._stand_in(file)
        except OSError as error:
            file.put()
            raise KernelError(ENFILE, f"no more files can be handed out: {error}") from error
        try:
            self._know(file, fd)
            # If this fails, our own close is the last, and is heard of like any other.
            number = hand_over(fd)
        finally:
            os.close(fd)
        if self.installed is not None:
            self.installed(file, number)
        return number

    def _stand_in(self, file: File) -> int:
        if len(self._links) >= self._limit:
            raise OSError(ENFILE, os.strerror(ENFILE))
        if isinstance(file, VfioDeviceFile):
            return self._opened_again(file.device)
        return os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=self._directory)

    def _opened_again(self, device: VfioDevice) -> int:
        """One more description of a device's one file, under a name that is its own."""
        directory = self._directory
        self._made += 1
        home, name = self._homes.get(device), f"open-{self._made}"
        if home is None:
            home = self._homes[device] = f"device-{self._made}"
            fd = os.open(home, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=directory)
            _share_bars(device, fd)
            os.close(fd)
        os.chmod(home, 0o600, dir_fd=directory)
        os.link(home, name, src_dir_fd=directory, dst_dir_fd=directory)
        fd = os.open(name, os.O_RDWR, dir_fd=directory)
        os.unlink(name, dir_fd=directory)
        return fd

    def _know(self, file: File, fd: int) -> None:
        path = f"/proc/self/fd/{fd}"
        if isinstance(file, VcpuFile):
            _share_run(file, fd, path)
        elif isinstance(file, StatsFile):
            os.write(fd, file.data)
            os.lseek(fd, 0, os.SEEK_SET)
        os.fchmod(fd, 0)
        link = os.readlink(path.encode())
        self._links[os.path.basename(link).removesuffix(_DELETED)] = link
        self.by_link[link] = file
        self.handed_out[file.kind] += 1

    def drain(self) -> None:
        """Let the model know of every release until now."""
        ioctl(self._inotify, FIONREAD, self._pending)
        while self._pending != self._none:
            events = os.read(self._inotify, _EVENTS_AT_ONCE * INOTIFY_EVENT.size)
            for name in _names(events):
                if name in self._links:  # else our own, of memory that we share
                    self._release(self.by_link.pop(self._links.pop(name)))
            ioctl(self._inotify, FIONREAD, self._pending)

    def _release(self, file: File) -> None:
        self._released(file)
        file.put()
        self._released(None)
        if isinstance(file, VfioDeviceFile) and not file.device.open_count:
            os.unlink(self._homes.pop(file.device), dir_fd=self._directory)


def _names(events: bytes) -> Iterator[bytes]:
    """Of the files that events are about."""
    at = 0
    while at < len(events):
        (size,) = unpack_from("=I", events, at + INOTIFY_EVENT.offsets["len"])
        at += INOTIFY_EVENT.size
        yield events[at : at + size].rstrip(b"\0")
        at += size


def _share_run(file: VcpuFile, fd: int, path: str) -> None:
    """Let the vCPU's run structure be the memory that the program gets when it maps this file."""
    vcpu = file.vcpu
    os.write(fd, vcpu.run)
    own = os.open(path, os.O_RDWR)  # not ours to hold: another description of the same file
    vcpu.run = memoryview(mmap.mmap(own, len(vcpu.run)))
    os.close(own)


def _share_bars(device: VfioDevice, fd: int) -> None:
    """Let the model's BARs be the memory that programs get when they map the device's file."""
    end = 0
    for index in filter(device.mappable, range(VFIO_PCI_ROM_REGION_INDEX)):
        size = device.static_bars[index].size
        offset = index << _REGION_SHIFT
        end = max(end, offset + size)
        os.ftruncate(fd, end)
        device.bars[index] = mmap.mmap(fd, size, offset=offset)
        device.fill(index)
