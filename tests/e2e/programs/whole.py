# SPDX-License-Identifier: GPL-2.0-only
"""The whole sequence of whole.c, in Python with nothing but its library."""

import errno
import fcntl
import os
import struct
from array import array
from collections.abc import Callable

CREATE_VM, CREATE_DEVICE = 0xAE01, 0xC00CAEE0
SET_DEVICE_ATTR, HAS_DEVICE_ATTR = 0x4018AEE1, 0x4018AEE3
VFIO = 0x3B64
ADD, DEL = 1, 2


def value(name: str, call: Callable[[], int]) -> int:
    try:
        result = call()
    except OSError as error:
        print(f"{name}: {errno.errorcode[error.errno or 0]}")
        return -1
    print(f"{name}: {result}")
    return result


def step(name: str, call: Callable[[], int]) -> int:
    results = [-1]

    def remember() -> int:
        results[0] = call()
        return 0

    value(name, remember)
    return results[0]


def opened(path: str) -> Callable[[], int]:
    return lambda: os.open(path, os.O_RDWR)


def new_device() -> int:
    create = bytearray(struct.pack("III", 4, 0, 0))
    fcntl.ioctl(vm, CREATE_DEVICE, create)
    fd: int = struct.unpack("III", create)[1]
    return fd


def attribute(request: int, number: int, fd: int) -> Callable[[], int]:
    def call() -> int:
        target = array("i", [fd])
        packed = struct.pack("IIQQ", 0, 1, number, target.buffer_info()[0])
        fcntl.ioctl(device, request, packed)
        return 0

    return call


kvm = step("open kvm", opened("/dev/kvm"))
vm = step("create vm", lambda: fcntl.ioctl(kvm, CREATE_VM, 0))
container = step("open container", opened("/dev/vfio/vfio"))
group = step("open group", opened("/dev/vfio/1"))
step("open group again", opened("/dev/vfio/1"))
value("api version", lambda: fcntl.ioctl(container, VFIO))
value("type1v2", lambda: fcntl.ioctl(container, VFIO + 1, 3))
status = bytearray(struct.pack("II", 8, 0))
step("status", lambda: fcntl.ioctl(group, VFIO + 3, status))
value("flags", lambda: struct.unpack("II", status)[1])
step("set iommu too early", lambda: fcntl.ioctl(container, VFIO + 2, 3))
step("set container", lambda: fcntl.ioctl(group, VFIO + 4, array("i", [container])))
step("set iommu", lambda: fcntl.ioctl(container, VFIO + 2, 3))
device = step("create device", new_device)
step("create device again", new_device)
step("has add", attribute(HAS_DEVICE_ATTR, ADD, 0))
step("has 9", attribute(HAS_DEVICE_ATTR, 9, 0))
step("add", attribute(SET_DEVICE_ATTR, ADD, group))
step("add again", attribute(SET_DEVICE_ATTR, ADD, group))
step("add container", attribute(SET_DEVICE_ATTR, ADD, container))
step("add closed", attribute(SET_DEVICE_ATTR, ADD, 999))
os.close(group)
step("open member", opened("/dev/vfio/1"))
group = step("open other group", opened("/dev/vfio/2"))
step("add other", attribute(SET_DEVICE_ATTR, ADD, group))
step("del other", attribute(SET_DEVICE_ATTR, DEL, group))
step("del other again", attribute(SET_DEVICE_ATTR, DEL, group))
os.close(device)
os.close(container)
step("reopen group", opened("/dev/vfio/1"))
step("create device anew", new_device)
