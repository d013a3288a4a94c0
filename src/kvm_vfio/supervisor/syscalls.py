# SPDX-License-Identifier: GPL-2.0-only
"""The calls that wait: what each means for our files.

Rule of this file: a handler either returns what the program's call returns, or CONTINUE, when the
call is none of ours and the kernel goes on with it. What the model says, it says by KernelError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from errno import EINVAL, ENXIO
from mmap import MAP_SHARED, PROT_EXEC, PROT_WRITE
from struct import iter_unpack, unpack

from kvm_vfio.errors import KvmVfioError
from kvm_vfio.faults import Faults, kind_of_node
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.supervisor.files import OpenFiles
from kvm_vfio.supervisor.kvm_host import VM_LINK, HostVms
from kvm_vfio.supervisor.libc import NR
from kvm_vfio.supervisor.memory import PAGE
from kvm_vfio.supervisor.paths import AT_FDCWD, Nodes, device, reopened_fd
from kvm_vfio.supervisor.processes import Processes, Thread, comm
from kvm_vfio.trace.requests import find_request
from kvm_vfio.uapi.fcntl import O_CLOEXEC, O_PATH
from kvm_vfio.uapi.kvm import (
    KVM_CREATE_DEVICE,
    KVM_CREATE_DEVICE_LAYOUT,
    KVM_CREATE_VM,
    KVM_DEV_TYPE_VFIO,
)

ARGUMENTS = 6  # where they begin in what `Listener.receive` returns
CONTINUE = -(1 << 31)  # no answer of ours; below every -errno

_CREATE_VM = int(KVM_CREATE_VM)
_KVM_LINK = KvmSystemFile.link.encode()
_PATH_LIMIT = 4096
_LONGEST = 1 << 20  # bytes of one read or write; Linux, too, may move less than was asked for
_MOST_VECTORS = 1024
_MAP_TYPE, _MAP_SHARED_VALIDATE, _MAP_HUGETLB, _MAP_SYNC = 0xF, 3, 0x40000, 0x80000

Arguments = Sequence[int]


class OwnNotification(KvmVfioError):
    """The program wants to use seccomp user notification itself. The message says so."""


def c_int(word: int) -> int:
    """The C int in a register."""
    return (word & 0xFFFF_FFFF ^ 0x8000_0000) - 0x8000_0000


class Syscalls:
    """The handlers; `table` maps a system call's number to `handler(tid, arguments)`."""

    def __init__(
        self,
        kernel: Kernel,
        processes: Processes,
        files: OpenFiles,
        nodes: Nodes,
        host_vms: HostVms | None,
        leaving: Callable[[int], None],
        faults: Faults | None = None,
    ) -> None:
        self._kernel = kernel
        self._processes = processes
        self._files = files
        self._nodes = nodes
        self._host_vms = host_vms
        self._leaving = leaving
        self._faults = faults
        self.file: File | None = None  # what the last call on an fd was about
        self.path = b""  # what the last open named
        handlers = {
            "ioctl": self.ioctl,
            "open": self.open,
            "openat": self.openat,
            "openat2": self.openat2,
            "mmap": self.mmap,
            "pread64": self.pread,
            "pwrite64": self.pwrite,
            "preadv": self.preadv,
            "pwritev": self.pwritev,
            "preadv2": self.preadv,
            "pwritev2": self.pwritev,
            "seccomp": self.seccomp,
            "exit_group": self.exit_group,
        }
        self.table: Mapping[int, Callable[[int, Arguments], int]] = {
            NR[name]: handler for name, handler in handlers.items() if name in NR
        }

    # -- ioctl -------------------------------------------------------------------------------------

    def ioctl(self, tid: int, arguments: Arguments) -> int:
        """ioctl(fd, request, arg)."""
        thread = self._processes.thread(tid)
        fd, request = arguments[0] & 0xFFFF_FFFF, arguments[1] & 0xFFFF_FFFF
        if request == _CREATE_VM:  # the VM will belong to this memory
            thread.mm.verify()
        self.file = file = thread.ours(fd)
        if file is not None:
            if self._faults is not None:
                self._faults.before(find_request(type(file), request).name, file)
            return file.ioctl(thread.task, request, arguments[2])
        return self._ioctl_of_host(thread, fd, request, arguments[2])

    def _ioctl_of_host(self, thread: Thread, fd: int, request: int, arg: int) -> int:
        if self._host_vms is None:
            return CONTINUE
        if request == _CREATE_VM:
            if self._faults is not None and thread.link(fd) == _KVM_LINK:
                self._faults.before(KVM_CREATE_VM.name, "kvm")
            thread.mm.makes_vms = True
        if request != KVM_CREATE_DEVICE or thread.link(fd) != VM_LINK:
            return CONTINUE
        if self._faults is not None:
            self._faults.before(KVM_CREATE_DEVICE.name, "vm")
        create = KVM_CREATE_DEVICE_LAYOUT.unpack(thread.mm.read(arg, KVM_CREATE_DEVICE_LAYOUT.size))
        if create.type != KVM_DEV_TYPE_VFIO:
            return CONTINUE
        return self._host_vms.create_device(thread, fd, arg)

    # -- open --------------------------------------------------------------------------------------

    def open(self, tid: int, arguments: Arguments) -> int:
        """open(path, flags)."""
        return self._open(tid, AT_FDCWD, arguments[0], arguments[1])

    def openat(self, tid: int, arguments: Arguments) -> int:
        """openat(directory, path, flags)."""
        return self._open(tid, c_int(arguments[0]), arguments[1], arguments[2])

    def openat2(self, tid: int, arguments: Arguments) -> int:
        """openat2(directory, path, how, size): `how` begins with the flags."""
        try:
            (flags,) = unpack("=Q", self._processes.memory(tid).read(arguments[2], 8))
        except KernelError:
            return CONTINUE
        return self._open(tid, c_int(arguments[0]), arguments[1], flags)

    def _open(self, tid: int, directory: int, path: int, flags: int) -> int:
        try:
            self.path = name = self._processes.memory(tid).read_string(path, _PATH_LIMIT)
        except KernelError:
            return CONTINUE
        if flags & O_PATH:
            return CONTINUE
        device_path = device(self._nodes, tid, directory, name, flags)
        if device_path is None:
            fd = reopened_fd(name)
            if fd is None:
                if self._faults is not None and name == _KVM_LINK:
                    self._faults.before("open", "kvm")
                return CONTINUE
            device_path = self._device_behind(self._processes.thread(tid), fd)
            if device_path is None:
                return CONTINUE
        thread = self._processes.thread(tid)
        thread.mm.verify()
        if self._faults is not None:
            self._faults.before("open", kind_of_node(device_path))
        file = self._kernel.open(thread.task, device_path)
        return thread.open(file, close_on_exec=bool(flags & O_CLOEXEC))

    def _device_behind(self, thread: Thread, fd: int) -> str | None:
        """What opening one of its own files anew opens. ENXIO: a file without a path."""
        file = thread.ours(fd)
        if file is None:
            return None
        if isinstance(file, GroupFile):
            return f"/dev/vfio/{file.vfio_group.number}"
        if isinstance(file, ContainerFile | KvmSystemFile):
            return file.link
        raise KernelError(ENXIO, f"{file.name} has no path to open it by")

    # -- memory and regions ------------------------------------------------------------------------

    def mmap(self, tid: int, arguments: Arguments) -> int:
        """mmap(address, size, protection, flags, fd, offset): what may be mapped, is, natively."""
        if not self._files:  # nobody has a file of ours to map
            return CONTINUE
        _, size, protection, flags, fd, offset = arguments
        thread = self._processes.thread(tid)
        self.file = file = thread.ours(c_int(fd))
        if file is None or not size or _refused_before_the_file(flags):
            return CONTINUE
        if self._faults is not None:
            self._faults.before("mmap", file)
        if not flags & MAP_SHARED and isinstance(file, VfioDeviceFile):
            raise KernelError(EINVAL, f"{file.name} can only be mapped shared")
        file.mmap(
            thread.task,
            -(-size // PAGE) * PAGE,
            offset,
            writable=bool(protection & PROT_WRITE),
            executable=bool(protection & PROT_EXEC),
        )
        return CONTINUE

    def pread(self, tid: int, arguments: Arguments) -> int:
        """pread64(fd, buffer, size, offset)."""
        thread, file = self._region_file(tid, arguments, "pread64")
        if file is None:
            return CONTINUE
        data = file.read(thread.task, min(arguments[2], _LONGEST), arguments[3])
        thread.mm.write(arguments[1], data)
        return len(data)

    def pwrite(self, tid: int, arguments: Arguments) -> int:
        """pwrite64(fd, buffer, size, offset)."""
        thread, file = self._region_file(tid, arguments, "pwrite64")
        if file is None:
            return CONTINUE
        size, offset = min(arguments[2], _LONGEST), arguments[3]
        takes = file.takes_data(size, offset)
        data = thread.mm.read(arguments[1], size) if takes else bytes(size)
        return file.write(thread.task, data, offset)

    def preadv(self, tid: int, arguments: Arguments) -> int:
        """preadv(fd, vectors, count, offset); preadv2 has flags that change nothing here."""
        thread, file = self._region_file(tid, arguments, "pread64")
        if file is None:
            return CONTINUE
        return self._read(thread, file, _vectors(thread, arguments), arguments[3])

    def pwritev(self, tid: int, arguments: Arguments) -> int:
        """pwritev(fd, vectors, count, offset)."""
        thread, file = self._region_file(tid, arguments, "pwrite64")
        if file is None:
            return CONTINUE
        return self._write(thread, file, _vectors(thread, arguments), arguments[3])

    def _region_file(self, tid: int, arguments: Arguments, call: str) -> tuple[Thread, File | None]:
        thread = self._processes.thread(tid)
        self.file = file = thread.ours(c_int(arguments[0]))
        if file is not None and self._faults is not None:
            self._faults.before(call, file)
        return thread, file

    def _read(self, thread: Thread, file: File, vectors: _Vectors, offset: int) -> int:
        def read(address: int, size: int, at: int) -> int:
            data = file.read(thread.task, size, at)
            thread.mm.write(address, data)
            return len(data)

        return _one_by_one(read, vectors, offset)

    def _write(self, thread: Thread, file: File, vectors: _Vectors, offset: int) -> int:
        def write(address: int, size: int, at: int) -> int:
            takes = file.takes_data(size, at)
            data = thread.mm.read(address, size) if takes else bytes(size)
            return file.write(thread.task, data, at)

        return _one_by_one(write, vectors, offset)

    # -- programs come and go ----------------------------------------------------------------------

    def seccomp(self, tid: int, arguments: Arguments) -> int:
        """seccomp(operation, flags, filter) with a listener. A null filter only asks whether."""
        if not arguments[2]:
            return CONTINUE
        raise OwnNotification(
            f"{comm(tid)} uses seccomp user notification itself, and Linux allows"
            " one listener in a chain of filters; it cannot run under kvm-vfio"
        )

    def exit_group(self, tid: int, arguments: Arguments) -> int:
        """exit_group(status): the last moment to see what a process still holds."""
        self._leaving(tid)
        return CONTINUE


def _refused_before_the_file(flags: int) -> bool:
    """Whether Linux refuses these flags of mmap for every file that is like ours."""
    validated = flags & _MAP_TYPE == _MAP_SHARED_VALIDATE and flags & _MAP_SYNC
    return bool(validated or flags & _MAP_HUGETLB)


_Vectors = list[tuple[int, int]]


def _vectors(thread: Thread, arguments: Arguments) -> _Vectors:
    """The (address, size) of each struct iovec. EINVAL: too many; EFAULT."""
    count = arguments[2]
    if count > _MOST_VECTORS:
        raise KernelError(EINVAL, f"{count} vectors are more than {_MOST_VECTORS}")
    return list(iter_unpack("=QQ", thread.mm.read(arguments[1], 16 * count)))


def _one_by_one(move: Callable[[int, int, int], int], vectors: _Vectors, offset: int) -> int:
    """Move each vector until one falls short; an error counts only where nothing was moved."""
    if not vectors:
        return move(0, 0, offset)
    done = 0
    for address, size in vectors:
        try:
            moved = move(address, min(size, _LONGEST), offset + done)
        except KernelError:
            if not done:
                raise
            break
        done += moved
        if moved < size:
            break
    return done
