# SPDX-License-Identifier: GPL-2.0-only
"""Set Features and Get Features (sections 5.9, 5.21).

Rule of this file: a feature is a number that is set as a whole. Those whose setting means something
have a function; the rest is remembered, since what they tune is beyond a device without a clock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvm_vfio.kernel.pci.nvme.spec import TEMPERATURE_EVENT, Command, Feature, Refused, Status

if TYPE_CHECKING:
    from kvm_vfio.kernel.pci.nvme.controller import Nvme

TEMPERATURE = 310  # kelvins: it stays as warm as that
WARNING_TEMPERATURE, CRITICAL_TEMPERATURE = 343, 373

_SAVE = 1 << 31
_MOST_QUEUES = 0xFFFF  # in a request: not allowed
_OVER, _UNDER = 0, 1  # which temperature threshold
_COMPOSITE, _ALL_SENSORS = 0, 0xF
_SMART_TEMPERATURE = 1 << 1  # critical warnings that make an event

DEFAULTS = {
    Feature.ARBITRATION: 0,
    Feature.POWER_MANAGEMENT: 0,
    Feature.ERROR_RECOVERY: 0,
    Feature.VOLATILE_WRITE_CACHE: 1,
    Feature.INTERRUPT_COALESCING: 0,
    Feature.WRITE_ATOMICITY: 0,
    Feature.ASYNCHRONOUS_EVENT_CONFIGURATION: 0,
}


class Features:
    """What the host has set since the last reset."""

    def __init__(self) -> None:
        self.values = dict(DEFAULTS)
        self.uncoalesced: set[int] = set()  # vectors
        self.thresholds = {_OVER: WARNING_TEMPERATURE, _UNDER: 0}

    @property
    def too_warm(self) -> bool:
        """Whether the temperature is at a threshold, which SMART calls a critical warning."""
        return self.thresholds[_OVER] <= TEMPERATURE or self.thresholds[_UNDER] >= TEMPERATURE


def set_feature(controller: Nvme, command: Command) -> int:
    """Set Features: dword 0 of the completion."""
    feature = _known(command)
    if command.cdw10 & _SAVE:
        raise Refused(Status.FEATURE_NOT_SAVEABLE)
    special = _SETTERS.get(feature)
    if special is not None:
        return special(controller, command.cdw11)
    controller.features.values[feature] = command.cdw11
    return 0


def get_feature(controller: Nvme, command: Command) -> int:
    """Get Features: dword 0 of the completion."""
    feature = _known(command)
    special = _GETTERS.get(feature)
    if special is not None:
        return special(controller, command.cdw11)
    return controller.features.values[feature]


def _known(command: Command) -> Feature:
    try:
        return Feature(command.cdw10 & 0xFF)
    except ValueError:
        raise Refused(Status.INVALID_FIELD) from None


def _set_power_state(controller: Nvme, value: int) -> int:
    if value & 0x1F:  # there is state 0
        raise Refused(Status.INVALID_FIELD)
    controller.features.values[Feature.POWER_MANAGEMENT] = value
    return 0


def _set_queues(controller: Nvme, value: int) -> int:
    submission, completion = value & 0xFFFF, value >> 16
    if _MOST_QUEUES in (submission, completion):
        raise Refused(Status.INVALID_FIELD)
    if controller.has_io_queues:
        raise Refused(Status.COMMAND_SEQUENCE_ERROR)
    return _get_queues(controller, 0)


def _get_queues(controller: Nvme, _: int) -> int:
    """As many as there are, whatever was asked for: both numbers count from 0."""
    last = controller.options.queues - 1
    return last | last << 16


def _set_vector(controller: Nvme, value: int) -> int:
    vector = _vector(controller, value)
    if value >> 16 & 1:
        controller.features.uncoalesced.add(vector)
    else:
        controller.features.uncoalesced.discard(vector)
    return 0


def _get_vector(controller: Nvme, value: int) -> int:
    vector = _vector(controller, value)
    return vector | (vector in controller.features.uncoalesced) << 16


def _vector(controller: Nvme, value: int) -> int:
    vector = value & 0xFFFF
    if vector >= controller.vectors:
        raise Refused(Status.INVALID_FIELD)
    return vector


def _threshold(value: int) -> int:
    sensor, which = value >> 16 & 0xF, value >> 20 & 3
    if sensor not in (_COMPOSITE, _ALL_SENSORS) or which not in (_OVER, _UNDER):
        raise Refused(Status.INVALID_FIELD)
    return which


def _set_threshold(controller: Nvme, value: int) -> int:
    controller.features.thresholds[_threshold(value)] = value & 0xFFFF
    _warn(controller)
    return 0


def _get_threshold(controller: Nvme, value: int) -> int:
    return controller.features.thresholds[_threshold(value)]


def _set_events(controller: Nvme, value: int) -> int:
    controller.features.values[Feature.ASYNCHRONOUS_EVENT_CONFIGURATION] = value
    _warn(controller)
    return 0


def _warn(controller: Nvme) -> None:
    features = controller.features
    wanted = features.values[Feature.ASYNCHRONOUS_EVENT_CONFIGURATION] & _SMART_TEMPERATURE
    if wanted and features.too_warm:
        controller.report(TEMPERATURE_EVENT)


_SETTERS: dict[Feature, Callable[[Nvme, int], int]] = {
    Feature.POWER_MANAGEMENT: _set_power_state,
    Feature.NUMBER_OF_QUEUES: _set_queues,
    Feature.INTERRUPT_VECTOR_CONFIGURATION: _set_vector,
    Feature.TEMPERATURE_THRESHOLD: _set_threshold,
    Feature.ASYNCHRONOUS_EVENT_CONFIGURATION: _set_events,
}
_GETTERS: dict[Feature, Callable[[Nvme, int], int]] = {
    Feature.NUMBER_OF_QUEUES: _get_queues,
    Feature.INTERRUPT_VECTOR_CONFIGURATION: _get_vector,
    Feature.TEMPERATURE_THRESHOLD: _get_threshold,
}
