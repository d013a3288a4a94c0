# SPDX-License-Identifier: GPL-2.0-only
"""Performs a script and says what came of it, a line an operation.

Rule of this file: it makes system calls through the waist and asks the referee for what no system
call shows; which kernel answers, it does not know.

    LINE OPERATION => RESULT[ EXTRA] reg=R unreg=U net[VM:COUNT ...] | EVENT EVENT ...
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from kvm_vfio.errors import InputError
from kvm_vfio.scenario.language import Operation, number
from kvm_vfio.syscalls import Syscalls
from kvm_vfio.uapi import fcntl, kvm, vfio
from kvm_vfio.uapi.layout import INT32

_PRESET_FD = 0xDEADBEEF
_PAGE = 4096
_MASK64 = (1 << 64) - 1
_OPEN_FLAGS = {
    "ro": fcntl.O_RDONLY,
    "wo": fcntl.O_WRONLY,
    "rw": fcntl.O_RDWR,
    "path": fcntl.O_PATH,
}
_RAW_ADDRESSES = {
    "null": 0,
    "bad": 0x1000,
    "noncanon": 0x8000_0000_0000_0000,
    "kernel": 0xFFFF_FFFF_8100_0000,
    "max": _MASK64,
}


class Event(NamedTuple):
    """Something a probe saw: its name, and the VM it concerns by the kernel's own identity.

    `vm` is None for an event without one; `answer` is coherency's, or "NULL" for set_kvm.
    """

    name: str
    vm: int | None = None
    answer: str = ""


class Referee(Protocol):
    """The hand beside the system calls: what a script does and sees without a call of its own."""

    def events(self) -> Sequence[Event]:
        """What happened since the last question."""

    def memory(self, kind: str, data: bytes) -> int:
        """The address of `data` in memory of a kind: rw, ro, odd, pageend, straddle, unmapped."""

    def pipe(self) -> tuple[int, int]: ...
    def memfd(self) -> int: ...
    def socket(self) -> int: ...
    def link(self, fd: int) -> str:
        """What /proc/self/fd/N points to."""

    def group_number(self, address: str) -> int:
        """The IOMMU group of the device."""

    def bind(self, address: str, driver: str | None) -> str:
        """Bind or unbind; the driver that holds the device then, "" for none."""

    def force_coherency(self, fd: int, *, answer: bool | None) -> None: ...
    def child_close_exit(self) -> None: ...


class Runner:
    """One run: handles, VM names, and the kernel it runs on."""

    def __init__(self, syscalls: Syscalls, referee: Referee) -> None:
        self._sys = syscalls
        self._referee = referee
        self._fds: dict[str, int] = {}  # handle -> fd, in the order of their opening
        self._names: dict[int, str] = {}  # VM -> handle
        self._net: dict[int, int] = {}  # VM -> registrations minus unregistrations
        self._new_vm = ""

    def run(self, operations: Sequence[Operation]) -> Iterator[str]:
        """Perform `operations`, and give a line for each as soon as it is done."""
        for operation in operations:
            if operation.verb == "echo":
                yield operation.text.partition(" ")[2].strip()
            else:
                yield self._line(operation)

    def _line(self, operation: Operation) -> str:
        verb = getattr(self, f"_do_{operation.verb}")
        try:
            result = verb(*operation.words)
        except OSError as error:
            result = f"-{errno.errorcode.get(error.errno or 0, str(error.errno))}"
            if operation.verb == "dev_create":
                result += " fd=untouched"
        except ValueError as error:
            raise InputError(f"line {operation.line}: {operation.text!r}: {error}.") from error
        return f"{operation.line} {operation.text} => {result} {self._effects()}"

    # -- effects -----------------------------------------------------------------------------------

    def _effects(self) -> str:
        events = list(self._referee.events())
        gone: list[int] = []
        for event in events:
            if event.vm is None:
                continue
            if event.name == "vmnew":
                self._names[event.vm], self._net[event.vm] = self._new_vm, 0
            elif event.name == "vmdel":
                gone.append(event.vm)
            elif event.name in ("reg", "unreg"):
                self._net[event.vm] += 1 if event.name == "reg" else -1
        registered = sum(event.name == "reg" for event in events)
        unregistered = sum(event.name == "unreg" for event in events)
        net = [self._gone(vm) for vm in self._net if vm in gone]
        for vm in gone:
            del self._net[vm]
        net += [f"{self._name(vm)}:{count}" for vm, count in self._net.items()]
        shown = "".join(f" {self._show(event)}" for event in events)
        return f"reg={registered} unreg={unregistered} net[{' '.join(net)}] |{shown}"

    def _gone(self, vm: int) -> str:
        count = self._net[vm]
        return f"{self._name(vm)}:gone{f':LEAK={count}' if count else '=0'}"

    def _name(self, vm: int) -> str:
        return self._names.get(vm, "?")

    def _show(self, event: Event) -> str:
        if event.name == "coh":
            return f"coh={event.answer}"
        if event.name == "setkvm" and event.vm is None:
            return "setkvm(NULL)"
        return event.name if event.vm is None else f"{event.name}({self._name(event.vm)})"

    # -- handles and addresses ---------------------------------------------------------------------

    def _fd(self, handle: str) -> int:
        return self._fds.get(handle, -1)

    def _open(self, handle: str, make: Callable[[], int]) -> str:
        """Give `handle` the fd that `make` opens, then close what it had; none on failure."""
        old = self._fds.pop(handle, None)
        try:
            self._fds[handle] = make()
        finally:
            if old is not None:
                self._sys.close(old)
        return "fd"

    def _address(self, word: str) -> int:
        """The address that an ADDR word names; memory it needs is made for it."""
        kind, _, rest = word.partition(":")
        if kind in _RAW_ADDRESSES and not rest:
            return _RAW_ADDRESSES[kind]
        if kind == "addr":
            return number(rest)
        if kind in ("unmapped", "straddle"):
            return self._referee.memory(kind, bytes(4))
        if kind == "tce":
            return self._referee.memory("rw", INT32.pack(INT32.type(self._fd(rest))) * 2)
        if kind == "closed":
            return self._int_at("rw", self._closed_fd())
        if kind == "int":
            return self._int_at("rw", number(rest))
        if kind in ("fd", "ro", "odd", "pageend"):
            return self._int_at("rw" if kind == "fd" else kind, self._fd(rest))
        raise ValueError(f"there is no kind of address {word!r}")

    def _int_at(self, kind: str, value: int) -> int:
        value = (value + (1 << 31)) % (1 << 32) - (1 << 31)
        return self._referee.memory(kind, INT32.pack(INT32.type(value)))

    def _closed_fd(self) -> int:
        fd = self._sys.eventfd()
        self._sys.close(fd)
        return fd

    def _argument(self, word: str) -> int:
        try:
            return number(word)
        except ValueError:
            return self._address(word)

    def _raw(self, handle: str, request: int, arg: int = 0) -> int:
        return self._sys.ioctl(self._fd(handle), request, arg)

    # -- files -------------------------------------------------------------------------------------

    def _do_kvm_open(self, handle: str) -> str:
        return self._do_open(handle, "/dev/kvm")

    def _do_open(self, handle: str, path: str, mode: str = "rw") -> str:
        if mode not in _OPEN_FLAGS:
            raise ValueError(f"{mode!r} is none of {', '.join(_OPEN_FLAGS)}")
        return self._open(handle, lambda: self._sys.open(path, _OPEN_FLAGS[mode]))

    def _do_mkfile(self, handle: str, path: str) -> str:
        return self._open(handle, lambda: self._sys.open(path, fcntl.O_RDWR | fcntl.O_CREAT))

    def _do_eventfd(self, handle: str) -> str:
        return self._open(handle, self._sys.eventfd)

    def _do_memfd(self, handle: str) -> str:
        return self._open(handle, self._referee.memfd)

    def _do_socket(self, handle: str) -> str:
        return self._open(handle, self._referee.socket)

    def _do_pipe(self, reader: str, writer: str) -> int:
        ends = self._referee.pipe()
        for handle, fd in zip((reader, writer), ends, strict=True):
            self._open(handle, lambda fd=fd: fd)  # type: ignore[misc]  # one fd for each handle
        return 0

    def _do_close(self, handle: str) -> int:
        self._sys.close(self._fds.pop(handle, -1))
        return 0

    def _do_dup(self, new: str, old: str) -> str:
        return self._open(new, lambda: self._sys.dup(self._fd(old)))

    def _do_read(self, handle: str) -> int:
        return len(self._sys.read(self._fd(handle), 16))

    def _do_write(self, handle: str) -> int:
        return self._sys.write(self._fd(handle), b"x")

    def _do_mmap(self, handle: str) -> int:
        self._sys.mmap(self._fd(handle), _PAGE)
        return 0

    def _do_ioctl(self, handle: str, request: str, arg: str) -> int:
        return self._raw(handle, number(request), self._argument(arg))

    def _do_child_close_exit(self) -> int:
        self._referee.child_close_exit()
        return 0

    def _do_reset(self) -> int:
        for handle in reversed(list(self._fds)):
            self._sys.close(self._fds.pop(handle))
        return 0

    # -- KVM ---------------------------------------------------------------------------------------

    def _do_vm_create(self, handle: str, kvm_handle: str = "k", machine_type: str = "0") -> str:
        self._new_vm = handle
        arg = number(machine_type)
        return self._open(handle, lambda: self._raw(kvm_handle, kvm.KVM_CREATE_VM, arg))

    def _do_kvm_check(self, handle: str, capability: str) -> int:
        return self._raw(handle, kvm.KVM_CHECK_EXTENSION, number(capability))

    def _do_dev_create(self, handle: str, vm: str, kind: str = "vfio", flags: str = "0") -> str:
        layout = kvm.KVM_CREATE_DEVICE_LAYOUT
        buffer = self._sys.buffer(layout.size)
        buffer.write(layout.pack(layout.type(number(kind), _PRESET_FD, number(flags))))
        result = self._sys.ioctl(self._fd(vm), kvm.KVM_CREATE_DEVICE, buffer)
        fd = layout.unpack(buffer.read()).fd
        if fd == _PRESET_FD:
            return f"{result} fd=untouched"
        self._open(handle, lambda: fd)
        return f"{result} fd=new link={self._referee.link(fd)}"

    def _do_dev_create_addr(self, vm: str, address: str) -> int:
        return self._raw(vm, kvm.KVM_CREATE_DEVICE, self._address(address))

    def _attr(self, request: int, handle: str, words: Sequence[str]) -> int:
        attr_group, attr, address, flags = words
        layout = kvm.KVM_DEVICE_ATTR
        buffer = self._sys.buffer(layout.size)
        fields = (
            number(flags) & 0xFFFF_FFFF,
            number(attr_group) & 0xFFFF_FFFF,
            number(attr) & _MASK64,
            self._argument(address) & _MASK64,
        )
        buffer.write(layout.pack(layout.type(*fields)))
        return self._sys.ioctl(self._fd(handle), request, buffer)

    def _do_has_attr(
        self, handle: str, attr_group: str, attr: str, flags: str = "0", address: str = "0"
    ) -> int:
        return self._attr(kvm.KVM_HAS_DEVICE_ATTR, handle, (attr_group, attr, address, flags))

    def _do_set_attr(
        self, handle: str, attr_group: str, attr: str, address: str, flags: str = "0"
    ) -> int:
        return self._attr(kvm.KVM_SET_DEVICE_ATTR, handle, (attr_group, attr, address, flags))

    def _do_get_attr(
        self, handle: str, attr_group: str, attr: str, address: str = "0", flags: str = "0"
    ) -> int:
        return self._attr(kvm.KVM_GET_DEVICE_ATTR, handle, (attr_group, attr, address, flags))

    def _do_group_add(self, device: str, group: str) -> int:
        return self._do_set_attr(device, "GROUP", "ADD", f"fd:{group}")

    def _do_group_del(self, device: str, group: str) -> int:
        return self._do_set_attr(device, "GROUP", "DEL", f"fd:{group}")

    # -- VFIO --------------------------------------------------------------------------------------

    def _do_container_open(self, handle: str) -> str:
        return self._do_open(handle, "/dev/vfio/vfio")

    def _do_group_open(self, handle: str, group: str) -> str:
        if group.startswith("@"):
            group = str(self._referee.group_number(_full(group[1:])))
        return self._do_open(handle, f"/dev/vfio/{group}")

    def _do_set_container(self, group: str, container: str) -> int:
        address = self._int_at("rw", self._fd(container))
        return self._raw(group, vfio.VFIO_GROUP_SET_CONTAINER, address)

    def _do_unset_container(self, group: str) -> int:
        return self._raw(group, vfio.VFIO_GROUP_UNSET_CONTAINER)

    def _do_set_iommu(self, container: str, kind: str = "type1v2") -> int:
        return self._raw(container, vfio.VFIO_SET_IOMMU, number(kind))

    def _do_check_extension(self, container: str, extension: str = "CC") -> int:
        return self._raw(container, vfio.VFIO_CHECK_EXTENSION, number(extension))

    def _do_api_version(self, container: str) -> int:
        return self._raw(container, vfio.VFIO_GET_API_VERSION)

    def _do_group_status(self, group: str) -> str:
        layout = vfio.VFIO_GROUP_STATUS
        buffer = self._sys.buffer(layout.size)
        buffer.write(layout.pack(layout.type(layout.size, 0)))
        result = self._sys.ioctl(self._fd(group), vfio.VFIO_GROUP_GET_STATUS, buffer)
        return f"{result} flags={layout.unpack(buffer.read()).flags}"

    def _do_get_device_fd(self, handle: str, group: str, address: str) -> str:
        name = _full(address).encode() + b"\0"
        at = self._referee.memory("rw", name)
        return self._open(handle, lambda: self._raw(group, vfio.VFIO_GROUP_GET_DEVICE_FD, at))

    def _do_dma_map(self, container: str, iova: str, size: str) -> int:
        layout, length = vfio.VFIO_IOMMU_TYPE1_DMA_MAP, number(size)
        memory = self._sys.mmap(-1, -(-max(length, 1) // _PAGE) * _PAGE)
        flags = vfio.VFIO_DMA_MAP_FLAG_READ | vfio.VFIO_DMA_MAP_FLAG_WRITE
        buffer = self._sys.buffer(layout.size)
        fields = (layout.size, flags, memory.address, number(iova), length)
        buffer.write(layout.pack(layout.type(*fields)))
        return self._sys.ioctl(self._fd(container), vfio.VFIO_IOMMU_MAP_DMA, buffer)

    # -- the referee's hand ------------------------------------------------------------------------

    def _do_bind(self, address: str, driver: str) -> str:
        holder = self._referee.bind(_full(address), None if driver == "-" else driver)
        return f"0 driver={holder or '-'}"

    def _do_unbind(self, address: str) -> int:
        self._referee.bind(_full(address), None)
        return 0

    def _do_force_coh(self, group: str, answer: str) -> int:
        forced = None if answer == "real" else answer == "1"
        self._referee.force_coherency(self._fd(group), answer=forced)
        return 0


def _full(address: str) -> str:
    """A BDF with its PCI segment; any other word stays as it is."""
    return f"0000:{address}" if address.count(":") == 1 and "." in address else address
