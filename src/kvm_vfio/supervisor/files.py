# SPDX-License-Identifier: GPL-2.0-only
"""Our open files inside programs: how they get there, how they are known, how they end.

Rule of this file: a number is never an identity.

Each of our files stands in the program as an unnamed file on a tmpfs that is mounted nowhere, one
inode for each, so that the text of its /proc link names it wherever it has been dup'ed, inherited
or passed to. inotify reports the close of a description that could write exactly once, at the
*last* close: fork, exec, exit, SIGKILL, a message on a socket and a mapping all count. A second
such description of the inode nobody but root can get, who would have to mean it.

A release is heard of later than it happened, so the model is told of all releases before each call
(`drain`). What a program closes before it calls is then closed for the call.
"""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Callable
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
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.supervisor.events import ProgramEvents
from kvm_vfio.supervisor.libc import inotify_add_watch, inotify_init
from kvm_vfio.uapi.seccomp import IN_CLOSE_WRITE, INOTIFY_EVENT
from kvm_vfio.uapi.vfio import VFIO_PCI_ROM_REGION_INDEX

_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
_EVENTS_AT_ONCE = 4096
_EVENTS_EACH = 2  # closed, and the watch gone with the inode
_REGION_SHIFT = 40


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
        self._links: dict[int, bytes] = {}  # by inotify's number for the watch
        try:
            self._inotify = inotify_init()
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
            fd = self._unnamed_file()
        except OSError as error:
            file.put()
            raise KernelError(ENFILE, f"no more files can be handed out: {error}") from error
        try:
            self._watch(file, fd)
            # If this fails, our own close is the last, and is heard of like any other.
            number = hand_over(fd)
        finally:
            os.close(fd)
        if self.installed is not None:
            self.installed(file, number)
        return number

    def _unnamed_file(self) -> int:
        if len(self._links) >= self._limit:
            raise OSError(ENFILE, os.strerror(ENFILE))
        return os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600, dir_fd=self._directory)

    def _watch(self, file: File, fd: int) -> None:
        path = f"/proc/self/fd/{fd}"
        if isinstance(file, VfioDeviceFile):
            _share_bars(file, fd, path)
        elif isinstance(file, VcpuFile):
            _share_run(file, fd, path)
        elif isinstance(file, StatsFile):
            os.write(fd, file.data)
            os.lseek(fd, 0, os.SEEK_SET)
        watch = inotify_add_watch(self._inotify, path, IN_CLOSE_WRITE)
        os.fchmod(fd, 0)
        link = os.readlink(path.encode())
        self._links[watch] = link
        self.by_link[link] = file
        self.handed_out[file.kind] += 1

    def drain(self) -> None:
        """Let the model know of every release until now."""
        ioctl(self._inotify, FIONREAD, self._pending)
        while self._pending != self._none:
            events = os.read(self._inotify, _EVENTS_AT_ONCE * INOTIFY_EVENT.size)
            for at in range(0, len(events), INOTIFY_EVENT.size):
                watch, mask = unpack_from("=iI", events, at)
                if mask & IN_CLOSE_WRITE and watch in self._links:  # else our own, of a BAR
                    self._release(self.by_link.pop(self._links.pop(watch)))
            ioctl(self._inotify, FIONREAD, self._pending)

    def _release(self, file: File) -> None:
        self._released(file)
        file.put()
        self._released(None)


def _share_run(file: VcpuFile, fd: int, path: str) -> None:
    """Let the vCPU's run structure be the memory that the program gets when it maps this file."""
    vcpu = file.vcpu
    os.write(fd, vcpu.run)
    own = os.open(path, os.O_RDWR)  # not ours to hold: another description of the same file
    vcpu.run = memoryview(mmap.mmap(own, len(vcpu.run)))
    os.close(own)


def _share_bars(file: VfioDeviceFile, fd: int, path: str) -> None:
    """Let the model's BARs be the memory that the program gets when it maps this file.

    A second file of the same device, opened while the first is open, has memory of its own.
    """
    device, end = file.device, 0
    own = os.open(path, os.O_RDWR)  # not ours to hold: another description of the same file
    for index in filter(device.mappable, range(VFIO_PCI_ROM_REGION_INDEX)):
        size = device.static_bars[index].size
        offset = index << _REGION_SHIFT
        end = max(end, offset + size)
        os.ftruncate(fd, end)
        if index not in device.bars:
            device.bars[index] = mmap.mmap(own, size, offset=offset)
            device.fill(index)
    os.close(own)
