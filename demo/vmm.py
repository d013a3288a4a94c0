# SPDX-License-Identifier: GPL-2.0-only
"""The calls of vmm.c, for a machine without a compiler. Nothing of kvm_vfio is imported here."""

import array
import ctypes
import fcntl
import mmap
import os
import struct
import sys

KVM_CREATE_VM = 0xAE01
KVM_CREATE_DEVICE = 0xC00CAEE0
KVM_SET_DEVICE_ATTR = 0x4018AEE1
GROUP_GET_STATUS, GROUP_SET_CONTAINER, GROUP_GET_DEVICE_FD = 0x3B67, 0x3B68, 0x3B6A
SET_IOMMU, IOMMU_GET_INFO, IOMMU_MAP_DMA = 0x3B66, 0x3B70, 0x3B71
DEVICE_GET_REGION_INFO = 0x3B6C
MEMORY = 16 << 20


def tell_kvm(device: int, attr: int, group: int) -> None:
    fd = array.array("i", [group])
    fcntl.ioctl(device, KVM_SET_DEVICE_ATTR, struct.pack("=IIQQ", 0, 1, attr, fd.buffer_info()[0]))


def main(number: str, address: str) -> None:
    kvm = os.open("/dev/kvm", os.O_RDWR)
    vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)

    group = os.open(f"/dev/vfio/{number}", os.O_RDWR)
    fcntl.ioctl(group, GROUP_GET_STATUS, bytearray(struct.pack("=II", 8, 0)))
    container = os.open("/dev/vfio/vfio", os.O_RDWR)
    fcntl.ioctl(group, GROUP_SET_CONTAINER, struct.pack("=i", container))
    fcntl.ioctl(container, SET_IOMMU, 3)
    fcntl.ioctl(container, IOMMU_GET_INFO, bytearray(struct.pack("=IIQII", 24, 0, 0, 0, 0)))

    create = bytearray(struct.pack("=III", 4, 0, 0))
    fcntl.ioctl(vm, KVM_CREATE_DEVICE, create)
    kvm_vfio = struct.unpack("=III", create)[1]
    tell_kvm(kvm_vfio, 1, group)

    memory = mmap.mmap(-1, MEMORY, mmap.MAP_PRIVATE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(container, IOMMU_MAP_DMA, struct.pack("=IIQQQ", 32, 3, start, 0, MEMORY))

    name = bytearray(address.encode() + b"\0")
    device = fcntl.ioctl(group, GROUP_GET_DEVICE_FD, name)
    region = bytearray(struct.pack("=IIIIQQ", 32, 0, 7, 0, 0, 0))
    fcntl.ioctl(device, DEVICE_GET_REGION_INFO, region)
    offset = struct.unpack("=IIIIQQ", region)[5]
    print(f"device {address} has vendor {os.pread(device, 2, offset)[::-1].hex()}")

    os.close(device)
    tell_kvm(kvm_vfio, 2, group)


main(*sys.argv[1:])
