# SPDX-License-Identifier: GPL-2.0-only
"""Which behaviour of a kernel makes two models answer differently.

Rule of this file: it finds out by trying. A field of one profile is put into the other, and the
script is run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from enum import Enum
from errno import errorcode

from kvm_vfio.errors import NotModelled
from kvm_vfio.profiles import Profile
from kvm_vfio.scenario.kernels import ModelKernel, run
from kvm_vfio.scenario.language import Operation

_NAMES = ("name", "measured")  # what a profile is called, not what it does


def behaviours(
    one: ModelKernel, other: ModelKernel, script: Sequence[Operation], place: int
) -> list[str]:
    """The behaviours behind the answers to operation `place`, which differ, and both values.

    Each alone would have changed the one's answer into the other's; where none would, those without
    which the other's would not be what it is.
    """
    names = [
        field.name
        for field in fields(Profile)
        if field.name not in _NAMES
        and getattr(one.profile, field.name) != getattr(other.profile, field.name)
    ]
    script = script[: place + 1]
    wanted = _last(other, script)
    alone = [n for n in names if _last(_with(one, n, other), script) == wanted]
    needed = alone or [n for n in names if _last(_with(other, n, one), script) != wanted]
    return list(_described(needed, one.profile, other.profile))


def _with(kernel: ModelKernel, name: str, other: ModelKernel) -> ModelKernel:
    """`kernel` with one behaviour of another."""
    value = getattr(other.profile, name)
    return replace(kernel, profile=replace(kernel.profile, **{name: value}))


def _last(kernel: ModelKernel, script: Sequence[Operation]) -> str:
    answer = ""
    try:
        for line in run(kernel, script):
            answer = line
    except NotModelled as error:
        return str(error)
    return answer


def _described(names: Sequence[str], one: Profile, other: Profile) -> Iterator[str]:
    for name in names:
        values = (f"{_text(name, getattr(p, name))} in {p.name}" for p in (one, other))
        yield f"{name}: {', '.join(values)}"


def _text(name: str, value: object) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, int) and name.endswith("_errno"):
        return errorcode.get(value, "none")
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == frozenset():
        return "none"
    if isinstance(value, frozenset):
        return " ".join(map(str, sorted(value)))
    return str(value)
