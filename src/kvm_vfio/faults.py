# SPDX-License-Identifier: GPL-2.0-only
"""Faults on purpose: calls that fail or wait, and a machine that changes under a program.

Rule of this file: a call that is made to fail changes nothing, as one that Linux refuses; and it
fails with an errno that Linux can give for it, which the tables of ioctls know, unless any will do.

A fault is written `CALL=EFFECT`. See `_HELP`, and docs/faults.md.
"""

from __future__ import annotations

import errno
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from errno import (
    EACCES,
    EAGAIN,
    EBUSY,
    EFAULT,
    EINTR,
    EINVAL,
    EIO,
    EMFILE,
    ENFILE,
    ENODEV,
    ENOENT,
    ENOMEM,
    EPERM,
)
from fnmatch import fnmatchcase
from functools import cache, partial

from kvm_vfio.errors import InputError, NotModelled
from kvm_vfio.kernel.error import KernelError
from kvm_vfio.kernel.file import File
from kvm_vfio.kernel.iommu.group import VFIO_PCI, PciFunction
from kvm_vfio.kernel.kernel import Kernel
from kvm_vfio.kernel.kvm.device import KvmDeviceFile
from kvm_vfio.kernel.kvm.system import KvmSystemFile
from kvm_vfio.kernel.kvm.vm import VmFile
from kvm_vfio.kernel.vfio.container import ContainerFile
from kvm_vfio.kernel.vfio.device import VfioDeviceFile
from kvm_vfio.kernel.vfio.group import GroupFile
from kvm_vfio.machine.model import Machine

_HELP = "say CALL=ERRNO, such as KVM_SET_DEVICE_ATTR#3=ENOMEM"
_LONGEST_DELAY = 60.0  # seconds
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

KINDS: dict[str, type[File]] = {
    "kvm": KvmSystemFile,
    "vm": VmFile,
    "kvm-vfio": KvmDeviceFile,
    "container": ContainerFile,
    "group": GroupFile,
    "device": VfioDeviceFile,
}
_WORDS = {kind: word for word, kind in KINDS.items()}

# What open(2) of a device node can answer (fs/open.c and the drivers' own open), and what the VFS
# and vfio-pci can for calls on a device's file.
_OPEN = (ENOENT, EACCES, EPERM, EINTR, EMFILE, ENFILE, ENODEV, ENOMEM)
_OF_NODES = {"kvm": _OPEN, "container": _OPEN, "group": (*_OPEN, EBUSY)}
_OF_REGIONS = {
    "mmap": (EACCES, EAGAIN, EINVAL, ENODEV, ENOMEM),
    "pread64": (EINVAL, EFAULT, EIO, ENOMEM),
    "pwrite64": (EINVAL, EFAULT, EIO, ENOMEM),
}
_ALIASES = {
    "openat": "open",
    "openat2": "open",
    "pread": "pread64",
    "pwrite": "pwrite64",
    **dict.fromkeys(("preadv", "preadv2"), "pread64"),
    **dict.fromkeys(("pwritev", "pwritev2"), "pwrite64"),
}

_SPEC = re.compile(
    r"(?P<call>[\w*?]+)"
    r"(?:@(?P<kind>[\w-]+))?"
    r"(?:#(?P<first>\d+)(?:(?P<more>\+)|-(?P<last>\d+))?)?"
    r"(?:%(?P<percent>\d+(?:\.\d+)?))?"
    r"=(?P<effect>.+)"
)

Act = Callable[[Kernel], str]
"""Changes the machine and says what it did, as a sentence."""


@cache
def possible() -> dict[str, dict[str, tuple[int, ...]]]:
    """Call -> kind of file -> the errnos that some Linux can refuse it with."""
    calls: dict[str, dict[str, tuple[int, ...]]] = {"open": dict(_OF_NODES)}
    for word, kind in KINDS.items():
        for table in kind.tables():
            for row in table:
                of_kinds = calls.setdefault(row.request.name, {})
                of_kinds[word] = kind.documented(row.request)
    for name, errnos in _OF_REGIONS.items():
        calls[name] = {"device": errnos}
    return calls


