# SPDX-License-Identifier: GPL-2.0-only
"""The filter, executed: an interpreter for the instructions that it may use."""

from __future__ import annotations

from errno import ENOSYS
from mmap import MAP_ANONYMOUS, MAP_DENYWRITE, MAP_PRIVATE, MAP_SHARED

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvm_vfio.supervisor.filter import assemble, rules
from kvm_vfio.uapi import kvm, vfio
from kvm_vfio.uapi.fcntl import O_CLOEXEC, O_CREAT, O_EXCL, O_RDONLY, O_RDWR, O_WRONLY
from kvm_vfio.uapi.seccomp import (
    AUDIT_ARCH,
    BPF_ABS,
    BPF_ALU,
    BPF_AND,
    BPF_JEQ,
    BPF_JGE,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_MAXINSNS,
    BPF_RET,
    BPF_W,
    SECCOMP_DATA,
    SECCOMP_FILTER_FLAG_LOG,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_USER_NOTIF,
    SECCOMP_SET_MODE_FILTER,
    SOCK_FILTER,
    SYSCALLS,
    X32_SYSCALL_BIT,
    seccomp_data,
)

ALLOW, NOTIFY, REFUSE = SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF, SECCOMP_RET_ERRNO | ENOSYS
ARCHITECTURES = ["x86_64", "aarch64"]
U64 = st.integers(0, (1 << 64) - 1)


KVM_RUN = kvm.KVMIO << 8 | 0x80
TCGETS = 0x5401


def execute(program: bytes, data: bytes) -> tuple[int, set[int]]:
    """What the filter answers, and the offsets of `data` that it looked at."""
    code = [SOCK_FILTER.unpack(program[at : at + 8]) for at in range(0, len(program), 8)]
    accumulator, here, looked = 0, 0, set()
    while True:
        step = code[here]
        here += 1
        match step.code:
            case c if c == BPF_LD | BPF_W | BPF_ABS:
                looked.add(step.k)
                accumulator = int.from_bytes(data[step.k : step.k + 4], "little")
            case c if c == BPF_ALU | BPF_AND | BPF_K:
                accumulator &= step.k
            case c if c == BPF_JMP | BPF_JEQ | BPF_K:
                here += step.jt if accumulator == step.k else step.jf
            case c if c == BPF_JMP | BPF_JGE | BPF_K:
                here += step.jt if accumulator >= step.k else step.jf
            case c if c == BPF_RET | BPF_K:
                return step.k, looked
            case _:
                raise AssertionError(f"instruction {step}")


def ask(name: str, *arguments: int, mode: str = "model", architecture: str = "x86_64") -> int:
    padded = (*arguments, *[0] * (6 - len(arguments)))
    number = SYSCALLS[architecture][name]
    data = seccomp_data(number, AUDIT_ARCH[architecture], 0, *padded)
    return execute(assemble(mode, architecture), SECCOMP_DATA.pack(data))[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("mode", ["host", "model"])
def test_it_is_a_program_that_linux_takes(mode: str, architecture: str) -> None:
    program = assemble(mode, architecture)
    code = [SOCK_FILTER.unpack(program[at : at + 8]) for at in range(0, len(program), 8)]
    assert len(code) <= BPF_MAXINSNS
    for at, step in enumerate(code):
        if step.code & 7 == BPF_JMP:
            assert at + 1 + max(step.jt, step.jf) < len(code)
    assert code[-1].code == BPF_RET | BPF_K


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@given(number=st.integers(0, 600), arguments=st.tuples(*[U64] * 6))
def test_other_calls_are_decided_by_their_number(
    architecture: str, number: int, arguments: tuple[int, ...]
) -> None:
    numbers = SYSCALLS[architecture]
    ours = {numbers[name] for name in rules("model") if name in numbers}
    if number in ours | {numbers["io_uring_setup"]}:
        return
    data = seccomp_data(number, AUDIT_ARCH[architecture], 0, *arguments)
    answer, looked = execute(assemble("model", architecture), SECCOMP_DATA.pack(data))
    assert answer == ALLOW
    assert looked == {SECCOMP_DATA.offsets["nr"], SECCOMP_DATA.offsets["arch"]}


I386 = 0x40000003


@pytest.mark.parametrize(
    ("arch", "number", "argument", "answer"),
    [
        (I386, 5, 0, ALLOW),  # open
        (I386, 54, TCGETS, ALLOW),  # ioctl
        (I386, 54, vfio.VFIO_GROUP_GET_STATUS, REFUSE),
        (I386, 54, kvm.KVM_CREATE_VM, REFUSE),
        (I386, 425, 0, REFUSE),  # io_uring_setup
        (AUDIT_ARCH["x86_64"], X32_SYSCALL_BIT | 16, TCGETS, REFUSE),
    ],
)
def test_foreign_calls_reach_no_device(arch: int, number: int, argument: int, answer: int) -> None:
    data = seccomp_data(number, arch, 0, 0, argument, 0, 0, 0, 0)
    assert execute(assemble("model", "x86_64"), SECCOMP_DATA.pack(data))[0] == answer


def test_io_uring_is_refused() -> None:
    assert ask("io_uring_setup", 8) == REFUSE


@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (O_RDWR, NOTIFY),
        (O_RDWR | O_CLOEXEC, NOTIFY),
        (O_RDWR | O_CREAT, NOTIFY),
        (O_RDWR | O_CREAT | O_EXCL, ALLOW),
        (O_RDONLY, ALLOW),
        (O_RDONLY | O_CLOEXEC, ALLOW),
        (O_WRONLY | O_CREAT, ALLOW),
        (O_RDWR | 0xDEAD_0000_0000, NOTIFY),  # Linux looks at the lower half
    ],
)
def test_opens(flags: int, answer: int) -> None:
    assert ask("open", 0x1234, flags) == answer
    assert ask("openat", 3, 0x1234, flags) == answer
    assert ask("openat2", 3, 0x1234, 0x5678, 24) == NOTIFY


