# SPDX-License-Identifier: GPL-2.0-only
"""A program that makes many calls: VMs that come and go, each with two groups, one added twice."""

import array
import ctypes
import fcntl
import mmap
import os
import struct
import sys
from contextlib import suppress

KVM_CREATE_VM = 0xAE01
KVM_CREATE_DEVICE = 0xC00CAEE0
KVM_SET_DEVICE_ATTR = 0x4018AEE1
SET_CONTAINER, SET_IOMMU, MAP_DMA, UNMAP_DMA = 0x3B68, 0x3B66, 0x3B71, 0x3B72
PAGE = 4096
CALLS_A_ROUND = 233


def tell_kvm(device: int, attr: int, group: int) -> None:
    fd = array.array("i", [group])
    fcntl.ioctl(device, KVM_SET_DEVICE_ATTR, struct.pack("=IIQQ", 0, 1, attr, fd.buffer_info()[0]))


def a_round(kvm: int, memory: int) -> None:
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    create = bytearray(struct.pack("=III", 4, 0, 0))
    fcntl.ioctl(vm, KVM_CREATE_DEVICE, create)
    device = struct.unpack("=III", create)[1]
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    groups = [os.open(f"/dev/vfio/{number}", os.O_RDWR) for number in (1, 2)]
    for group in groups:
        fcntl.ioctl(group, SET_CONTAINER, struct.pack("=i", container))
    fcntl.ioctl(container, SET_IOMMU, 3)
    for group in (*groups, groups[0]):
        with suppress(FileExistsError):
            tell_kvm(device, 1, group)
    for page in range(110):
        start = page * PAGE
        fcntl.ioctl(container, MAP_DMA, struct.pack("=IIQQQ", 32, 3, memory, start, PAGE))
    for page in range(110):
        fcntl.ioctl(container, UNMAP_DMA, struct.pack("=IIQQ", 24, 0, page * PAGE, PAGE))
    for group in groups:
        tell_kvm(device, 2, group)
    for fd in (device, *groups, container, vm):
        os.close(fd)


def main(calls: str) -> None:
    kvm = os.open("/dev/kvm", os.O_RDWR)
    memory = mmap.mmap(-1, PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for _ in range(-(-int(calls) // CALLS_A_ROUND)):
        a_round(kvm, start)


main(*sys.argv[1:])
