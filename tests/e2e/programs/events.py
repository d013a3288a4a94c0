# SPDX-License-Identifier: GPL-2.0-only
"""An eventfd between KVM and VFIO, without anything of kvm_vfio: "step: answer" a line."""

import ctypes
import os
import struct
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
KVM_CREATE_IRQCHIP, KVM_GET_STATS_FD = 0xAE60, 0xAECE
KVM_GET_IRQCHIP, KVM_IRQFD = 0xC208AE62, 0x4020AE76
VFIO_DEVICE_SET_IRQS, MSI, EVENTFD, NO_DATA, TRIGGER = 0x3B6E, 2, 4, 1, 32  # MSI-X


def ioctl(fd: int, request: int, data: bytearray | None = None) -> Any:  # noqa: ANN401
    """The answer, or the name of the errno; `data` is changed in place."""
    argument = (ctypes.c_char * len(data)).from_buffer(data) if data else None
    answer = libc.ioctl(fd, ctypes.c_ulong(request), argument)
    return answer if answer >= 0 else os.strerror(ctypes.get_errno())


def irqfd(event: int, gsi: int, flags: int = 0) -> Any:  # noqa: ANN401
    return ioctl(vm, KVM_IRQFD, bytearray(struct.pack("=IIII16s", event, gsi, flags, 0, b"")))


def pending(chip: int, at: int) -> str:
    """What an interrupt controller has pending: `at` is where its state says so."""
    state = bytearray(struct.pack("=II512s", chip, 0, b""))
    ioctl(vm, KVM_GET_IRQCHIP, state)
    return hex(int.from_bytes(state[8 + at : 8 + at + 4], "little"))


def read(event: int) -> int | str:
    try:
        return os.eventfd_read(event)
    except BlockingIOError:
        return "nothing"


vm = ioctl(os.open("/dev/kvm", os.O_RDWR), 0xAE01)
print("irqchip:", ioctl(vm, KVM_CREATE_IRQCHIP))

ours, other = os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)
print("irqfd:", irqfd(ours, 5))
print("the same again:", irqfd(ours, 6))
print("the same by another number:", irqfd(os.dup(ours), 6))
print("before:", hex(int(pending(0, 1), 16) & 0xFF))
os.eventfd_write(ours, 3)
print("signalled:", hex(int(pending(0, 1), 16) & 0xFF))
print("taken:", read(ours))
print("away:", irqfd(ours, 5, 1))
os.eventfd_write(ours, 2)
print("for itself:", read(ours))

group, container = os.open("/dev/vfio/3", os.O_RDWR), os.open("/dev/vfio/vfio", os.O_RDWR)
ioctl(group, 0x3B68, bytearray(struct.pack("=i", container)))
libc.ioctl(container, ctypes.c_ulong(0x3B66), 3)
device = ioctl(group, 0x3B6A, bytearray(b"0000:00:12.0\0"))
routed = bytearray(struct.pack("=IIIIIi", 24, EVENTFD | TRIGGER, MSI, 0, 1, other))
print("MSI:", ioctl(device, VFIO_DEVICE_SET_IRQS, routed))
loopback = struct.pack("=IIIII", 20, NO_DATA | TRIGGER, MSI, 0, 1)
ioctl(device, VFIO_DEVICE_SET_IRQS, bytearray(loopback))
print("without KVM:", read(other))
print("irqfd of the device:", irqfd(other, 20))
ioctl(device, VFIO_DEVICE_SET_IRQS, bytearray(loopback))
print("with KVM:", read(other))
print("in the IOAPIC:", pending(2, 16))

statistics = ioctl(vm, KVM_GET_STATS_FD)
size = struct.unpack("=6I", os.pread(statistics, 24, 0))[5]
print("statistics:", len(os.read(statistics, 1 << 16)) > size, os.pread(statistics, 5, 24).decode())
