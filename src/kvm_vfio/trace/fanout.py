# SPDX-License-Identifier: GPL-2.0-only
"""One kernel, several listeners.

Rule of this file: everybody hears everything, in the order they are named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvm_vfio.kernel.observer import Observer


def fan_out(*observers: Observer) -> Observer:
    """An observer that passes each event on. It listens to what at least one of them does."""
    methods = {
        name: _pass_on([getattr(each, name) for each in observers if _hears(each, name)])
        for name in vars(Observer)
        if not name.startswith("_") and any(_hears(each, name) for each in observers)
    }
    made: Observer = type("FanOut", (Observer,), methods)()
    return made


def _hears(observer: Observer, name: str) -> bool:
    return getattr(type(observer), name) is not getattr(Observer, name)


def _pass_on(hearers: list[Callable[..., None]]) -> Callable[..., None]:
    if len(hearers) == 1:
        return staticmethod(hearers[0])

    def event(*arguments: Any, **named: Any) -> None:  # noqa: ANN401 - an event's own
        for hear in hearers:
            hear(*arguments, **named)

    return staticmethod(event)