@dataclass(frozen=True, slots=True)
class Fault:
    """Which calls, and what becomes of them. Of errno, delay and act, one is set.

    The calls are the `first` to the `last` (None: for ever) that match, each with a probability of
    `percent`. With `errno`, only calls that Linux can answer so.
    """

    spec: str
    call: str
    kind: str | None
    first: int
    last: int | None
    percent: float
    errno: int = 0
    delay: float = 0.0
    act: Act | None = None

    def matches(self, call: str, kind: str) -> bool:
        """Whether the fault is about such a call."""
        return self.kind in (None, kind) and fnmatchcase(call, self.call)


def kind_of_node(path: str) -> str:
    """The kind of file that opening a device node gives."""
    return {"/dev/kvm": "kvm", "/dev/vfio/vfio": "container"}.get(path, "group")


def parse(spec: str, machine: Machine, *, anything: bool = False) -> Fault:
    """The fault that `spec` describes. `anything`: any errno for any call. InputError."""
    place = f"the fault {spec!r}"
    found = _SPEC.fullmatch(spec.strip())
    if found is None:
        raise InputError(f"{place} is not one; {_HELP}")
    call = _ALIASES.get(found["call"], found["call"])
    kind = found["kind"]
    errnos = _errnos(place, call, kind)
    first = int(found["first"]) if found["first"] else 1
    last = first if found["first"] else None
    if found["more"]:
        last = None
    elif found["last"]:
        last = int(found["last"])
    if first < 1 or (last is not None and last < first):
        raise InputError(f"{place}: calls are counted from 1, upwards; write #3, #3-5 or #3+")
    percent = float(found["percent"] or 100)
    if not 0 < percent <= 100:  # noqa: PLR2004 - a percentage
        raise InputError(f"{place}: the probability is a percentage above 0, such as %10")
    make = partial(Fault, spec.strip(), call, kind, first, last, percent)
    return _with_effect(make, place, found["effect"], errnos, machine, anything=anything)


