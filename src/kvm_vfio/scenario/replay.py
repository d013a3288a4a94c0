# SPDX-License-Identifier: GPL-2.0-only
"""A recorded program as a scenario: its calls in the scenario language, with their answers.

Rule of this file: a call becomes an operation that asks the same, or a comment that says it was
left out; nothing is guessed. Files have the names of what they are ("group_4"). A group is opened
by the address of a device in it, because another kernel may number groups otherwise.

Memory for DMA is fresh memory, and regions are not read or written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import normpath
from struct import unpack
from typing import Any

from kvm_vfio.errors import InputError
from kvm_vfio.machine.model import Machine, PciDevice
from kvm_vfio.scenario.language import IN_CHILD
from kvm_vfio.trace.requests import known_requests
from kvm_vfio.trace.schema import CONTINUED, Call, Close, Decision, Header, Object, Record
from kvm_vfio.trace.text import attribute, call_text, close_text, fields
from kvm_vfio.uapi.kvm import KVM_CAP_NR_VCPUS, KVM_DEV_TYPE_VFIO, KVMIO
from kvm_vfio.uapi.layout import Layout
from kvm_vfio.uapi.vfio import (
    VFIO_DMA_MAP_FLAG_READ,
    VFIO_DMA_MAP_FLAG_WRITE,
    VFIO_GROUP_SET_CONTAINER,
    VFIO_IRQ_SET,
)

_MOST_WORDS = 256  # of a structure
_EVENTFDS, _DATA = 1 << 2, 0x7  # of VFIO_DEVICE_SET_IRQS
_KVM = "kvm"
_OF_PATHS = {"/dev/kvm": "kvm", "/dev/vfio/vfio": "container"}


@dataclass(frozen=True, slots=True)
class Step:
    """An operation with the answer that the program got; without one, a comment."""

    text: str
    answer: str | None = None
    n: int = 0


@dataclass(slots=True)
class Replay:
    """A whole program. `machine` is what it saw, `linux` whose answers it got."""

    machine: Machine
    linux: str
    steps: list[Step] = field(default_factory=list)

    def script(self) -> str:
        """The scenario, a line an operation."""
        return "".join(
            f"{step.text}\n" if step.answer is not None else f"# {step.text}\n"
            for step in self.steps
        )

    def operations(self) -> list[Step]:
        """The steps that are operations."""
        return [step for step in self.steps if step.answer is not None]

    def snoop(self) -> bool:
        """Whether every IOMMU of the machine has snoop control."""
        return all(iommu.snoop_control for iommu in self.machine.iommus)

    def require_devices(self, other: Machine) -> None:
        """InputError: the program used a device that `other` does not have, or has another."""
        used = {word for step in self.operations() for word in step.text.split()}
        there = {device.address: _identity(device) for _, device in other.devices()}
        for _, device in self.machine.devices():
            address = device.address
            if {address, f"@{address}"} & used and there.get(address) != _identity(device):
                raise InputError(
                    f"the program used {address} of the machine {self.machine.name}, and"
                    f" {other.name} has no such device there; record it with --machine"
                    f" {other.name}"
                )


def _identity(device: PciDevice) -> tuple[int, int]:
    return device.vendor, device.device


def replay(records: Iterable[Record]) -> Replay:
    """The scenario in a trace. InputError: it has no header."""
    making: _Making | None = None
    for record in records:
        if isinstance(record, Header):
            making = _Making(Replay(record.machine, record.linux))
        elif making is not None:
            making.take(record)
    if making is None:
        raise InputError("there is no trace to replay")
    making.finish()
    return making.replay


class _Making:
    def __init__(self, made: Replay) -> None:
        self.replay = made
        self._names: dict[int, str] = {}  # file -> handle
        self._host: dict[int, str] = {}  # fd of a VM that is the computer's own -> handle
        self._vms = 0
        self._events: dict[int, str] = {}  # fd of an eventfd -> handle
        self._others = False
        self._call: Call | None = None  # waits for its decisions

    # A KVM_CREATE_DEVICE is told only when it is known which VM it was for: its decisions say so.

    def take(self, record: Record) -> None:
        if isinstance(record, Decision):
            if record.did == "vm made" and self._call is not None and not self._call.file:
                self._host_vm(self._call)
            return
        self.finish()
        if isinstance(record, Call) and record.answer != CONTINUED:
            self._call = record
        elif isinstance(record, Close):
            self._close(record)

    def finish(self) -> None:
        """Tell the call that waits."""
        call, self._call = self._call, None
        if call is not None:
            self._tell(call)

    def _host_vm(self, call: Call) -> None:
        """The program has made a VM with this computer's own KVM, and we did not see it."""
        if not self._vms:
            self._step(f"kvm_open {_KVM}", "fd", call)
        self._vms += 1
        self._host[call.fd or 0] = f"vm_{self._vms}"
        self._step(f"vm_create vm_{self._vms} {_KVM}", "fd", call)

    def _step(self, text: str, answer: str, call: Call | Close) -> None:
        self.replay.steps.append(Step(text, answer, call.n))

    def _comment(self, text: str) -> None:
        self.replay.steps.append(Step(text))

    # -- files -------------------------------------------------------------------------------------

    def _name(self, found: Object) -> str:
        if found.file and found.file in self._names:
            return self._names[found.file]
        if "eventfd" in found.what:
            return self._event(found.fd)
        if found.what:
            return self._other()
        return "nothing" if found.fd < 0 else "closed"

    def _event(self, fd: int) -> str:
        if fd not in self._events:
            self._events[fd] = f"event_{fd}"
            self._aside(f"eventfd event_{fd}")
        return self._events[fd]

    def _other(self) -> str:
        """A file that is no VFIO file, whichever it was."""
        if not self._others:
            self._others = True
            self._aside("open other /dev/null")
        return "other"

    def _aside(self, text: str) -> None:
        """An operation that the replay needs and that was no call of the trace."""
        self.replay.steps.append(Step(text, "fd"))

    def _new(self, call: Call) -> str:
        """The handle for what the call made; one that is used for nothing when it failed."""
        if not call.made:
            return "nothing"
        made = call.made[0]
        kind = made.what.split(" ")[0].split(":")[0]
        name = self._names[made.file] = f"{kind}_{made.file}"
        return name

    def _close(self, close: Close) -> None:
        name = self._names.pop(close.file, None)
        if name is None:
            self._comment(close_text(close))
        else:
            self._step(f"close {name}", "0", close)

    # -- calls -------------------------------------------------------------------------------------

    def _tell(self, call: Call) -> None:
        if call.fault or not call.modelled:
            self._comment(f"left out, no answer of a kernel: {call_text(call)}")
            return
        args = fields(call.args)
        subject = self._names.get(call.file) or self._host.get(-1 if call.fd is None else call.fd)
        asked = self._open(call, args) if "path" in args else None
        if asked is None and subject is not None:
            asked = self._ask(call, subject, args)
        if asked is None:
            self._comment(f"left out: {call_text(call)}")
            return
        answer = "fd" if call.made and call.answer == call.made[0].fd else str(call.answer)
        self._step(asked, answer if isinstance(call.answer, int) else f"-{answer}", call)

    def _ask(self, call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        if call.answer == "EFAULT" and "attr" not in args:
            # What could be read and not written is left out: fresh memory can be both.
            return self._raw(call, subject, args) if args.keys() == {"arg"} else None
        make = _OPERATIONS.get(call.call)
        asked = (make(self, call, subject, args) if make else None) or self._raw(
            call, subject, args
        )
        if asked is not None and call.answer == "EIO" and "process that made it" in call.why:
            return f"child {asked}" if asked.split()[0] in IN_CHILD else None
        return asked

    def _open(self, call: Call, args: Mapping[str, Any]) -> str | None:
        """What came of an open says what was opened, however the program named it."""
        path = normpath(args["path"])
        what = call.made[0].what if call.made else _OF_PATHS.get(path, path)
        kind, _, which = what.rpartition(" ")
        number = which if kind == "group" else what.removeprefix("/dev/vfio/")
        if what == "kvm":
            return f"kvm_open {self._new(call)}"
        if kind == "container" or what == "container":
            return f"container_open {self._new(call)}"
        devices = self._groups().get(number)
        if devices:
            return f"group_open {self._new(call)} @{devices[0]}"
        odd = not what.startswith("/dev/vfio/") or what.split() != [what]
        return None if odd else f"open {self._new(call)} {what}"

    def _groups(self) -> dict[str, list[str]]:
        return {
            str(group.number): [device.address for device in group.devices]
            for _, group in self.replay.machine.groups()
        }

    def _raw(self, call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        """An ioctl as it was: a number, or a structure word by word."""
        request = known_requests().get(call.call)
        if request is None:
            return None
        if call.call == "KVM_CHECK_EXTENSION":  # of how many CPUs this computer has
            return None
        if request >> 8 & 0xFF == KVMIO and request.layout is not None and call.answer != "EFAULT":
            # Structures of KVM's hold addresses and eventfds of the program, and lists that follow.
            return None
        if args.keys() == {"arg"}:
            # What was not read is an address that cannot be, or an argument that is none.
            argument = "bad" if call.answer == "EFAULT" else hex(args["arg"])
            return f"ioctl {subject} {int(request):#x} {argument}"
        if request.layout is None or (data := _bytes(request.layout, args)) is None:
            return None
        words = [str(word) for word in unpack(f"<{len(data) // 4}I", data)]
        if request.layout is VFIO_IRQ_SET:
            tail = self._irq_data(call, args)
            if tail is None:
                return None
            words += tail
        return f"ioctl {subject} {int(request):#x} words:{','.join(words)}"

    def _irq_data(self, call: Call, args: Mapping[str, Any]) -> list[str] | None:
        count, kind = args["count"], args["flags"] & _DATA
        if kind != _EVENTFDS or not count:
            return [] if kind == 1 or not count else None
        if not call.looked_up:
            return [str(0xFFFF_FFFF)] * count if count <= _MOST_WORDS else None
        if len(call.looked_up) != count:
            return None
        return [f"fd:{self._name(found)}" for found in call.looked_up]

    # -- operations that the language has a word for -----------------------------------------------

    def _create_vm(self, call: Call, subject: str, args: Mapping[str, Any]) -> str:
        return f"vm_create {self._new(call)} {subject} {args['arg']}"

    def _check_extension(self, _call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        if args["arg"] == KVM_CAP_NR_VCPUS:
            return None
        return f"kvm_check {subject} {args['arg']}"

    def _create_device(self, call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        if "type" not in args:
            return f"dev_create_addr {subject} bad"
        kind = "vfio" if args["type"] == KVM_DEV_TYPE_VFIO else args["type"]
        return f"dev_create {self._new(call)} {subject} {kind} {args['flags']}"

    def _attribute(self, call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        if "attr" not in args:
            return None
        verb = call.call.removeprefix("KVM_").partition("_")[0].lower()
        words = f"{args['group']} {args['attr']}"
        if verb != "set":
            at = " int:0" if verb == "get" and call.answer != "EFAULT" else ""
            return f"{verb}_attr {subject} {words}{at}"
        if attribute(call) not in ("GROUP_ADD", "GROUP_DEL"):
            return f"set_attr {subject} {words} null {args['flags']}"
        if not call.looked_up:
            return f"set_attr {subject} {words} bad"
        name = self._name(call.looked_up[0])
        if name == "closed":
            return f"set_attr {subject} {words} closed"
        return f"{attribute(call).lower()} {subject} {name}"

    def _set_container(self, call: Call, subject: str, _args: Mapping[str, Any]) -> str | None:
        if not call.looked_up:
            return None
        name = self._name(call.looked_up[0])
        if name == "closed":
            return f"ioctl {subject} {int(VFIO_GROUP_SET_CONTAINER):#x} closed"
        return f"set_container {subject} {name}"

    def _map(self, _call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        known = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE
        if "iova" not in args or not args["flags"] & known or args["flags"] & ~known:
            return None
        return f"dma_map {subject} {args['iova']:#x} {args['size']:#x}"

    def _unmap(self, _call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        if "iova" not in args:
            return None
        return f"dma_unmap {subject} {args['iova']:#x} {args['size']:#x} {args['flags']}"

    def _device_fd(self, call: Call, subject: str, args: Mapping[str, Any]) -> str | None:
        text = args.get("text", "")
        if not text or text.split() != [text]:
            return None
        return f"get_device_fd {self._new(call)} {subject} {text}"


_Make = Callable[[_Making, Call, str, Mapping[str, Any]], "str | None"]


def _plain(verb: str, *, value: bool = False) -> _Make:
    def make(_making: _Making, _call: Call, subject: str, args: Mapping[str, Any]) -> str:
        return f"{verb} {subject} {args['arg']}" if value else f"{verb} {subject}"

    return make


_OPERATIONS: dict[str, _Make] = {
    "KVM_CREATE_VM": _Making._create_vm,  # noqa: SLF001 - this table is a part of the class
    "KVM_CREATE_DEVICE": _Making._create_device,  # noqa: SLF001
    "KVM_CHECK_EXTENSION": _Making._check_extension,  # noqa: SLF001
    "KVM_SET_DEVICE_ATTR": _Making._attribute,  # noqa: SLF001
    "KVM_HAS_DEVICE_ATTR": _Making._attribute,  # noqa: SLF001
    "KVM_GET_DEVICE_ATTR": _Making._attribute,  # noqa: SLF001
    "VFIO_GET_API_VERSION": _plain("api_version"),
    "VFIO_CHECK_EXTENSION": _plain("check_extension", value=True),
    "VFIO_SET_IOMMU": _plain("set_iommu", value=True),
    "VFIO_GROUP_GET_STATUS": _plain("group_status"),
    "VFIO_GROUP_SET_CONTAINER": _Making._set_container,  # noqa: SLF001
    "VFIO_GROUP_UNSET_CONTAINER": _plain("unset_container"),
    "VFIO_GROUP_GET_DEVICE_FD": _Making._device_fd,  # noqa: SLF001
    "VFIO_IOMMU_MAP_DMA": _Making._map,  # noqa: SLF001
    "VFIO_IOMMU_UNMAP_DMA": _Making._unmap,  # noqa: SLF001
}


def _bytes(layout: Layout[Any], args: Mapping[str, Any]) -> bytes | None:
    """The structure, with room for as much as its argsz says; None: it is not whole words."""
    if not set(args) <= set(layout.offsets):
        return None
    blank = layout.unpack(bytes(layout.size))._asdict()
    given = {
        name: bytes.fromhex(value) if isinstance(value, str) else value
        for name, value in args.items()
    }
    data = layout.pack(layout.type(**(blank | given)))
    return data if len(data) % 4 == 0 and len(data) <= 4 * _MOST_WORDS else None


@dataclass(frozen=True, slots=True)
class Other:
    """A step that a kernel answered otherwise."""

    step: Step
    answer: str


def compare(steps: Iterable[Step], lines: Iterable[str]) -> Iterator[Other]:
    """Where the lines of a runner have another answer than the program got."""
    for step, line in zip(steps, lines, strict=True):
        answer = line.partition(" => ")[2].split(" ")[0]
        made = step.answer == "fd" and answer.isdecimal()  # a raw ioctl says which number
        if answer != step.answer and not made:
            yield Other(step, answer)
