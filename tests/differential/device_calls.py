# SPDX-License-Identifier: GPL-2.0-only
"""Random calls on a VFIO device, the same on any kernel.

Rule of this file: only the waist. What a call answers is its result, or the errno, with all that
came back in memory; a seed says which calls are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import errorcode
from random import Random
from typing import NamedTuple

from kvm_vfio.syscalls import Syscalls
from kvm_vfio.uapi import vfio
from kvm_vfio.uapi.fcntl import O_RDWR

CONFIG = 7 << 40
RAW = 0x60
GROUPS = {"0000:00:10.0": 1, "0000:00:11.0": 2, "0000:00:13.0": 4}
_MOST = 64


class Answer(NamedTuple):
    """One call, as a person would write it, and what came of it."""

    call: str
    result: object


class Device:
    """An open device, and the eventfds that it is told about."""

    def __init__(self, linux: Syscalls, address: str) -> None:
        self.linux = linux
        self.address = address
        self.container = linux.open("/dev/vfio/vfio", O_RDWR)
        self.group = linux.open(f"/dev/vfio/{GROUPS[address]}", O_RDWR)
        number = linux.buffer(4)
        number.write(self.container.to_bytes(4, "little"))
        linux.ioctl(self.group, vfio.VFIO_GROUP_SET_CONTAINER, number)
        linux.ioctl(self.container, vfio.VFIO_SET_IOMMU, vfio.VFIO_TYPE1v2_IOMMU)
        self.fd = self._open()
        self.events = [linux.eventfd() for _ in range(4)]
        # What no capability claims is the hardware's, and has outlived those who were here before.
        self.linux.pwrite(self.fd, bytes(0xC0), CONFIG + 0x40)
        self.reopen()

    def _open(self) -> int:
        name = self.linux.buffer(64)
        name.write(self.address.encode() + b"\0")
        return self.linux.ioctl(self.group, vfio.VFIO_GROUP_GET_DEVICE_FD, name)

    def close(self) -> None:
        """Give back what was opened."""
        for fd in (self.fd, *self.events, self.group, self.container):
            self.linux.close(fd)

    def ioctl(self, request: int, data: bytes) -> object:
        """The result and the structure after the call."""
        buffer = self.linux.buffer(_MOST)
        buffer.write(data)
        result = self.linux.ioctl(self.fd, request, buffer)
        return result, buffer.read().hex()

    def reopen(self) -> int:
        """Close the device, and open it again."""
        self.linux.close(self.fd)
        self.fd = self._open()
        return 0


def answers(linux: Syscalls, address: str, seed: int, count: int) -> Iterator[Answer]:
    """Make `count` calls."""
    random = Random(seed)
    device = Device(linux, address)
    for _ in range(count):
        kind = random.choice(_KINDS)
        call, make = kind(random, device)
        yield Answer(call, _outcome(make))
    device.close()


def _outcome(make: Callable[[], object]) -> object:
    try:
        return make()
    except OSError as error:
        return errorcode[error.errno or 0]


_Call = tuple[str, Callable[[], object]]


_HEADER, _RAW, _EXTENDED = range(0x40), range(RAW, RAW + 8), range(0x100, 0x14C)
_READ = (*_HEADER, *range(0xA0, 0xF8), *_RAW, *_EXTENDED, 0xFE, 0x3FFD)
_WRITTEN = (*_HEADER[:0x3D], *range(0xA0, 0xDC), *range(0xE0, 0xF4), *_RAW[:4])


def _read_config(random: Random, device: Device) -> _Call:
    offset, size = random.choice(_READ), random.randrange(10)
    call = lambda: device.linux.pread(device.fd, size, CONFIG + offset).hex()  # noqa: E731
    return f"read {size} at {offset:#x}", call


def _write_config(random: Random, device: Device) -> _Call:
    offset = random.choice(_WRITTEN)
    value = random.choice([0, 0xFFFF_FFFF, random.getrandbits(32)])
    data = value.to_bytes(4, "little")[: random.choice([1, 2, 4])]
    call = lambda: device.linux.pwrite(device.fd, data, CONFIG + offset)  # noqa: E731
    return f"write {data.hex()} at {offset:#x}", call


def _read_region(random: Random, device: Device) -> _Call:
    """How much is read, not what: BARs hold what devices do."""
    index, size = random.randrange(11), random.randrange(12)
    near = random.choice([0, 0x20, 0x100, 0x1000, 0x4000, 0x20000, 0x100000, 1 << 40])
    offset = (index << 40) + max(near - random.randrange(12), 0)
    call = lambda: len(device.linux.pread(device.fd, size, offset))  # noqa: E731
    return f"read {size} at {offset:#x}", call


def _info(request: int, name: str) -> Callable[[Random, Device], _Call]:
    def kind(random: Random, device: Device) -> _Call:
        argsz, index = random.randrange(48), random.choice([*range(10), 0xFFFF_FFFF])
        data = argsz.to_bytes(4, "little") + bytes(4) + index.to_bytes(4, "little") + bytes(36)
        return f"{name}, argsz {argsz}, index {index}", lambda: device.ioctl(request, data)

    return kind


def _set_irqs(random: Random, device: Device) -> _Call:
    data_kind, action = random.choice([1, 2, 4, 4, 4, 0, 5]), random.choice([8, 16, 32, 32, 32, 0])
    index = random.choice([0, 1, 1, 2, 2, 2, 3, 4, 5])
    start, count = random.choice([0, 0, 0, 1, 3]), random.choice([0, 1, 1, 1, 2, 5])
    picks = [random.choice([0, 1, 2, 3, -1, -1, -7, 999]) for _ in range(count)]
    fds = [device.events[pick] if 0 <= pick < len(device.events) else pick for pick in picks]
    data = b"".join(fd.to_bytes(4, "little", signed=True) for fd in fds)
    if data_kind == vfio.VFIO_IRQ_SET_DATA_BOOL:
        data = bytes(random.randrange(2) for _ in range(count))
    argsz = 20 + len(data) + random.choice([0, 0, 0, 0, -1, 8])
    head = vfio.VFIO_IRQ_SET.pack_fields(argsz, data_kind | action, index, start, count)
    what = f"argsz {argsz}, data {data_kind}, action {action}"
    text = f"SET_IRQS {what}, {index}: {start}+{count} {picks}"

    def call() -> object:
        buffer = device.linux.buffer(_MOST)
        buffer.write(head + data)
        return device.linux.ioctl(device.fd, vfio.VFIO_DEVICE_SET_IRQS, buffer)

    return text, call


def _hear(random: Random, device: Device) -> _Call:
    which = random.randrange(len(device.events))
    return f"read event {which}", lambda: device.linux.read(device.events[which], 8).hex()


def _feature(random: Random, device: Device) -> _Call:
    """Not the one with a wake-up: when a device falls asleep is chance."""
    number = random.choice([0, 1, 2, 3, 5, 6, 9, 10, 12, 99])
    how, argsz = random.choice([1, 2, 4, 5, 6, 0, 3, 7, 8]) << 16, random.choice([8, 8, 8, 7, 16])
    data = vfio.VFIO_DEVICE_FEATURE_LAYOUT.pack_fields(argsz, how | number)
    call = lambda: device.ioctl(vfio.VFIO_DEVICE_FEATURE, data)  # noqa: E731
    return f"feature {number}, {how:#x}, argsz {argsz}", call


def _reset(random: Random, device: Device) -> _Call:
    return "reset", lambda: device.linux.ioctl(device.fd, vfio.VFIO_DEVICE_RESET)


def _reopen(random: Random, device: Device) -> _Call:
    return "reopen", device.reopen


_KINDS = (
    *(_read_config, _write_config, _set_irqs) * 4,
    *(_read_region, _hear) * 2,
    _info(vfio.VFIO_DEVICE_GET_INFO, "info"),
    _info(vfio.VFIO_DEVICE_GET_REGION_INFO, "region info"),
    _info(vfio.VFIO_DEVICE_GET_IRQ_INFO, "IRQ info"),
    _feature,
    _reset,
    _reopen,
)
