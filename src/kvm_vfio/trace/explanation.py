# SPDX-License-Identifier: GPL-2.0-only
"""What came of a program's calls, told to a person, and to a machine.

Rule of this file: values and their words. What is found, `history` finds.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from msgspec import Struct


class Cause(Struct, omit_defaults=True):
    """A call or close: its number in the trace, how people read it, who made it."""

    n: int
    text: str
    who: str = ""

    def __str__(self) -> str:
        return f"{self.text}{f' by {self.who}' if self.who else ''} [#{self.n}]"


class Turn(Struct, omit_defaults=True):
    """From here on a VM's WBINVD is executed, or is a no-op; `chain` says why, link by link."""

    executed: bool
    cause: Cause
    chain: tuple[str, ...] = ()


class VmStory(Struct, omit_defaults=True):
    """One VM: whether its WBINVD was executed when the story ended, and every turn before.

    `left_out` turns between the first and the last ones are not told. `because` is the chain for
    now. `ended` is what destroyed the VM.
    """

    vm: int
    executed: bool
    because: tuple[str, ...]
    turns: tuple[Turn, ...] = ()
    left_out: int = 0
    ended: Cause | None = None


class Problem(Struct, omit_defaults=True):
    """Something the program should do otherwise: what it did, in which call, what to do instead."""

    kind: str
    what: str
    call: Cause
    remedy: str


class Refusal(Struct, omit_defaults=True):
    """A call that failed, `times` times: the rule that refused it and what would satisfy it."""

    call: Cause
    errno: str
    rule: str
    remedy: str
    times: int = 1
    injected: bool = False


class Explanation(Struct, omit_defaults=True):
    """Everything; `str()` is the text for a terminal. `left_out` counts what was too much."""

    linux: str
    machine: str
    calls: int
    vms: tuple[VmStory, ...]
    problems: tuple[Problem, ...]
    refusals: tuple[Refusal, ...]
    not_modelled: tuple[str, ...] = ()
    left_out: int = 0
    whole: bool = True
    quiet: int = 0  # VMs that are gone and never had noncoherent DMA

    def to_json(self) -> str:
        """For machines: an object with these fields."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def _lines(told: Explanation) -> Iterator[str]:
    yield f"{told.calls} calls, answered as Linux {told.linux} on the machine {told.machine}."
    if not told.whole:
        yield "The trace was cut off: what follows is how things stood then."
    for problem in told.problems:
        yield ""
        yield f"PROBLEM: {problem.what}"
        yield f"  call: {problem.call}"
        yield f"  fix:  {problem.remedy}"
    for vm in told.vms:
        yield ""
        yield from _vm(vm)
    if told.quiet:
        yield ""
        more = " more" if told.vms else ""
        yield f"{told.quiet} VM{'s' * (told.quiet > 1)}{more}, whose WBINVD was always a no-op."
    for refusal in told.refusals:
        yield ""
        yield from _refusal(refusal)
    for what in told.not_modelled:
        yield ""
        yield f"NOT MODELLED, answered ENOTTY: {what}"
    yield ""
    if told.left_out:
        yield f"{told.left_out} more failures are not told: too many kinds."
    count = len(told.problems)
    yield f"{count} problem{'s' * (count > 1)}." if count else "No problems."


def _vm(vm: VmStory) -> Iterator[str]:
    said = "executed for real" if vm.executed else "a no-op"
    if not vm.turns:
        yield f"vm {vm.vm}: WBINVD {'was always' if vm.ended else 'is'} {said}."
    elif vm.ended:
        yield f"vm {vm.vm}: WBINVD was executed for a time."
    else:
        yield f"vm {vm.vm}: WBINVD is {said}."
    if not vm.executed and not vm.ended:
        yield from (f"  {link}" for link in vm.because)
    for number, turn in enumerate(vm.turns):
        if vm.left_out and number == len(vm.turns) // 2:
            yield f"  ... {vm.left_out} changes more ..."
        yield f"  {'executed' if turn.executed else 'a no-op'} from {turn.cause}"
        yield from (f"    {link}" for link in turn.chain)
    if vm.ended:
        yield f"  destroyed by {vm.ended}"


def _refusal(refusal: Refusal) -> Iterator[str]:
    times = f" ({refusal.times} times)" if refusal.times > 1 else ""
    yield f"REFUSED with {refusal.errno}{times}: {refusal.call}"
    yield f"  {'fault' if refusal.injected else 'rule'}: {refusal.rule}"
    if refusal.remedy:
        yield f"  fix:  {refusal.remedy}"
