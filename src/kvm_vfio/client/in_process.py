# SPDX-License-Identifier: GPL-2.0-only
"""Programs that are not there: Syscalls on a model kernel, for callers in this Python process.

Rule of this file: it is a process (fds, memory, an identity) and decides nothing about devices. The
kernel's -errno becomes an `OSError` with a note that says why.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from errno import EACCES, EBADF, EINVAL, errorcode
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kvm_vfio.errors import InputError, NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import EventFile, FdTable, File, OtherFile, PathOnlyFile
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.vm import Vm, VmFile
from kvm_vfio.kernel.memory import PAGE, AddressSpace, Region
from kvm_vfio.kernel.observer import Observer
from kvm_vfio.kernel.x86.cache import Caches
from kvm_vfio.kernel.x86.wbinvd import why_wbinvd
from kvm_vfio.machine.model import Machine
from kvm_vfio.machine.storage import open_storage
from kvm_vfio.profiles import DEFAULT, PROFILES
from kvm_vfio.syscalls import Buffer, MemoryBuffer
from kvm_vfio.trace.fanout import fan_out
from kvm_vfio.trace.recording import Recording, Sink
from kvm_vfio.uapi.fcntl import O_ACCMODE, O_PATH, O_RDONLY, O_RDWR, O_WRONLY
from kvm_vfio.uapi.layout import Request

if TYPE_CHECKING:
    from kvm_vfio.client.handle import Fd

_ADDRESS = (1 << 64) - 1
_REASONS = {number: os.strerror(number) for number in errorcode}
_STANDARD = ("standard input", "standard output", "standard error")
_READABLE, _WRITABLE = (O_RDONLY, O_RDWR), (O_WRONLY, O_RDWR)
OUR_NODES = ("/dev/kvm", "/dev/iommu", "/dev/vfio/")


def _os_error(error: KernelError, call: str) -> OSError:
    """What the caller gets. A call of its own, because a frame that keeps its error is a cycle."""
    errno, why = error.args
    result = OSError(errno, _REASONS[errno])
    result.add_note(f"{call}: {why}")
    return result


class answering:  # noqa: N801 - read as a word: with answering("close fd 3")
    """The body is the system call `call`: what it raises as KernelError leaves as OSError."""

    __slots__ = ("call",)

    def __init__(self, call: str) -> None:
        self.call = call

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, KernelError):
            raise _os_error(error, self.call) from error


class ModelSyscalls:
    """One process on a model kernel, or one more thread of it.

    `files` and `mm` are what threads share. A process begins with fds 0, 1 and 2, as programs do.
    `lock_limit` is how many bytes it may lock for DMA, None for no limit.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        files: FdTable | None = None,
        mm: AddressSpace | None = None,
        lock_limit: int | None = None,
    ) -> None:
        self.kernel = kernel
        self.mm = AddressSpace() if mm is None else mm
        self.files = _standard_files() if files is None else files
        self.task = kernel.task(self.files, self.mm, lock_limit=lock_limit)

    # -- the waist ---------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        """Open a device node of the machine. Any other path is there too, and nothing is in it."""
        with answering(f"open {path}"):
            if flags & O_PATH and (self._has_node(path) or not path.startswith(OUR_NODES)):
                return self.files.install(PathOnlyFile(path))
            if path.startswith(OUR_NODES):
                file = self.kernel.open(self.task, path)
                file.access = flags & O_ACCMODE
                return self.files.install(file)
            return self.files.install(OtherFile(path))

    def _has_node(self, path: str) -> bool:
        if path == "/dev/kvm":
            return True
        groups = (f"/dev/vfio/{number}" for number in self.kernel.vfio_groups)
        return self.kernel.vfio_loaded and path in ("/dev/vfio/vfio", *groups)

    def close(self, fd: int) -> None:
        with answering(f"close fd {fd}"):
            file = self.files.remove(fd)
            if file is None:
                raise KernelError(EBADF, "it is not open")
            file.put()

    def dup(self, fd: int) -> int:
        with answering(f"dup fd {fd}"):
            return self.files.install(self._peek(fd))

    def _peek(self, fd: int) -> File:
        file = self.files.peek(fd)
        if file is None:
            raise KernelError(EBADF, f"fd {fd} is not open")
        file.get()
        return file

    def ioctl(self, fd: int, request: int, arg: int | Buffer = 0) -> int:
        try:
            file = self.files.get(fd)
            if file is None:
                raise KernelError(EBADF, f"fd {fd} is not open")  # noqa: TRY301  # as any other errno
            address = arg & _ADDRESS if isinstance(arg, int) else arg.address
            return file.ioctl(self.task, request, address)
        except KernelError as error:
            name = request.name if isinstance(request, Request) else f"ioctl {request:#x}"
            raise _os_error(error, name) from error

    def read(self, fd: int, size: int) -> bytes:
        with answering(f"read fd {fd}"):
            return self._open_for(_READABLE, fd).read(self.task, size, None)

    def write(self, fd: int, data: bytes) -> int:
        with answering(f"write fd {fd}"):
            return self._open_for(_WRITABLE, fd).write(self.task, data, None)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        with answering(f"pread fd {fd}"):
            return self._open_for(_READABLE, fd).read(self.task, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        with answering(f"pwrite fd {fd}"):
            return self._open_for(_WRITABLE, fd).write(self.task, data, offset)

    def mmap(self, fd: int, size: int, offset: int = 0, *, writable: bool = True) -> MemoryBuffer:
        with answering("mmap" if fd == -1 else f"mmap fd {fd}"):
            region = self._mmap(fd, size, offset, writable=writable)
        return _buffer(region, region.start, size, owner=region)

    def _mmap(self, fd: int, size: int, offset: int, *, writable: bool) -> Region:
        if offset % PAGE:
            raise KernelError(EINVAL, f"offset {offset:#x} is not page aligned")
        file = None if fd == -1 else self._file_with_content(fd)
        if size <= 0:
            raise KernelError(EINVAL, "nothing cannot be mapped")
        length = -(-size // PAGE) * PAGE
        if file is None:
            return self.mm.map(length, writable=writable)
        self._refuse_mapping(file, writable=writable)
        mapping = file.mmap(self.task, length, offset, writable=writable)
        data = memoryview(mapping)  # type: ignore[arg-type]  # the model's own mappings are bytes
        return self.mm.map_data(data, writable=writable, file=file)

    @staticmethod
    def _refuse_mapping(file: File, *, writable: bool) -> None:
        if file.access not in _READABLE or (writable and file.access not in _WRITABLE):
            raise KernelError(EACCES, f"{file.name} was not opened for that")

    def munmap(self, buffer: Buffer) -> None:
        """munmap(2). ValueError for a buffer that `mmap` did not return, or that is unmapped."""
        if not isinstance(buffer, MemoryBuffer) or not isinstance(buffer.owner, Region):
            raise ValueError("only what mmap returned is unmapped, and once")  # noqa: TRY004  # a state
        region, buffer.owner = buffer.owner, None
        buffer.memory.release()
        self.mm.unmap(region)

    def eventfd(self, initial: int = 0) -> int:
        return self.files.install(EventFile(initial))

    def buffer(self, size: int) -> MemoryBuffer:
        region, address = self.mm.allocate(size)
        return _buffer(region, address, size)

    # -- what else a program can do ----------------------------------------------------------------

    def at(self, address: int, size: int) -> MemoryBuffer:
        """The process's own memory at an address, such as what a forked child has inherited."""
        region = self.mm.find(address)
        if region is None or address + size > region.end:
            raise ValueError(f"{size} bytes at {address:#x} are not mapped as one")
        return _buffer(region, address, size)

    def lseek(self, fd: int, offset: int) -> int:
        """lseek(2), SEEK_SET."""
        with answering(f"lseek fd {fd}"):
            return self._file_with_content(fd).lseek(offset)

    def pipe(self) -> tuple[int, int]:
        """pipe(2): the end to read and the end to write."""
        return self._other("a pipe"), self._other("a pipe")

    def memfd(self) -> int:
        """memfd_create(2)."""
        return self._other("a memfd")

    def socket(self) -> int:
        """socket(2)."""
        return self._other("a socket")

    def _other(self, name: str) -> int:
        return self.files.install(OtherFile(name))

    def thread(self) -> Self:
        """One more thread: the same fds, the same memory."""
        return self._another(self.files, self.mm)

    def fork(self) -> Self:
        """fork(2): a child with the same open files and a copy of the memory."""
        return self._another(self.files.copy(), self.mm.copy())

    def _another(self, files: FdTable, mm: AddressSpace) -> Self:
        return type(self)(self.kernel, files=files, mm=mm, lock_limit=self.task.lock_limit)

    def send(self, fd: int, other: ModelSyscalls) -> int:
        """Pass an open file to another process over a socket; its fd there. EBADF."""
        with answering(f"send fd {fd}"):
            return other.files.install(self._peek(fd))

    def exit(self) -> None:
        """exit_group(2): the memory goes, then every fd, lowest first."""
        self.mm.clear()
        for fd in self.files.numbers():
            self.close(fd)

    # -- what no program can ask -------------------------------------------------------------------

    def explain(self, vm: Fd | None = None) -> str:
        """Whether a WBINVD of a guest is executed, and why: one VM, or every VM that lives."""
        vms = self.kernel.vms.values() if vm is None else [self._vm(vm)]
        return "\n".join(map(_explain, vms))

    def _vm(self, vm: Fd) -> Vm:
        fd = vm if isinstance(vm, int) else vm.fileno()
        file = self.files.get(fd)
        if not isinstance(file, VmFile):
            raise ValueError(f"fd {fd} is no VM")  # noqa: TRY004  # an int has the right type
        return file.vm

    def _open_for(self, modes: tuple[int, ...], fd: int) -> File:
        file = self._file_with_content(fd)
        file.require(*modes)
        return file

    def _file_with_content(self, fd: int) -> File:
        file = self.task.fget(fd)
        if type(file) is OtherFile:
            raise NotModelled(f"what is in {file.name} is not modelled")
        return file


def _buffer(region: Region, address: int, size: int, owner: object = None) -> MemoryBuffer:
    memory = region.data[address - region.start :][:size]
    return MemoryBuffer(address, memory if region.writable else memory.toreadonly(), owner)


def _standard_files() -> FdTable:
    files = FdTable()
    for name in _STANDARD:
        files.install(OtherFile(name))
    return files


def _explain(vm: Vm) -> str:
    why = why_wbinvd(vm)
    if not why:
        return f"VM {vm.number}: WBINVD is a no-op: no device it uses can bypass the CPU caches"
    return f"VM {vm.number}: WBINVD is executed: {'; '.join(why)}"


def model(
    linux: str = DEFAULT.name,
    machine: str | Machine = "default",
    *,
    snoop_control: bool | None = None,
    observer: Observer | None = None,
    trace: Sink | None = None,
    fail: Sequence[str] = (),
    fail_any: bool = False,
    fail_seed: int = 0,
    caches: Caches | None = None,
) -> ModelSyscalls:
    """A fresh process on a fresh kernel.

    `linux` names a profile; `machine` is a description, a built-in one's name, or a TOML file.
    `snoop_control` gives every IOMMU that has a choice snoop control, or takes it away. `observer`
    hears of every effect; `trace` takes the records of every call and decision: a `History`
    explains them. `fail` are faults, written as for `kvm-vfio run --fail`; with `fail_any` their
    errnos may be ones that no Linux gives there, and `fail_seed` is where their chance begins.
    `caches` are the CPUs' (`kernel.x86.cache`); without them all DMA is coherent. InputError for a
    name that is not known, or a file or fault that is wrong.
    """
    if linux not in PROFILES:
        raise InputError(f"there is no profile {linux!r}; there are {', '.join(PROFILES)}")
    if not isinstance(machine, Machine):
        from kvm_vfio.machine.load import load_machine  # noqa: PLC0415  # TOML, only when needed

        machine = load_machine(machine)
    if snoop_control is not None:
        iommus = (replace(iommu, snoop_control=snoop_control) for iommu in machine.iommus)
        machine = replace(machine, iommus=tuple(iommus))

    def kernel(heard: Observer | None) -> Kernel:
        profile = PROFILES[linux]
        return Kernel(machine, profile, observer=heard, open_storage=open_storage, caches=caches)

    if trace is None and not fail:
        return ModelSyscalls(kernel(observer))
    from kvm_vfio.client.recorded import RecordedSyscalls  # noqa: PLC0415  # built on this module
    from kvm_vfio.faults import Faults, parse  # noqa: PLC0415  # only when needed

    recording = Recording(trace or (lambda _records: None))
    heard = recording if observer is None else fan_out(observer, recording)
    recorded = kernel(heard)
    faults = [parse(spec, machine, anything=fail_any) for spec in fail]
    met = Faults(faults, recorded, seed=fail_seed) if faults else None
    return RecordedSyscalls(recorded, recording, faults=met)
