# SPDX-License-Identifier: GPL-2.0-only
"""One kernel, several listeners.

Rule of this file: everybody hears everything, in the order they are named.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

from kvm_vfio.kernel.observer import Observer


def fan_out(*observers: Observer) -> Observer:
    """An observer that passes each event on. It listens to what at least one of them does."""
    methods = {
        name: _pass_on(name, [getattr(each, name) for each in observers if _hears(each, name)])
        for name in vars(Observer)
        if not name.startswith("_") and any(_hears(each, name) for each in observers)
    }
    made: Observer = type("FanOut", (Observer,), methods)()
    return made


def _hears(observer: Observer, name: str) -> bool:
    return getattr(type(observer), name) is not getattr(Observer, name)


def _pass_on(name: str, hearers: list[Callable[..., None]]) -> Callable[..., None]:
    if len(hearers) == 1:
        return staticmethod(hearers[0])
    parameters = list(signature(getattr(Observer, name)).parameters.values())[1:]
    shape = [parameter.kind for parameter in parameters]
    if len(hearers) == 2 and shape in _PAIRS:  # noqa: PLR2004 - the usual case, and the quick one
        return staticmethod(_PAIRS_OF[len(shape)](*hearers))

    def event(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - an event's own
        for hear in hearers:
            hear(*arguments, **named)

    return staticmethod(event)


def _one(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def event(what: object) -> None:
        first(what)
        second(what)

    return event


def _two(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    def event(what: object, other: object) -> None:
        first(what, other)
        second(what, other)

    return event


_PLAIN = Parameter.POSITIONAL_OR_KEYWORD
_PAIRS = ([_PLAIN], [_PLAIN, _PLAIN])
_PAIRS_OF = {1: _one, 2: _two}
