# SPDX-License-Identifier: GPL-2.0-only
"""The commands of the Admin Command Set (section 5).

Rule of this file: a function for each command, which returns dword 0 of its completion, or None
for the one that completes later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from kvm_vfio.kernel.pci.nvme import identify, transfer
from kvm_vfio.kernel.pci.nvme.features import get_feature, set_feature
from kvm_vfio.kernel.pci.nvme.queues import CompletionQueue, SubmissionQueue
from kvm_vfio.kernel.pci.nvme.spec import (
    CC_ENTRY_MASK,
    CC_IOCQES_SHIFT,
    CC_IOSQES_SHIFT,
    CQ_ENTRY_SHIFT,
    EVERY_NAMESPACE,
    SQ_ENTRY_SHIFT,
    Admin,
    Cns,
    Command,
    Log,
    Refused,
    Status,
)

if TYPE_CHECKING:
    from kvm_vfio.kernel.pci.nvme.controller import Nvme

_CONTIGUOUS, _INTERRUPTS = 1 << 0, 1 << 1
_RETAIN_EVENT = 1 << 15
_NOT_ABORTED = 1
_LAST_NAMESPACE = 0xFFFF_FFFE  # from here on no identifier follows
_DWORD = 4


def execute(controller: Nvme, command: Command) -> int | None:
    """Do an admin command: dword 0 of its completion, None for none yet. Refused."""
    act = _COMMANDS.get(command.opcode)
    if act is None:
        raise Refused(Status.INVALID_OPCODE)
    return act(controller, command)


# -- queues ----------------------------------------------------------------------------------------


def _new_queue(controller: Nvme, command: Command, taken: bool, entry_shift: int) -> int:  # noqa: FBT001
    """The checks that both kinds of queue have in common: how many entries."""
    identifier, size = command.cdw10 & 0xFFFF, (command.cdw10 >> 16) + 1
    if not 0 < identifier <= controller.options.queues or taken:
        raise Refused(Status.INVALID_QUEUE_IDENTIFIER)
    is_sq = entry_shift == SQ_ENTRY_SHIFT
    configured = controller.cc >> (CC_IOSQES_SHIFT if is_sq else CC_IOCQES_SHIFT) & CC_ENTRY_MASK
    if not 1 < size <= controller.most_entries or configured != entry_shift:
        raise Refused(Status.INVALID_QUEUE_SIZE)
    if not command.cdw11 & _CONTIGUOUS:
        raise Refused(Status.INVALID_FIELD)
    if command.prp1 % controller.page:
        raise Refused(Status.PRP_OFFSET_INVALID)
    return size


def _create_cq(controller: Nvme, command: Command) -> int:
    identifier, vector = command.cdw10 & 0xFFFF, command.cdw11 >> 16
    size = _new_queue(controller, command, identifier in controller.cqs, CQ_ENTRY_SHIFT)
    if vector >= controller.vectors:
        raise Refused(Status.INVALID_INTERRUPT_VECTOR)
    interrupts = bool(command.cdw11 & _INTERRUPTS)
    controller.cqs[identifier] = CompletionQueue(command.prp1, size, vector if interrupts else None)
    return 0


def _create_sq(controller: Nvme, command: Command) -> int:
    identifier, completion = command.cdw10 & 0xFFFF, command.cdw11 >> 16
    size = _new_queue(controller, command, identifier in controller.sqs, SQ_ENTRY_SHIFT)
    if not 0 < completion <= controller.options.queues:
        raise Refused(Status.INVALID_QUEUE_IDENTIFIER)
    if completion not in controller.cqs:
        raise Refused(Status.COMPLETION_QUEUE_INVALID)
    controller.sqs[identifier] = SubmissionQueue(
        identifier, command.prp1, size, controller.cqs[completion]
    )
    return 0


def _delete_sq(controller: Nvme, command: Command) -> int:
    identifier = command.cdw10 & 0xFFFF
    if not identifier or identifier not in controller.sqs:
        raise Refused(Status.INVALID_QUEUE_IDENTIFIER)
    del controller.sqs[identifier]
    return 0


def _delete_cq(controller: Nvme, command: Command) -> int:
    identifier = command.cdw10 & 0xFFFF
    queue = controller.cqs.get(identifier) if identifier else None
    if queue is None:
        raise Refused(Status.INVALID_QUEUE_IDENTIFIER)
    if any(each.completion is queue for each in controller.sqs.values()):
        raise Refused(Status.INVALID_QUEUE_DELETION)
    del controller.cqs[identifier]
    controller.settle_line()
    return 0


# -- what the controller tells ---------------------------------------------------------------------


def _identify(controller: Nvme, command: Command) -> int:
    data = _identification(controller, command.cdw10 & 0xFF, command.nsid)
    transfer.write(controller.dma, command, data, controller.page)
    return 0


def _identification(controller: Nvme, cns: int, nsid: int) -> bytes:
    if cns == Cns.CONTROLLER:
        return identify.controller(controller)
    if cns == Cns.ACTIVE_NAMESPACES:
        if nsid >= _LAST_NAMESPACE:
            raise Refused(Status.INVALID_NAMESPACE)
        return identify.active_namespaces(nsid)
    if cns not in (Cns.NAMESPACE, Cns.NAMESPACE_DESCRIPTORS):
        raise Refused(Status.INVALID_FIELD)
    if nsid != 1:
        raise Refused(Status.INVALID_NAMESPACE)
    if cns == Cns.NAMESPACE:
        return identify.namespace(controller)
    return identify.namespace_descriptors(controller)


def _get_log_page(controller: Nvme, command: Command) -> int:
    try:
        log = Log(command.cdw10 & 0xFF)
    except ValueError:
        raise Refused(Status.INVALID_LOG_PAGE) from None
    if command.nsid not in (0, EVERY_NAMESPACE):
        raise Refused(Status.INVALID_FIELD if command.nsid == 1 else Status.INVALID_NAMESPACE)
    size = ((command.cdw10 >> 16 | (command.cdw11 & 0xFFFF) << 16) + 1) * _DWORD
    offset = command.cdw12 | command.cdw13 << 32
    page = controller.logs.page(log, controller.features)
    if offset % _DWORD or offset > len(page):
        raise Refused(Status.INVALID_FIELD)
    data = page[offset : offset + size]  # what is beyond the page, the host keeps as it is
    transfer.write(controller.dma, command, data, controller.page)
    if not command.cdw10 & _RETAIN_EVENT:
        controller.events.clear(log)
    return 0


# -- features, events, aborts ----------------------------------------------------------------------


def _request_event(controller: Nvme, command: Command) -> None:
    if len(controller.events.requests) >= identify.EVENT_REQUESTS:
        raise Refused(Status.EVENT_REQUEST_LIMIT_EXCEEDED)
    controller.events.requests.append(command.identifier)


def _abort(controller: Nvme, command: Command) -> int:
    """Everything else has ended already: only a request for an event can be aborted."""
    queue, identifier = command.cdw10 & 0xFFFF, command.cdw10 >> 16
    requests = controller.events.requests
    if queue or identifier not in requests:
        return _NOT_ABORTED
    requests.remove(identifier)
    controller.complete(controller.sqs[0], identifier, 0, Status.ABORT_REQUESTED)
    return 0


_COMMANDS: dict[int, Callable[[Nvme, Command], int | None]] = {
    Admin.DELETE_SQ: _delete_sq,
    Admin.CREATE_SQ: _create_sq,
    Admin.GET_LOG_PAGE: _get_log_page,
    Admin.DELETE_CQ: _delete_cq,
    Admin.CREATE_CQ: _create_cq,
    Admin.IDENTIFY: _identify,
    Admin.ABORT: _abort,
    Admin.SET_FEATURES: set_feature,
    Admin.GET_FEATURES: get_feature,
    Admin.ASYNCHRONOUS_EVENT_REQUEST: _request_event,
}
