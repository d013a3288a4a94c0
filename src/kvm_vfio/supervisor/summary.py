# SPDX-License-Identifier: GPL-2.0-only
"""What a person reads when the program has ended.

Rule of this file: it reads what others remembered and decides nothing. Every line begins with the
command's name, since it stands among what the program itself wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import errorcode

from kvm_vfio.supervisor.calls import call_name
from kvm_vfio.supervisor.loop import Supervisor
from kvm_vfio.trace.recorder import Change


def summary(supervisor: Supervisor, setting: str) -> str:
    """The report; `setting` says which machine and kernel it was."""
    lines = [setting, *_lines(supervisor)]
    return "".join(f"kvm-vfio: {line}\n" for line in lines)


def _lines(supervisor: Supervisor) -> Iterator[str]:
    yield from _counts(supervisor)
    yield from _coherency(supervisor)
    yield from _held(supervisor)
    yield from _failures(supervisor)
    for address, times in supervisor.recorder.stale_reads.items():
        yield (
            f"STALE DMA, {times} x: {address} did not snoop, and read memory that no WBINVD had"
            " written back"
        )
    for fault, times in supervisor.recorder.dma_faults.items():
        yield f"DMA fault, {times} x: {fault}"
    yield from _unknown(supervisor)


def _counts(supervisor: Supervisor) -> Iterator[str]:
    recorder = supervisor.recorder
    if not supervisor.answered:
        yield "the program made no call on KVM-VFIO or VFIO"
        return
    opened = ", ".join(_number(n, kind) for kind, n in supervisor.handed_out().items())
    yield f"{_number(supervisor.answered, 'call')} answered; opened: {opened or 'nothing'}"
    if recorder.members_taken:
        yield f"KVM-VFIO: {_number(recorder.members_taken, 'member')} added"
    if recorder.guest_code_wanted_times:
        times = recorder.guest_code_wanted_times
        yield f"guest code was to run, {times} x, and this KVM runs none: KVM_EXIT_FAIL_ENTRY"
    for (vm, gsi), times in recorder.interrupts.items():
        yield f"VM {vm}: {_number(times, 'interrupt')} by irqfd: GSI {gsi}"


def _number(count: int, what: str) -> str:
    noun = what.removeprefix("a ").removeprefix("an ")
    return f"{count} {noun}{'s' if count > 1 else ''}"


def _coherency(supervisor: Supervisor) -> Iterator[str]:
    recorder = supervisor.recorder
    yield from map(_change, recorder.first_changes)
    left_out = recorder.changes - len(recorder.first_changes) - len(recorder.last_changes)
    if left_out:
        yield f"and {left_out} changes more, too many or too fast to tell; the last ones told:"
    yield from map(_change, recorder.last_changes)
    if supervisor.answered and not recorder.changes:
        yield "WBINVD was a no-op all the time: there was no noncoherent DMA"


def _change(change: Change) -> str:
    if change.noncoherent:
        because = "; ".join(change.reasons)
        return f"VM {change.vm}: WBINVD is executed from here: {change.cause}: {because}"
    return f"VM {change.vm}: WBINVD is a no-op from here: {change.cause}"


def _held(supervisor: Supervisor) -> Iterator[str]:
    lines = [*_left(supervisor)]
    if supervisor.answered and not lines:
        yield "everything was closed, and nothing leaked"
    yield from lines


def _left(supervisor: Supervisor) -> Iterator[str]:
    for line in supervisor.left_open:
        yield f"left open: {line}"
    for line in supervisor.recorder.leaked:
        yield f"leaked: {line}"
    picture = supervisor.kernel.snapshot()
    for vm in picture.vms:
        yield f"leaked: VM {vm.number} still has {vm.references} references"
    for group in picture.vfio_groups:
        if group.is_open or group.container_users:
            yield f"leaked: VFIO group {group.number} is still in use"


def _failures(supervisor: Supervisor) -> Iterator[str]:
    for (kind, errno, why), times in supervisor.recorder.failures.items():
        name = errorcode.get(errno, str(errno))
        yield f"failed, {times} x: {call_name(*kind)}: {name}, {why}"
    if supervisor.recorder.failures_left_out:
        yield f"and {supervisor.recorder.failures_left_out} other failures"


def _unknown(supervisor: Supervisor) -> Iterator[str]:
    for what, times in supervisor.recorder.not_modelled.items():
        yield f"NOT MODELLED, {times} x, answered ENOTTY: {what}"
    for whom, times in supervisor.recorder.not_reached.items():
        yield f"NOT ANSWERED, {times} x: calls of {whom}, which may not be looked into"
    if supervisor.faults is not None:
        for spec in supervisor.faults.unmet():
            yield f"NOT INJECTED: {spec}: no such call came"
    if supervisor.trace_failure() is not None:
        yield f"the trace is not whole: {supervisor.trace_failure()}"
    for bug in supervisor.bugs:
        yield f"a bug in kvm-vfio, answered EIO; please report it:\n{bug}"
