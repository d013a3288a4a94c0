# SPDX-License-Identifier: GPL-2.0-only
"""The scenario language: one operation a line, handles are names for fds.

Rule of this file: it knows which words there are and how many follow, and performs nothing. The
reference of the language is the table `VERBS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from kvm_vfio.errors import InputError

VERBS: dict[str, tuple[str, str]] = {
    # verb: (its words, optional ones in brackets; what it does)
    "kvm_open": ("K", "open /dev/kvm read-write"),
    "open": ("H PATH [ro|wo|rw|path]", "open a file, read-write unless said"),
    "mkfile": ("H PATH", "create and open a regular file"),
    "eventfd": ("H", "make an eventfd"),
    "pipe": ("R W", "make a pipe"),
    "memfd": ("H", "make a memfd"),
    "socket": ("H", "make a socket"),
    "close": ("H", "close"),
    "dup": ("NEW OLD", "dup"),
    "vm_create": ("VM [K] [TYPE]", "KVM_CREATE_VM on handle K (k)"),
    "kvm_check": ("H CAP", "KVM_CHECK_EXTENSION"),
    "kvm_list": (
        "K WHAT ROOM",
        "a list of /dev/kvm's: supported, emulated, hyperv, msrs, features",
    ),
    "vcpu_create": ("C VM [ID]", "KVM_CREATE_VCPU"),
    "vcpu_cpuid": ("C [K]", "KVM_SET_CPUID2 of what KVM_GET_SUPPORTED_CPUID says on handle K (k)"),
    "vcpu_get": (
        "C STATE",
        "KVM_GET_ one of a vCPU's states (regs, sregs, ...); prints its CRC-32",
    ),
    "vcpu_set": ("C STATE OFFSET:HEX...", "KVM_GET_ a state, change bytes, KVM_SET_ it"),
    "msr_get": ("C INDEX", "KVM_GET_MSRS of one register; prints its value"),
    "msr_set": ("C INDEX VALUE", "KVM_SET_MSRS of one register"),
    "kvm": ("H REQUEST [WORD]...", "a request of KVM by name: a number, or FIELD=VALUE for each"),
    "kvm_fd": ("NEW H REQUEST [ARG]", "a request of KVM that returns an fd, which is NEW's"),
    "dev_create": ("D VM [TYPE] [FLAGS]", "KVM_CREATE_DEVICE with the fd field 0xdeadbeef"),
    "dev_create_addr": ("VM ADDR", "KVM_CREATE_DEVICE with the structure at ADDR"),
    "has_attr": ("H GROUP ATTR [FLAGS] [ADDR]", "KVM_HAS_DEVICE_ATTR"),
    "set_attr": ("H GROUP ATTR ADDR [FLAGS]", "KVM_SET_DEVICE_ATTR"),
    "get_attr": ("H GROUP ATTR [ADDR] [FLAGS]", "KVM_GET_DEVICE_ATTR"),
    "group_add": ("D G", "KVM_SET_DEVICE_ATTR: GROUP, ADD, the fd of G"),
    "group_del": ("D G", "KVM_SET_DEVICE_ATTR: GROUP, DEL, the fd of G"),
    "container_open": ("C", "open /dev/vfio/vfio"),
    "group_open": ("G N|@BDF", "open /dev/vfio/N"),
    "set_container": ("G C", "VFIO_GROUP_SET_CONTAINER"),
    "unset_container": ("G", "VFIO_GROUP_UNSET_CONTAINER"),
    "set_iommu": ("C [TYPE]", "VFIO_SET_IOMMU, type1v2 unless said"),
    "check_extension": ("C [EXT]", "VFIO_CHECK_EXTENSION, CC unless said"),
    "api_version": ("C", "VFIO_GET_API_VERSION"),
    "group_status": ("G", "VFIO_GROUP_GET_STATUS"),
    "get_device_fd": ("F G BDF", "VFIO_GROUP_GET_DEVICE_FD"),
    "dma_map": ("C IOVA SIZE", "VFIO_IOMMU_MAP_DMA, read and write, of fresh memory"),
    "dma_unmap": ("C IOVA SIZE [FLAGS]", "VFIO_IOMMU_UNMAP_DMA; prints how much was unmapped"),
    "ioctl": ("H NR ARG", "any ioctl"),
    "read": ("H", "read 16 bytes"),
    "signal": ("H", "write a 1 of 8 bytes, as to an eventfd"),
    "write": ("H", "write 1 byte"),
    "mmap": ("H", "map one shared page at offset 0"),
    "bind": ("BDF DRIVER|-", "bind the device to a driver"),
    "unbind": ("BDF", "unbind the device from its driver"),
    "child_close_exit": ("", "a forked child exits with copies of all fds"),
    "child": ("OPERATION...", "a forked child, which has copies of all fds, does it and exits"),
    "force_coh": ("G 0|1|real", "from here on the group's coherency is answered so"),
    "reset": ("", "close every handle, newest first, and forget the names"),
}

# What a child can do: it leaves nothing behind that a script could name.
IN_CHILD = frozenset(
    (
        *("kvm_check", "has_attr", "set_attr", "get_attr", "group_add", "group_del", "ioctl"),
        *("set_container", "unset_container", "set_iommu", "check_extension", "api_version"),
        *("dma_map", "read", "write", "mmap", "dev_create_addr", "kvm", "signal"),
    )
)
_NO_LIMIT = 99

NUMBERS = {
    "vfio": 4,
    "GROUP": 1,
    "FILE": 1,
    "ADD": 1,
    "DEL": 2,
    "SPAPR": 3,
    "TEST": 1,
    "type1": 1,
    "spapr": 2,
    "type1v2": 3,
    "CC": 4,
    "nesting": 6,
    "noiommu": 8,
}


@dataclass(frozen=True, slots=True)
class Operation:
    """One line of a script: `text` as written, `words` after the verb. An echo has verb "echo"."""

    line: int
    text: str
    verb: str
    words: tuple[str, ...]


def parse(script: str, name: str = "<script>") -> list[Operation]:
    """The operations of a script. InputError names the line, the reason and the remedy."""
    return list(operations(script.splitlines(), name))


def operations(lines: Iterable[str], name: str, first: int = 1) -> Iterator[Operation]:
    """The operations of a script whose lines come one by one. InputError, as `parse`.

    `first` is the number of the first line.
    """
    for number, raw in enumerate(lines, first):
        text = raw.strip()
        if not text or text.startswith("#"):
            continue
        verb, *words = text.split()
        if verb != "echo":
            _check(verb, words, f"{name}:{number}")
        yield Operation(number, text, verb, tuple(words))


def _check(verb: str, words: list[str], place: str) -> None:
    given = len(words)
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, 1)
        hint = f"did you mean {near[0]!r}?" if near else "see the list of operations."
        raise InputError(f"{place}: there is no operation {verb!r}; {hint}")
    usage = VERBS[verb][0]
    most = _NO_LIMIT if usage.endswith("...") else len(usage.split())
    least = sum(not word.startswith("[") for word in usage.split())
    if not least <= given <= most:
        raise InputError(
            f"{place}: {verb!r} takes {usage or 'nothing'}, and {given} words follow it."
        )
    if verb == "child":
        _check(words[0], words[1:], place)
        if words[0] not in IN_CHILD:
            known = ", ".join(sorted(IN_CHILD))
            raise InputError(f"{place}: a child cannot do {words[0]!r}; it can {known}.")


def number(word: str) -> int:
    """The number that `word` names or spells. ValueError."""
    if word in NUMBERS:
        return NUMBERS[word]
    try:
        return int(word, 0)
    except ValueError:
        raise ValueError(f"{word!r} is no number") from None
