# SPDX-License-Identifier: GPL-2.0-only
"""Which system calls wait for us, as a table, and the BPF program made from it.

Rule of this file: it is pure; what is asked of a call is in the table, how that becomes
instructions below it.

A call that is not in the table costs next to nothing: the kernel finds out once, when the filter
is installed, that its number alone decides. So the table asks as precisely as a filter can, which
sees numbers and no memory: opens by their flags, ioctls by their request, mappings by their kind,
reads and writes by their offset and size.
"""

from __future__ import annotations

from collections.abc import Mapping
from errno import ENOSYS
from mmap import MAP_ANONYMOUS, MAP_DENYWRITE, MAP_PRIVATE, MAP_SHARED
from typing import NamedTuple

from kvm_vfio.uapi.fcntl import O_ACCMODE, O_EXCL, O_RDWR
from kvm_vfio.uapi.kvm import (
    KVM_CREATE_DEVICE,
    KVM_CREATE_VM,
    KVM_GET_DEVICE_ATTR,
    KVM_HAS_DEVICE_ATTR,
    KVM_SET_DEVICE_ATTR,
    KVMIO,
)
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
    BPF_RET,
    BPF_W,
    SECCOMP_DATA,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_USER_NOTIF,
    SECCOMP_SET_MODE_FILTER,
    SOCK_FILTER,
    SYSCALLS,
    X32_SYSCALL_BIT,
    sock_filter,
)
from kvm_vfio.uapi.vfio import VFIO_TYPE


class Test(NamedTuple):
    """Whether argument number `argument`, under `mask`, is `value`, or with `is_not` is not.

    A mask stays in one half.
    """

    argument: int
    mask: int
    value: int
    is_not: bool = False


_HALF = 0xFFFF_FFFF
Rule = tuple[tuple[Test, ...], ...]
"""A call waits if all tests of any of these pass."""

_ALWAYS: Rule = ((),)

# The regions of a VFIO device are 2**40 bytes each, and hardly another file is longer than the
# first. That one has offsets which all files have: there a read or write waits if it is as small as
# a register. A larger one is of the memory that stands for a BAR, which the file itself has.
_LATER_REGIONS = 0xFFFFFF00 << 32
_MORE_THAN_A_REGISTER = _HALF & ~0x1F
_VECTORS: Rule = ((Test(3, _LATER_REGIONS, 0, is_not=True),),)
_REGION: Rule = (*_VECTORS, (Test(2, _MORE_THAN_A_REGISTER, 0),))


def _read_write(argument: int) -> Rule:
    # A device is opened for reading and writing, and not with O_EXCL, as temporary files are.
    return ((Test(argument, O_ACCMODE | O_EXCL, O_RDWR),),)


def _requests(*requests: int) -> Rule:
    return tuple((Test(1, _HALF, request),) for request in requests)


def _requests_of_type(kind: int) -> Rule:
    return ((Test(1, 0xFF00, kind << 8),),)


_KVM_REQUESTS: Mapping[str, Rule] = {
    "host": _requests(
        KVM_CREATE_VM,
        KVM_CREATE_DEVICE,
        KVM_SET_DEVICE_ATTR,
        KVM_GET_DEVICE_ATTR,
        KVM_HAS_DEVICE_ATTR,
    ),
    "model": _requests_of_type(KVMIO),
}

_WAITING: Mapping[str, Rule] = {
    "ioctl": _requests_of_type(VFIO_TYPE),
    "open": _read_write(1),
    "openat": _read_write(2),
    "openat2": _ALWAYS,  # its flags are in memory
    "mmap": (
        (Test(3, MAP_SHARED | MAP_ANONYMOUS, MAP_SHARED),),
        # Private mappings of a file that may be written meanwhile: not a program's own code.
        (Test(3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_DENYWRITE, MAP_PRIVATE),),
    ),
    "pread64": _REGION,
    "pwrite64": _REGION,
    "preadv": _VECTORS,
    "pwritev": _VECTORS,
    "preadv2": _VECTORS,
    "pwritev2": _VECTORS,
    # A program's own notification cannot work beside ours, and it is told so in words.
    "seccomp": (
        (
            Test(0, _HALF, SECCOMP_SET_MODE_FILTER),
            Test(1, SECCOMP_FILTER_FLAG_NEW_LISTENER, SECCOMP_FILTER_FLAG_NEW_LISTENER),
        ),
    ),
    "exit_group": _ALWAYS,  # the last moment to see what a process still holds
}

