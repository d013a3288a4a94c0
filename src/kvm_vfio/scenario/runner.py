# SPDX-License-Identifier: GPL-2.0-only
"""Performs a script and says what came of it, a line an operation.

Rule of this file: an operation is asked for first and told of later, when its answers are there;
which kernel answers, it does not know.

    LINE OPERATION => RESULT[ EXTRA] reg=R unreg=U net[VM:COUNT ...] | EVENT EVENT ...
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, TypeVar
from zlib import crc32

from kvm_vfio.errors import InputError, KvmVfioError
from kvm_vfio.scenario import structures, vcpu
from kvm_vfio.scenario.hands import Answer, ClosedFd, Event, Events, Fd, Hands
from kvm_vfio.scenario.language import Operation, number
from kvm_vfio.uapi import fcntl, kvm, kvm_vm, kvm_x86, vfio

Teller = Callable[[], str]
"""Says the result of an operation, once it is there; OSError where the call failed."""

_PRESET_FD = 0xDEADBEEF
_PAGE = 4096
_MOST_FRESH = 448 << 20  # what a program can have of the 512 MiB of the machine of the recordings
_MSR_DATA = 16  # where the value is, in a list of one register
_MASK32 = (1 << 32) - 1
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


class _Asked(NamedTuple):
    """An operation whose answers are on their way."""

    operation: Operation
    result: Teller
    events: Events


class Runner:
    """One run: what the VMs are called, and the kernel it runs on.

    `reasons` collects why calls failed, by the line of the script, where the kernel can say it.
    """

    def __init__(self, hands: Hands) -> None:
        self.reasons: dict[int, str] = {}
        self._hands = hands
        self._names: dict[int, str] = {}  # VM -> handle
        self._net: dict[int, int] = {}  # VM -> registrations minus unregistrations

    def run(self, operations: Iterable[Operation]) -> Iterator[str]:
        """Perform `operations`, and give a line for each as soon as it is there."""
        asked: list[_Asked] = []
        for operation in operations:
            try:
                asked.append(self._ask(operation))
            except KvmVfioError:
                yield from self._tell(asked)
                raise
            if len(asked) >= self._hands.ahead:
                yield from self._tell(asked)
                asked = []
        yield from self._tell(asked)

    def _ask(self, operation: Operation) -> _Asked:
        if operation.verb == "echo":
            return _Asked(operation, str, Events())
        verb: Callable[..., Teller] = getattr(self, f"_do_{operation.verb}")
        try:
            return _Asked(operation, verb(*operation.words), self._hands.events())
        except ValueError as error:
            raise InputError(f"line {operation.line}: {operation.text!r}: {error}.") from error
        except OSError as error:  # there is not even memory for it
            return _Asked(operation, partial(_raise, error), self._hands.events())

    def _tell(self, asked: Sequence[_Asked]) -> Iterator[str]:
        if asked:
            self._hands.flush()
        for operation, result, events in asked:
            if operation.verb == "echo":
                yield operation.text.partition(" ")[2].strip()
                continue
            line = f"{operation.line} {operation.text} => {self._said(operation, result)}"
            if self._hands.sees_effects:
                line += f" {self._effects(operation, events.seen)}"
            yield line

    def _said(self, operation: Operation, result: Teller) -> str:
        try:
            return result()
        except OSError as error:
            notes = getattr(error, "__notes__", [])
            self.reasons[operation.line] = "; ".join(notes)
            return _number(-(error.errno or 0))

    # -- effects -----------------------------------------------------------------------------------

    def _effects(self, operation: Operation, events: Sequence[Event]) -> str:
        gone: list[int] = []
        for event in events:
            if event.vm is None:
                continue
            if event.name == "vmnew":
                new = operation.words[0] if operation.verb == "vm_create" else "?"
                self._names[event.vm], self._net[event.vm] = new, 0
            elif event.name == "vmdel":
                gone.append(event.vm)
            elif event.name in ("reg", "unreg"):
                change = 1 if event.name == "reg" else -1
                self._net[event.vm] = self._net.get(event.vm, 0) + change
        registered = sum(event.name == "reg" for event in events)
        unregistered = sum(event.name == "unreg" for event in events)
        net = [self._gone(vm) for vm in self._net if vm in gone]
        for vm in gone:
            self._net.pop(vm, None)
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

    # -- addresses ---------------------------------------------------------------------------------

    def _address(self, word: str) -> int:
        """The address that an ADDR word names; memory it needs is made for it."""
        kind, _, rest = word.partition(":")
        if kind in _RAW_ADDRESSES and not rest:
            return _RAW_ADDRESSES[kind]
        if kind == "addr":
            return number(rest)
        if kind in ("unmapped", "straddle"):
            return self._hands.memory(kind, [bytes(4)])
        if kind == "tce":
            return self._hands.memory("rw", [Fd(rest), Fd(rest)])
        if kind == "closed":
            return self._hands.memory("rw", [ClosedFd()])
        if kind == "int":
            return self._hands.memory("rw", [(number(rest) & _MASK32).to_bytes(4, "little")])
        if kind == "words":
            return self._hands.memory("rw", _words(rest))
        if kind in ("fd", "ro", "odd", "pageend"):
            return self._hands.memory("rw" if kind == "fd" else kind, [Fd(rest)])
        raise ValueError(f"there is no kind of address {word!r}")

    def _argument(self, word: str) -> int:
        try:
            return number(word)
        except ValueError:
            return self._address(word)

    # -- files -------------------------------------------------------------------------------------

    def _do_kvm_open(self, handle: str) -> Teller:
        return self._do_open(handle, "/dev/kvm")

    def _do_open(self, handle: str, path: str, mode: str = "rw") -> Teller:
        if mode not in _OPEN_FLAGS:
            raise ValueError(f"{mode!r} is none of {', '.join(_OPEN_FLAGS)}")
        return _fd(self._hands.open(handle, path, _OPEN_FLAGS[mode]))

    def _do_mkfile(self, handle: str, path: str) -> Teller:
        return _fd(self._hands.open(handle, path, fcntl.O_RDWR | fcntl.O_CREAT))

    def _do_eventfd(self, handle: str) -> Teller:
        return _fd(self._hands.eventfd(handle))

    def _do_memfd(self, handle: str) -> Teller:
        return _fd(self._hands.memfd(handle))

    def _do_socket(self, handle: str) -> Teller:
        return _fd(self._hands.socket(handle))

    def _do_pipe(self, reader: str, writer: str) -> Teller:
        return _plain(self._hands.pipe(reader, writer))

    def _do_close(self, handle: str) -> Teller:
        return _plain(self._hands.close(handle))

    def _do_dup(self, new: str, old: str) -> Teller:
        return _fd(self._hands.dup(new, old))

    def _do_read(self, handle: str) -> Teller:
        return _plain(self._hands.read(handle, 16))

    def _do_write(self, handle: str) -> Teller:
        return _plain(self._hands.write(handle, b"x"))

    def _do_signal(self, handle: str) -> Teller:
        answer = self._hands.write(handle, (1).to_bytes(8, "little"))
        self._hands.settle()
        return _plain(answer)

    def _do_mmap(self, handle: str) -> Teller:
        return _zero(self._hands.map_page(handle))

    def _do_ioctl(self, handle: str, request: str, arg: str) -> Teller:
        return _plain(self._hands.ioctl(handle, number(request), self._argument(arg)))

    def _do_child_close_exit(self) -> Teller:
        return _plain(self._hands.child_close_exit())

    def _do_child(self, verb: str, *words: str) -> Teller:
        do: Callable[..., Teller] = getattr(self, f"_do_{verb}")
        with self._hands.in_child():
            return do(*words)

    def _do_reset(self) -> Teller:
        self._hands.close_all()
        return lambda: "0"

    # -- KVM ---------------------------------------------------------------------------------------

    def _do_vm_create(self, handle: str, kvm_handle: str = "k", machine_type: str = "0") -> Teller:
        kind = number(machine_type)
        return _fd(self._hands.ioctl(kvm_handle, kvm.KVM_CREATE_VM, kind, into=handle))

    def _do_kvm_check(self, handle: str, capability: str) -> Teller:
        return _plain(self._hands.ioctl(handle, kvm.KVM_CHECK_EXTENSION, number(capability)))

    def _do_kvm_list(self, handle: str, what: str, room: str) -> Teller:
        wanted, size = _named(vcpu.LISTS, what), number(room) & _MASK32
        whole = wanted.head + min(size, vcpu.MOST_CPUID) * wanted.element
        at = self._hands.memory("rw", [size.to_bytes(4, "little"), bytes(whole - 4)])
        answer = self._hands.ioctl(handle, wanted.request, at)
        return _with_crc(answer, self._hands.peek(at, whole))

    # -- a vCPU ------------------------------------------------------------------------------------

    def _do_vcpu_create(self, handle: str, vm: str, identity: str = "0") -> Teller:
        return _fd(self._hands.ioctl(vm, kvm.KVM_CREATE_VCPU, number(identity), into=handle))

    def _do_vcpu_cpuid(self, handle: str, kvm_handle: str = "k") -> Teller:
        most = vcpu.MOST_CPUID
        at = self._hands.memory("rw", [most.to_bytes(8, "little"), bytes(40 * most)])
        self._hands.ioctl(kvm_handle, kvm_x86.KVM_GET_SUPPORTED_CPUID, at)
        return _plain(self._hands.ioctl(handle, kvm_x86.KVM_SET_CPUID2, at))

    def _do_vcpu_get(self, handle: str, what: str) -> Teller:
        state = _named(vcpu.STATES, what)
        at = self._hands.memory("rw", [bytes(state.size)])
        answer = self._hands.ioctl(handle, state.get, at)
        return _with_crc(answer, self._hands.peek(at, state.size))

    def _do_vcpu_set(self, handle: str, what: str, *changes: str) -> Teller:
        state, patches = _named(vcpu.STATES, what), [vcpu.patch(word) for word in changes]
        at = self._hands.memory("rw", [bytes(state.size)])
        self._hands.ioctl(handle, state.get, at)
        for offset, data in patches:
            if not 0 <= offset <= state.size - len(data):
                raise ValueError(f"{what} has {state.size} bytes")
            self._hands.poke(at + offset, data)
        return _plain(self._hands.ioctl(handle, state.set, at))

    def _do_msr_get(self, handle: str, index: str) -> Teller:
        at = self._hands.memory("rw", [vcpu.one_msr(number(index) & _MASK32)])
        answer = self._hands.ioctl(handle, kvm_x86.KVM_GET_MSRS, at)
        value = self._hands.peek(at + _MSR_DATA, 8)
        return lambda: f"{answer.result} {int.from_bytes(value.data, 'little'):#x}"

    def _do_msr_set(self, handle: str, index: str, value: str) -> Teller:
        one = vcpu.one_msr(number(index) & _MASK32, number(value) & _MASK64)
        at = self._hands.memory("rw", [one])
        return _plain(self._hands.ioctl(handle, kvm_x86.KVM_SET_MSRS, at))

    # -- devices of a VM ---------------------------------------------------------------------------
    def _do_kvm(self, handle: str, name: str, *words: str) -> Teller:
        request = structures.request_named(name)
        if request.layout is None or (len(words) == 1 and "=" not in words[0]):
            argument = self._argument(words[0]) if words else 0
            return _plain(self._hands.ioctl(handle, request, argument))
        content, layout = structures.wanted(request, words, self._address)
        at = self._hands.memory("rw", content)
        answer = self._hands.ioctl(handle, request, at)
        if (
            request == kvm_vm.KVM_IRQFD
        ):  # an eventfd that has been signalled raises its interrupt now
            self._hands.settle()
        if not structures.is_read_back(request):
            return _plain(answer)
        after = self._hands.peek(at, layout.size)
        return lambda: f"{answer.result}{structures.told(layout, after.data)}"

    def _do_kvm_fd(self, new: str, handle: str, name: str, argument: str = "0") -> Teller:
        request = structures.request_named(name)
        return _fd(self._hands.ioctl(handle, request, number(argument), into=new))

    def _do_dev_create(self, handle: str, vm: str, kind: str = "vfio", flags: str = "0") -> Teller:
        layout = kvm.KVM_CREATE_DEVICE_LAYOUT
        fields = (number(kind) & _MASK32, _PRESET_FD, number(flags) & _MASK32)
        at = self._hands.memory("rw", [layout.pack(layout.type(*fields))])
        fd_at = at + layout.offsets["fd"]
        result, there, link = self._hands.ioctl_with_fd(
            vm, kvm.KVM_CREATE_DEVICE, at, fd_at=fd_at, unless=_PRESET_FD, into=handle
        )

        def tell() -> str:
            untouched = there.data == _PRESET_FD.to_bytes(4, "little")
            if result.raw < 0 or untouched:
                return f"{_number(result.raw)} fd={'untouched' if untouched else 'written'}"
            return f"{result.raw} fd=new link={link.data.decode()}"

        return tell

    def _do_dev_create_addr(self, vm: str, address: str) -> Teller:
        return _plain(self._hands.ioctl(vm, kvm.KVM_CREATE_DEVICE, self._address(address)))

    def _attr(self, request: int, handle: str, words: Sequence[str]) -> Teller:
        attr_group, attr, address, flags = words
        layout = kvm.KVM_DEVICE_ATTR
        fields = (
            number(flags) & _MASK32,
            number(attr_group) & _MASK32,
            number(attr) & _MASK64,
            self._argument(address) & _MASK64,
        )
        at = self._hands.memory("rw", [layout.pack(layout.type(*fields))])
        return _plain(self._hands.ioctl(handle, request, at))

    def _do_has_attr(
        self, handle: str, attr_group: str, attr: str, flags: str = "0", address: str = "0"
    ) -> Teller:
        return self._attr(kvm.KVM_HAS_DEVICE_ATTR, handle, (attr_group, attr, address, flags))

    def _do_set_attr(
        self, handle: str, attr_group: str, attr: str, address: str, flags: str = "0"
    ) -> Teller:
        return self._attr(kvm.KVM_SET_DEVICE_ATTR, handle, (attr_group, attr, address, flags))

    def _do_get_attr(
        self, handle: str, attr_group: str, attr: str, address: str = "0", flags: str = "0"
    ) -> Teller:
        return self._attr(kvm.KVM_GET_DEVICE_ATTR, handle, (attr_group, attr, address, flags))

    def _do_group_add(self, device: str, group: str) -> Teller:
        return self._do_set_attr(device, "GROUP", "ADD", f"fd:{group}")

    def _do_group_del(self, device: str, group: str) -> Teller:
        return self._do_set_attr(device, "GROUP", "DEL", f"fd:{group}")

    # -- VFIO --------------------------------------------------------------------------------------

    def _do_container_open(self, handle: str) -> Teller:
        return self._do_open(handle, "/dev/vfio/vfio")

    def _do_group_open(self, handle: str, group: str) -> Teller:
        if group.startswith("@"):
            group = str(self._hands.group_number(_full(group[1:])))
        return self._do_open(handle, f"/dev/vfio/{group}")

    def _do_set_container(self, group: str, container: str) -> Teller:
        at = self._hands.memory("rw", [Fd(container)])
        return _plain(self._hands.ioctl(group, vfio.VFIO_GROUP_SET_CONTAINER, at))

    def _do_unset_container(self, group: str) -> Teller:
        return _plain(self._hands.ioctl(group, vfio.VFIO_GROUP_UNSET_CONTAINER, 0))

    def _do_set_iommu(self, container: str, kind: str = "type1v2") -> Teller:
        return _plain(self._hands.ioctl(container, vfio.VFIO_SET_IOMMU, number(kind)))

    def _do_check_extension(self, container: str, extension: str = "CC") -> Teller:
        return _plain(self._hands.ioctl(container, vfio.VFIO_CHECK_EXTENSION, number(extension)))

    def _do_api_version(self, container: str) -> Teller:
        return _plain(self._hands.ioctl(container, vfio.VFIO_GET_API_VERSION, 0))

    def _do_group_status(self, group: str) -> Teller:
        layout = vfio.VFIO_GROUP_STATUS
        at = self._hands.memory("rw", [layout.pack(layout.type(layout.size, 0))])
        answer = self._hands.ioctl(group, vfio.VFIO_GROUP_GET_STATUS, at)
        status = self._hands.peek(at, layout.size)
        return lambda: f"{answer.result} flags={layout.unpack(status.data).flags}"

    def _do_get_device_fd(self, handle: str, group: str, address: str) -> Teller:
        at = self._hands.memory("rw", [_full(address).encode() + b"\0"])
        request = vfio.VFIO_GROUP_GET_DEVICE_FD
        return _fd(self._hands.ioctl(group, request, at, into=handle))

    def _do_dma_map(self, container: str, iova: str, size: str) -> Teller:
        layout, length = vfio.VFIO_IOMMU_TYPE1_DMA_MAP, number(size) & _MASK64
        if length > _MOST_FRESH:
            raise OSError(errno.ENOMEM, "the machine of the recordings has less")
        memory = self._hands.fresh(max(length, 1))
        flags = vfio.VFIO_DMA_MAP_FLAG_READ | vfio.VFIO_DMA_MAP_FLAG_WRITE
        fields = (layout.size, flags, memory, number(iova) & _MASK64, length)
        at = self._hands.memory("rw", [layout.pack(layout.type(*fields))])
        return _plain(self._hands.ioctl(container, vfio.VFIO_IOMMU_MAP_DMA, at))

    def _do_dma_unmap(self, container: str, iova: str, size: str, flags: str = "0") -> Teller:
        layout = vfio.VFIO_IOMMU_TYPE1_DMA_UNMAP
        fields = (layout.size, number(flags) & _MASK32, number(iova) & _MASK64)
        at = self._hands.memory("rw", [layout.pack(layout.type(*fields, number(size) & _MASK64))])
        answer = self._hands.ioctl(container, vfio.VFIO_IOMMU_UNMAP_DMA, at)
        after = self._hands.peek(at, layout.size)
        return lambda: f"{answer.result} size={layout.unpack(after.data).size:#x}"

    # -- the referee's hand ------------------------------------------------------------------------

    def _do_bind(self, address: str, driver: str) -> Teller:
        answer = self._hands.bind(_full(address), None if driver == "-" else driver)
        return lambda: f"{answer.result} driver={answer.data.decode() or '-'}"

    def _do_unbind(self, address: str) -> Teller:
        return _plain(self._hands.bind(_full(address), None))

    def _do_force_coh(self, group: str, answer: str) -> Teller:
        forced = None if answer == "real" else answer == "1"
        return _plain(self._hands.force_coherency(group, answer=forced))


def _words(text: str) -> list[bytes | Fd | ClosedFd]:
    """The int32s of a structure, `5,0xffffffff,fd:H`, and room for as much as the first one says.

    A structure that grows begins with its own size.
    """
    words = text.split(",")
    pieces: list[bytes | Fd | ClosedFd] = [
        Fd(word.removeprefix("fd:"))
        if word.startswith("fd:")
        else (number(word) & _MASK32).to_bytes(4, "little")
        for word in words
    ]
    size = 0 if words[0].startswith("fd:") else number(words[0])
    if 4 * len(words) < size <= _PAGE:
        pieces.append(bytes(size - 4 * len(words)))
    return pieces


_Value = TypeVar("_Value")


def _named(table: Mapping[str, _Value], name: str) -> _Value:
    if name not in table:
        raise ValueError(f"{name!r} is none of {', '.join(table)}")
    return table[name]


def _with_crc(answer: Answer, content: Answer) -> Teller:
    """The result, and what memory holds then, in short."""
    return lambda: f"{answer.result} crc={crc32(content.data):08x}"


def _raise(error: OSError) -> str:
    raise error


def _plain(answer: Answer) -> Teller:
    return lambda: str(answer.result)


def _zero(answer: Answer) -> Teller:
    return lambda: str(min(answer.result, 0))


def _fd(answer: Answer) -> Teller:
    return lambda: "fd" if answer.result >= 0 else ""


def _number(raw: int) -> str:
    return str(raw) if raw >= 0 else f"-{errno.errorcode.get(-raw, str(-raw))}"


def _full(address: str) -> str:
    """A BDF with its PCI segment; any other word stays as it is."""
    return f"0000:{address}" if address.count(":") == 1 and "." in address else address
