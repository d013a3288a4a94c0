# SPDX-License-Identifier: GPL-2.0-only
"""The adapter of the running kernel: it passes on what it is given, and lets Linux answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pytest

from kvm_vfio import HostSyscalls, Kvm, KvmVfio, Syscalls
from kvm_vfio.uapi.fcntl import O_RDWR
from kvm_vfio.uapi.kvm import KVM_API_VERSION, KVM_CREATE_DEVICE, KVM_GET_API_VERSION
from kvm_vfio.uapi.layout import Request
from tests.unit.client.refusal import errno_of, note_of

FIONREAD = Request(0x541B, "FIONREAD")
PAGE = 4096


@pytest.fixture
def host() -> HostSyscalls:
    return HostSyscalls()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_it_is_the_waist(host: HostSyscalls) -> None:
    waist: Syscalls = host  # checked by mypy
    waist.close(waist.eventfd())


def test_files(host: HostSyscalls) -> None:
    fd = host.open("/dev/null", O_RDWR)
    other = host.dup(fd)
    assert os.path.sameopenfile(fd, other)
    assert host.write(fd, b"abc") == 3
    assert host.read(fd, 3) == b""
    host.close(fd)
    host.close(other)
    assert errno_of(lambda: host.close(fd)) == "EBADF"


def test_reading_and_writing_at_an_offset(host: HostSyscalls) -> None:
    fd = os.memfd_create("kvm-vfio")
    assert host.pwrite(fd, b"abcdef", 2) == 6
    assert host.pread(fd, 3, 3) == b"bcd"
    host.close(fd)


def test_an_eventfd_that_nobody_signalled_does_not_block(host: HostSyscalls) -> None:
    fd = host.eventfd(2)
    assert host.read(fd, 8) == (2).to_bytes(8, "little")
    assert errno_of(lambda: host.read(fd, 8)) == "EAGAIN"
    host.close(fd)


@pytest.mark.parametrize("size", [4, 1024, 1025, 1 << 20])
def test_an_ioctl_fills_a_buffer_of_any_size(
    host: HostSyscalls, pipe: tuple[int, int], size: int
) -> None:
    reader, writer = pipe
    os.write(writer, b"12345")
    buffer = host.buffer(size)
    assert host.ioctl(reader, FIONREAD, buffer) == 0
    assert buffer.read(4) == (5).to_bytes(4, "little")


def test_an_ioctl_fills_memory_by_its_address(host: HostSyscalls, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"12345")
    buffer = host.buffer(8)
    assert buffer.address > 1 << 32  # more than `fcntl.ioctl` takes
    assert host.ioctl(reader, FIONREAD, buffer.address + 4) == 0
    assert buffer.read() == bytes(4) + (5).to_bytes(4, "little")


@pytest.mark.parametrize("address", [0, 0x1000, -1, 1 << 63, (1 << 64) - 1])
def test_an_address_without_memory_is_for_linux_to_refuse(
    host: HostSyscalls, pipe: tuple[int, int], address: int
) -> None:
    assert errno_of(lambda: host.ioctl(pipe[0], FIONREAD, address)) == "EFAULT"
    note = note_of(lambda: host.ioctl(pipe[0], FIONREAD, address))
    assert note == f"FIONREAD: fd {pipe[0]}, Linux {os.uname().release}"


@pytest.mark.parametrize("fd", [-1, -2, 1 << 30])
def test_an_fd_that_is_not_open_is_for_linux_to_refuse(host: HostSyscalls, fd: int) -> None:
    assert errno_of(lambda: host.ioctl(fd, FIONREAD, host.buffer(4))) == "EBADF"
    assert errno_of(lambda: host.ioctl(fd, FIONREAD, 0)) == "EBADF"


def test_a_request_is_taken_as_32_bits(host: HostSyscalls, pipe: tuple[int, int]) -> None:
    number = 1 << 32 | int(FIONREAD)
    assert host.ioctl(pipe[0], number, host.buffer(4)) == 0
    assert host.ioctl(pipe[0], number, host.buffer(4).address) == 0


def test_a_request_without_a_name_is_named_by_its_number(
    host: HostSyscalls, pipe: tuple[int, int]
) -> None:
    assert errno_of(lambda: host.ioctl(pipe[0], 0x3B64)) == "ENOTTY"
    assert note_of(lambda: host.ioctl(pipe[0], 0x3B64)).startswith("ioctl 0x3b64: ")


def test_a_buffer_is_at_its_address(host: HostSyscalls) -> None:
    buffer = host.buffer(16)
    buffer.write(b"abcd", 4)
    fd = os.open("/proc/self/mem", os.O_RDONLY)
    assert os.pread(fd, 16, buffer.address) == buffer.read() == bytes(4) + b"abcd" + bytes(8)
    os.close(fd)
    with pytest.raises(ValueError, match=r"."):
        buffer.write(b"abcd", 13)


def test_anonymous_memory_comes_and_goes(host: HostSyscalls) -> None:
    buffer = host.mmap(-1, PAGE)
    buffer.write(b"abc")
    assert buffer.read(3) == b"abc"
    host.munmap(buffer)
    with pytest.raises(ValueError, match="released"):
        buffer.read()
    with pytest.raises(ValueError, match="once"):
        host.munmap(buffer)
    with pytest.raises(ValueError, match="mmap"):
        host.munmap(host.buffer(PAGE))


def test_a_mapped_file_is_shared_and_keeps_no_fd_open(host: HostSyscalls) -> None:
    fd = os.memfd_create("kvm-vfio")
    os.truncate(fd, 2 * PAGE)
    before = len(os.listdir("/proc/self/fd"))
    buffer = host.mmap(fd, PAGE, PAGE)
    assert len(os.listdir("/proc/self/fd")) == before
    buffer.write(b"abc", 1)
    assert os.pread(fd, 3, PAGE + 1) == b"abc"
    host.munmap(buffer)
    os.close(fd)


def test_a_mapping_for_reading_is_for_reading(host: HostSyscalls) -> None:
    buffer = host.mmap(-1, PAGE, writable=False)
    with pytest.raises(TypeError):
        buffer.write(b"a")
    host.munmap(buffer)


def test_mmap_says_no(host: HostSyscalls, pipe: tuple[int, int]) -> None:
    assert errno_of(lambda: host.mmap(pipe[0], PAGE, writable=False)) == "ENODEV"
    assert errno_of(lambda: host.mmap(-1, PAGE, 1)) == "EINVAL"
    assert errno_of(lambda: host.mmap(99, PAGE)) == "EBADF"


@pytest.mark.kvm
def test_the_client_makes_the_real_kvm_vfio_device(host: HostSyscalls) -> None:
    with Kvm(host) as kvm, kvm.create_vm() as vm:
        assert kvm.api_version() == KVM_API_VERSION
        assert vm.has_kvm_vfio()
        with vm.create_kvm_vfio() as device:
            assert isinstance(device, KvmVfio)
            assert os.readlink(f"/proc/self/fd/{device.fileno()}") == "anon_inode:kvm-vfio"
            assert device.has_attr(1, 1)
            assert device.has_attr(1, 2)
            assert not device.has_attr(1, 9)
            assert errno_of(lambda: device.add(kvm)) == "EINVAL"
            assert errno_of(lambda: device.delete(kvm)) == "ENOENT"
            assert errno_of(lambda: device.get_attr(1, 1, 0)) == "EPERM"
            assert errno_of(vm.create_kvm_vfio) == "EBUSY"


@pytest.mark.kvm
def test_the_real_kvm_sees_the_whole_address(host: HostSyscalls) -> None:
    with Kvm(host) as kvm, kvm.create_vm() as vm:
        assert host.ioctl(kvm.fileno(), KVM_GET_API_VERSION, 0) == KVM_API_VERSION
        assert errno_of(lambda: host.ioctl(kvm.fileno(), KVM_GET_API_VERSION, 1 << 40)) == "EINVAL"
        for address in (0, 0x1000, 1 << 63, (1 << 64) - 1):
            assert (
                errno_of(partial(host.ioctl, vm.fileno(), KVM_CREATE_DEVICE, address)) == "EFAULT"
            )