@pytest.mark.parametrize(
    ("request_number", "host", "model"),
    [
        (vfio.VFIO_GROUP_GET_STATUS, NOTIFY, NOTIFY),
        (vfio.VFIO_IOMMU_MAP_DMA | 0xF << 40, NOTIFY, NOTIFY),
        (kvm.KVM_CREATE_VM, NOTIFY, NOTIFY),
        (kvm.KVM_CREATE_DEVICE, NOTIFY, NOTIFY),
        (kvm.KVM_SET_DEVICE_ATTR, NOTIFY, NOTIFY),
        (kvm.KVM_GET_DEVICE_ATTR, NOTIFY, NOTIFY),
        (kvm.KVM_HAS_DEVICE_ATTR, NOTIFY, NOTIFY),
        (KVM_RUN, ALLOW, NOTIFY),
        (kvm.KVM_CHECK_EXTENSION, ALLOW, NOTIFY),
        (TCGETS, ALLOW, ALLOW),
        (0, ALLOW, ALLOW),
    ],
)
def test_ioctls(request_number: int, host: int, model: int) -> None:
    assert ask("ioctl", 5, request_number, 0x1000, mode="host") == host
    assert ask("ioctl", 5, request_number, 0x1000, mode="model") == model


@pytest.mark.parametrize(
    ("flags", "offset", "answer"),
    [
        (MAP_SHARED, 0, NOTIFY),
        (3, 0, NOTIFY),  # MAP_SHARED_VALIDATE
        (MAP_PRIVATE, 0, NOTIFY),
        (MAP_PRIVATE | MAP_DENYWRITE, 0, ALLOW),  # as the dynamic linker maps
        (MAP_SHARED | MAP_ANONYMOUS, 0, ALLOW),
        (MAP_PRIVATE | MAP_ANONYMOUS, 0, ALLOW),
    ],
)
def test_mappings(flags: int, offset: int, answer: int) -> None:
    assert ask("mmap", 0, 4096, 3, flags, 5, offset) == answer


@pytest.mark.parametrize(
    "name", ["pread64", "pwrite64", "preadv", "pwritev", "preadv2", "pwritev2"]
)
@given(index=st.integers(1, 8), inside=st.integers(0, (1 << 40) - 1))
def test_reads_and_writes_of_later_regions(name: str, index: int, inside: int) -> None:
    assert ask(name, 5, 0x1000, 4096, (index << 40) + inside) == NOTIFY
    assert ask(name, 5, 0x1000, 4096, inside) == ALLOW


@pytest.mark.parametrize("name", ["pread64", "pwrite64"])
@pytest.mark.parametrize(("size", "answer"), [(0, NOTIFY), (8, NOTIFY), (31, NOTIFY), (32, ALLOW)])
def test_the_first_region_is_read_by_the_register(name: str, size: int, answer: int) -> None:
    assert ask(name, 5, 0x1000, size, 0x10) == answer


def test_a_listener_of_its_own() -> None:
    both = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_LOG
    assert ask("seccomp", SECCOMP_SET_MODE_FILTER, both, 0x1000) == NOTIFY
    assert ask("seccomp", SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, 0x1000) == ALLOW
    assert ask("seccomp", 0, 0, 0) == ALLOW