def _errnos(place: str, call: str, kind: str | None) -> dict[str, set[int]]:
    """The errnos of each call that is meant."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"{place}: there is no kind of file {kind!r}; there are {_or(KINDS)}")
    known = possible()
    calls = [name for name in known if fnmatchcase(name, call)]
    if not calls:
        near = get_close_matches(call, known, 1)
        hint = f"did you mean {near[0]}?" if near else "VFIO_* means every VFIO request"
        raise InputError(f"{place}: there is no call {call!r}; {hint}")
    meant = {name: [w for w in known[name] if kind in (None, w)] for name in calls}
    if not any(meant.values()):
        kinds = _or(sorted({word for name in calls for word in known[name]}))
        raise InputError(f"{place}: {call} is no call on a {kind}; it is one on a {kinds}")
    return {
        name: {number for word in words for number in known[name][word]}
        for name, words in meant.items()
        if words
    }


def _with_effect(
    make: Callable[..., Fault],
    place: str,
    effect: str,
    errnos: dict[str, set[int]],
    machine: Machine,
    *,
    anything: bool,
) -> Fault:
    word, _, rest = effect.partition(":")
    if word == "delay":
        return make(delay=_delay(place, rest))
    if word in _ACTS:
        return make(act=_ACTS[word](place, rest, machine))
    number = getattr(errno, effect, None)
    if number is None or effect not in errno.errorcode.values():
        near = get_close_matches(effect, [*errno.errorcode.values(), *_ACTS, "delay"], 1)
        hint = f"did you mean {near[0]}?" if near else "name one, such as ENOMEM"
        raise InputError(f"{place}: there is no errno {effect!r}; {hint}")
    if not anything and not any(number in each for each in errnos.values()):
        names = list(errnos)
        given = {each for name in names for each in errnos[name]}
        can = _or(sorted(errno.errorcode[each] for each in given if each in errno.errorcode))
        what = names[0] if len(names) == 1 else f"one of these {len(names)} calls"
        raise InputError(
            f"{place}: no Linux answers {what} with {effect}; it can be {can}"
            " (--fail-any allows any errno)"
        )
    return make(errno=number)


def _or(words: Iterable[str]) -> str:
    listed = list(words)
    return f"{', '.join(listed[:-1])} or {listed[-1]}" if len(listed) > 1 else "".join(listed)


def _delay(place: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s)", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST_DELAY:
        raise InputError(f"{place}: say how long, up to 60s, such as delay:10ms")
    return seconds


# -- a machine that changes ------------------------------------------------------------------------


def _unplug(place: str, address: str, machine: Machine) -> Act:
    if address not in {device.address for _, device in machine.devices()}:
        known = _or(device.address for _, device in machine.devices())
        raise InputError(f"{place}: the machine has no device {address!r}; it has {known}")

    def act(kernel: Kernel) -> str:
        kernel.function(address).remove()
        return f"the device {address} is unplugged"

    return act


def _unload(place: str, rest: str, machine: Machine) -> Act:
    if rest:
        raise InputError(f"{place}: unload stands alone; only VFIO can be unloaded")

    def act(kernel: Kernel) -> str:
        try:
            kernel.unload_vfio()
        except KernelError as error:
            return f"VFIO cannot be unloaded: {error.why}"
        return "VFIO is unloaded"

    return act


def _unviable(place: str, text: str, machine: Machine) -> Act:
    groups = {str(group.number): group for _, group in machine.groups()}
    if text not in groups:
        raise InputError(f"{place}: the machine has no group {text!r}; it has {_or(groups)}")
    if len(groups[text].devices) == 1:
        several = [number for number, group in groups.items() if len(group.devices) > 1]
        raise InputError(
            f"{place}: group {text} has one device, and another driver would take the group away;"
            f" name a group of several: {_or(several) or 'this machine has none'}"
        )

    def act(kernel: Kernel) -> str:
        functions = kernel.iommu_groups[int(text)].functions
        function = next((f for f in functions if f.driver != VFIO_PCI), functions[-1])
        if function.driver == VFIO_PCI:
            function.remove()
        return _let_take(function, int(text))

    return act


def _let_take(function: PciFunction, group: int) -> str:
    name = function.static.address
    if not function.probe("native"):
        return f"a native driver wants {name} and is refused: VFIO owns group {group}"
    return f"group {group} is not viable any more: a native driver has taken {name}"


_ACTS: dict[str, Callable[[str, str, Machine], Act]] = {
    "unplug": _unplug,
    "unload": _unload,
    "unviable": _unviable,
}


# -- while a program runs --------------------------------------------------------------------------


class Faults:
    """The faults of one kernel. The same seed and the same calls meet the same faults.

    `fired` is the fault that the call at hand met, "" for none; `changed` hears what has become of
    the machine.
    """

    def __init__(self, faults: Sequence[Fault], kernel: Kernel, *, seed: int = 0) -> None:
        self.fired = ""
        self.changed: Callable[[str], None] = lambda _what: None
        self._faults = faults
        self._kernel = kernel
        self._counts = [0] * len(faults)
        self._random = random.Random(seed)  # noqa: S311 - chance that can be repeated
        self._waiting: list[Act] = []

    def before(self, call: str, file: File | str) -> None:
        """A call on `file` (or of its kind) is about to be answered. KernelError: it is not."""
        self.fired = ""
        self._try_again()
        call = _ALIASES.get(call, call)
        kind = file if isinstance(file, str) else _WORDS.get(type(file), "")
        for number, fault in enumerate(self._faults):
            if fault.matches(call, kind) and self._is_due(number, fault, call, kind):
                self._happen(fault)

    def _is_due(self, number: int, fault: Fault, call: str, kind: str) -> bool:
        if fault.errno and "*" in fault.call and fault.errno not in _known(call, kind):
            return False
        self._counts[number] += 1
        count = self._counts[number]
        if count < fault.first or (fault.last is not None and count > fault.last):
            return False
        return fault.percent == 100 or self._random.random() * 100 < fault.percent  # noqa: PLR2004

    def _happen(self, fault: Fault) -> None:
        if fault.act is not None:
            self._change(fault.act)
        elif fault.delay:
            time.sleep(fault.delay)
        else:
            self.fired = fault.spec
            raise KernelError(fault.errno, f"injected: {fault.spec}")

    def _change(self, act: Act) -> None:
        try:
            what = act(self._kernel)
        except NotModelled:  # Linux waits until the program lets go, and so does this
            self._waiting.append(act)
            return
        self.changed(what)

    def _try_again(self) -> None:
        waiting, self._waiting = self._waiting, []
        for act in waiting:
            self._change(act)

    def unmet(self) -> Iterator[str]:
        """The faults that no call has met, as they were written."""
        for fault, count in zip(self._faults, self._counts, strict=True):
            if count < fault.first:
                yield fault.spec


def _known(call: str, kind: str) -> tuple[int, ...]:
    return possible().get(call, {}).get(kind, ())
