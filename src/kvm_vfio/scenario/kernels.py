# SPDX-License-Identifier: GPL-2.0-only
"""Kernels by name: `model:6.1`, `guest:6.1`, `host`.

Rule of this file: whoever runs scripts gets a `ScenarioKernel` here and need not know which it is.
Each script meets the kernel as it is after booting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kvm_vfio.errors import InputError
from kvm_vfio.machine.load import load_machine
from kvm_vfio.machine.model import Machine, with_snoop_control
from kvm_vfio.profiles import PROFILES
from kvm_vfio.profiles.profile import Profile
from kvm_vfio.scenario.direct import DirectHands
from kvm_vfio.scenario.hands import Hands
from kvm_vfio.scenario.language import Operation
from kvm_vfio.scenario.model import ModelReferee
from kvm_vfio.scenario.runner import Runner

if TYPE_CHECKING:
    from kvm_vfio.guest.guest import Guest

Progress = Callable[[str], None]
"""Hears what is being waited for; often."""


class ScenarioKernel(Protocol):
    """Something that scripts run on."""

    @property
    def name(self) -> str:
        """What a person calls it."""

    @property
    def release(self) -> str:
        """What it calls itself."""

    @property
    def can_force(self) -> bool:
        """Whether force_coh works on it."""

    @contextmanager
    def hands(self, *, ahead: int | None = None) -> Iterator[Hands]:
        """A fresh process. `ahead` limits how many operations go on before their answers."""


class Answers(NamedTuple):
    """The result lines of a script, and why calls failed, by the line of the script."""

    lines: list[str]
    reasons: dict[int, str]

    def reason(self, line: str) -> str:
        """Why the call of this result line failed; nothing where it did not, or nobody knows."""
        number = line.partition(" ")[0]
        return self.reasons.get(int(number), "") if number.isdecimal() else ""


def performed(kernel: ScenarioKernel, operations: Iterable[Operation]) -> Answers:
    """What a script's operations answered."""
    with kernel.hands() as hands:
        runner = Runner(hands)
        return Answers(list(runner.run(operations)), runner.reasons)


def run(kernel: ScenarioKernel, operations: Iterable[Operation]) -> Iterator[str]:
    """The result lines of a script."""
    with kernel.hands() as hands:
        yield from Runner(hands).run(operations)


class ModelHands(DirectHands):
    """Hands on a model, which can be watched."""

    def __init__(self, referee: ModelReferee) -> None:
        super().__init__(referee.syscalls, referee)
        self.watch = referee.watch


@dataclass(frozen=True)
class ModelKernel:
    """A model kernel on a described machine."""

    name: str
    machine: Machine
    profile: Profile
    can_force: bool = True

    @property
    def release(self) -> str:
        return f"the model of Linux {self.profile.name}"

    @contextmanager
    def hands(self, *, ahead: int | None = None) -> Iterator[Hands]:
        yield ModelHands(ModelReferee(self.machine, self.profile))


def model_kernel(linux: str, *, snoop: bool, machine: str = "referee") -> ModelKernel:
    """The model of a kernel, on the machine of the recordings unless another is named."""
    if linux not in PROFILES:
        raise InputError(f"there is no model of Linux {linux!r}; there are {', '.join(PROFILES)}.")
    described = with_snoop_control(load_machine(machine), on=snoop)
    return ModelKernel(f"model:{linux}", described, PROFILES[linux])


class HostKernel:
    """The kernel of this computer."""

    name = "host"
    release = "the Linux of this computer"
    can_force = False

    @contextmanager
    def hands(self, *, ahead: int | None = None) -> Iterator[Hands]:
        from kvm_vfio.host import HostSyscalls  # noqa: PLC0415 - only where it is asked for
        from kvm_vfio.scenario.host import HostReferee  # noqa: PLC0415

        syscalls = HostSyscalls()
        hands = DirectHands(syscalls, HostReferee(syscalls), sees_effects=False)
        try:
            yield hands
        finally:
            hands.close_all()


class GuestKernel:
    """A kernel under QEMU. When it dies in one script, it is booted again for the next."""

    def __init__(self, linux: str, *, snoop: bool, progress: Progress = lambda _: None) -> None:
        from kvm_vfio.guest.packages import kernel  # noqa: PLC0415 - a model needs no packages

        self.name = f"guest:{linux}"
        self.boots = 0
        self._kernel = kernel(linux)
        self.can_force = not self._kernel.no_force
        self.snoop = snoop
        self._progress = progress
        self._guest = self._boot()

    @property
    def release(self) -> str:
        return f"Linux {self._guest.name}; intel-iommu"

    def _boot(self) -> Guest:
        from kvm_vfio.guest.guest import Guest  # noqa: PLC0415

        self.boots += 1
        guest = Guest(self._kernel, snoop=self.snoop)
        try:
            return guest.ready(lambda: self._progress(f"booting Linux {self._kernel.release}"))
        except BaseException:
            guest.close()
            raise

    @contextmanager
    def hands(self, *, ahead: int | None = None) -> Iterator[Hands]:
        from kvm_vfio.scenario.guest import GuestHands  # noqa: PLC0415

        if self._guest.dead:
            self._guest.close()
            self._guest = self._boot()
        try:
            yield GuestHands(self._guest, ahead=ahead or GuestHands.MOST)
        finally:
            if not self._guest.dead:
                self._guest.renew()

    def close(self) -> None:
        """End the guest."""
        self._guest.close()


@contextmanager
def opened(
    spec: str, *, snoop: bool, machine: str = "referee", progress: Progress = lambda _: None
) -> Iterator[ScenarioKernel]:
    """The kernel that `spec` names, ready for scripts.

    InputError for a name that is none; Unsupported where this computer lacks something.
    """
    kind, _, linux = spec.partition(":")
    if kind == "model" and linux:
        yield model_kernel(linux, snoop=snoop, machine=machine)
    elif kind == "guest" and linux:
        guest = GuestKernel(linux, snoop=snoop, progress=progress)
        try:
            yield guest
        finally:
            guest.close()
    elif spec == "host":
        yield HostKernel()
    else:
        raise InputError(f"there is no kernel {spec!r}; say model:6.1, guest:6.1 or host.")