# A ring would open files and read them past every filter. ENOSYS: programs do without.
_REFUSED = ("io_uring_setup",)

# The same number for the 32-bit programs of x86-64 and of aarch64.
_FOREIGN_IOCTL = 54
_FOREIGN_IO_URING_SETUP = 425


def rules(kvm: str) -> Mapping[str, Rule]:
    """What waits, by the name of the system call; `kvm` is "host" or "model"."""
    return {**_WAITING, "ioctl": _WAITING["ioctl"] + _KVM_REQUESTS[kvm]}


# -- from the table to instructions ----------------------------------------------------------------


class _Instruction(NamedTuple):
    """`if_so`, `if_not`: the label to go on at, "" for the next instruction."""

    code: int
    k: int
    if_so: str = ""
    if_not: str = ""


_Program = list[_Instruction | str]  # a str is a label for what follows


def _load(field: str, *, upper: bool = False) -> _Instruction:
    return _Instruction(BPF_LD | BPF_W | BPF_ABS, SECCOMP_DATA.offsets[field] + 4 * upper)


def _jump(comparison: int, k: int, if_so: str, if_not: str) -> _Instruction:
    return _Instruction(BPF_JMP | comparison | BPF_K, k, if_so, if_not)


def _return(answer: int) -> _Instruction:
    return _Instruction(BPF_RET | BPF_K, answer)


def _test(test: Test, if_not: str) -> _Program:
    upper = test.mask > _HALF
    mask, value = (n >> 32 if upper else n for n in (test.mask, test.value))
    program: _Program = [_load(f"arg{test.argument}", upper=upper)]
    if mask != _HALF:
        program.append(_Instruction(BPF_ALU | BPF_AND | BPF_K, mask))
    return [*program, _jump(BPF_JEQ, value, *((if_not, "") if test.is_not else ("", if_not)))]


def _alternatives(name: str, rule: Rule) -> _Program:
    program: _Program = []
    for number, tests in enumerate(rule):
        last = number == len(rule) - 1
        otherwise = "allow" if last else f"{name} or {number + 1}"
        program.append(f"{name} or {number}")
        for test in tests:
            program += _test(test, otherwise)
        program.append(_return(SECCOMP_RET_USER_NOTIF))
    return program


def _foreign() -> _Program:
    """32-bit calls: a program may make them, and reaches no device with them."""
    program: _Program = [_load("nr"), _jump(BPF_JEQ, _FOREIGN_IO_URING_SETUP, "refuse", "")]
    program.append(_jump(BPF_JEQ, _FOREIGN_IOCTL, "", "allow"))
    program += [_load("arg1"), _Instruction(BPF_ALU | BPF_AND | BPF_K, 0xFF00)]
    program.append(_jump(BPF_JEQ, VFIO_TYPE << 8, "refuse", ""))
    program.append(_jump(BPF_JEQ, KVMIO << 8, "refuse", "allow"))
    return program


def assemble(kvm: str, architecture: str) -> bytes:
    """The filter for `architecture`, as uname(2) calls it: 8 bytes an instruction."""
    numbers = SYSCALLS[architecture]
    waiting = {name: rule for name, rule in rules(kvm).items() if name in numbers}
    program: _Program = [
        _load("arch"),
        _jump(BPF_JEQ, AUDIT_ARCH[architecture], "", "foreign"),
        _load("nr"),
        _jump(BPF_JGE, X32_SYSCALL_BIT, "refuse", ""),
    ]
    program += [_jump(BPF_JEQ, numbers[name], "refuse", "") for name in _REFUSED]
    program += [_jump(BPF_JEQ, numbers[name], name, "") for name in waiting]
    program.append(_return(SECCOMP_RET_ALLOW))
    for name, rule in waiting.items():
        program += [name, *_alternatives(name, rule)]
    program += ["foreign", *_foreign()]
    program += ["allow", _return(SECCOMP_RET_ALLOW)]
    program += ["refuse", _return(SECCOMP_RET_ERRNO | ENOSYS)]
    return b"".join(SOCK_FILTER.pack(each) for each in _resolved(program))


def _resolved(program: _Program) -> list[sock_filter]:
    places: dict[str, int] = {}
    instructions: list[_Instruction] = []
    for each in program:
        if isinstance(each, str):
            places[each] = len(instructions)
        else:
            instructions.append(each)

    def distance(label: str, here: int) -> int:
        return places[label] - here - 1 if label else 0

    return [
        sock_filter(each.code, distance(each.if_so, at), distance(each.if_not, at), each.k)
        for at, each in enumerate(instructions)
    ]
