# SPDX-License-Identifier: GPL-2.0-only
"""Test a VMM with pytest: kernels, machines and supervised programs as fixtures.

Rule of this file: it is loaded by every pytest run on a computer that has kvm-vfio, so it imports
nothing of ours before a test asks for something.

    @pytest.mark.vfio(linux=["5.10", "6.12"], snoop=[True, False])
    def test_start(vfio_kernel): ...

runs a test once on each kernel. `vfio_kernel` is a process on a model kernel, `vfio_run` runs a
program under `kvm-vfio run`, `vfio_machine` is what both see. What is left open when the test ends
fails it, and a test that fails says what kvm-vfio can explain of it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvm_vfio.client import ModelSyscalls
    from kvm_vfio.machine.model import Machine
    from kvm_vfio.trace.explanation import Explanation

_MARK = (
    "vfio(linux=..., snoop=..., machine=..., fail=..., leaks=...): the kernels and machines of this"
    " test. linux: a version or a list; snoop: True, False or both in a list; machine: a built-in"
    " one or a file; fail: faults to inject; leaks=False: what is left open does not fail it"
)
_LEAKS = ("closed before DEL", "left open", "leaked reference")  # kinds of problems
_OTHERS = ("fail", "fail_any", "fail_seed", "leaks")  # what the marker says of every run alike
_ARGUMENTS = ("linux", "snoop", "machine", *_OTHERS)
_TIMEOUT = 60.0  # seconds for a supervised program

_told: pytest.StashKey[list[Callable[[], str]]] = pytest.StashKey()


@dataclass(frozen=True, slots=True)
class VfioCase:
    """What one run of a test is about. `snoop` None: as the machine is described."""

    linux: str
    snoop: bool | None = None
    machine: str = "default"

    def __str__(self) -> str:
        snoop = {True: "-snoop", False: "-nosnoop", None: ""}[self.snoop]
        machine = "" if self.machine == "default" else f"-{Path(self.machine).stem}"
        return f"{self.linux}{snoop}{machine}"


def pytest_configure(config: pytest.Config) -> None:
    """The marker, for --strict-markers."""
    config.addinivalue_line("markers", _MARK)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`vfio_leaks` in the configuration file, for all tests; the marker wins."""
    parser.addini("vfio_leaks", "fail tests that leave VFIO files open", type="bool", default=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A marked test runs once for each case."""
    if "vfio_case" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("vfio")
        if mark is not None:
            cases = _cases(mark, metafunc.definition.nodeid)
            metafunc.parametrize("vfio_case", cases, ids=map(str, cases), indirect=True)


def _cases(mark: pytest.Mark, place: str) -> list[VfioCase]:
    from kvm_vfio.profiles import DEFAULT, PROFILES  # noqa: PLC0415 - not before a test asks

    given = dict(mark.kwargs)
    for other in _OTHERS:
        given.pop(other, None)
    versions = _listed(given.pop("linux", DEFAULT.name))
    snoop = _listed(given.pop("snoop", None))
    machines = _listed(given.pop("machine", "default"))
    if given or mark.args:
        wrong = ", ".join([*map(repr, mark.args), *given])
        raise pytest.UsageError(f"{place}: the marker vfio knows no {wrong}; say {_or(_ARGUMENTS)}")
    for version in versions:
        if version not in PROFILES:
            raise pytest.UsageError(
                f"{place}: there is no Linux {version!r}; there are {', '.join(PROFILES)}"
            )
    for each in snoop:
        if each not in (True, False, None):
            raise pytest.UsageError(f"{place}: snoop is True, False or a list, and not {each!r}")
    return [VfioCase(*case) for case in product(versions, snoop, machines)]


def _or(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _faults(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the marker says of faults, as `model` takes it."""
    mark = request.node.get_closest_marker("vfio")
    given = {} if mark is None else mark.kwargs
    return {
        "fail": _listed(given.get("fail", [])),
        "fail_any": bool(given.get("fail_any", False)),
        "fail_seed": int(given.get("fail_seed", 0)),
    }


def _listed(value: Any) -> list[Any]:  # noqa: ANN401 - one thing or several
    return list(value) if isinstance(value, list | tuple | set) else [value]


# -- fixtures --------------------------------------------------------------------------------------


@pytest.fixture
def vfio_case(request: pytest.FixtureRequest) -> VfioCase:
    """Which kernel, snoop control and machine this run of the test is about."""
    from kvm_vfio.profiles import DEFAULT  # noqa: PLC0415

    case = getattr(request, "param", None)
    return case if isinstance(case, VfioCase) else VfioCase(DEFAULT.name)


@pytest.fixture
def vfio_machine(vfio_case: VfioCase) -> Machine:
    """The machine that the kernel runs on; a fixture of your own with this name replaces it."""
    from kvm_vfio.machine.load import load_machine  # noqa: PLC0415
    from kvm_vfio.machine.model import with_snoop_control  # noqa: PLC0415

    machine = load_machine(vfio_case.machine)
    return machine if vfio_case.snoop is None else with_snoop_control(machine, on=vfio_case.snoop)


@pytest.fixture
def vfio_kernel(
    request: pytest.FixtureRequest, vfio_case: VfioCase, vfio_machine: Machine
) -> Iterator[ModelSyscalls]:
    """A process on a fresh model kernel, for `Kvm`, `Container`, `Group` and code built on them.

    When the test ends, every VFIO and KVM file must be closed.
    """
    from kvm_vfio.client import model  # noqa: PLC0415
    from kvm_vfio.trace.history import History  # noqa: PLC0415

    history = History()
    process = model(vfio_case.linux, vfio_machine, trace=history, **_faults(request))
    _remember(request.node, lambda: str(history.explanation()))
    yield process
    if _checks_leaks(request):
        held = list(history.held())
        if held:
            _leak(held)


@dataclass
class Finished:
    """A program that ran under `kvm-vfio run`; `trace` is the file of its calls."""

    returncode: int
    stdout: str
    stderr: str
    trace: Path

    @cached_property
    def explanation(self) -> Explanation:
        """What can be said of its calls."""
        from kvm_vfio.trace.history import History  # noqa: PLC0415
        from kvm_vfio.trace.jsonl import read_trace  # noqa: PLC0415

        history = History()
        history(read_trace(self.trace))
        return history.explanation()


@dataclass
class VfioRun:
    """`vfio_run(program, argument, ...)` runs a program and waits for its end."""

    case: VfioCase
    machine: Path
    directory: Path
    faults: Sequence[str] = ()
    finished: list[Finished] = field(default_factory=list)

    def __call__(
        self,
        *command: str | Path,
        kvm: str | None = None,
        options: Sequence[str] = (),
        stdin: str | None = None,
        timeout: float = _TIMEOUT,
    ) -> Finished:
        """Run `command`. `kvm`: "host" or "model"; `options`: more of `kvm-vfio run`."""
        trace = self.directory / f"trace-{len(self.finished) + 1}.jsonl"
        ours = [sys.executable, "-m", "kvm_vfio", "run", "--quiet", f"--trace={trace}"]
        ours += [f"--machine={self.machine}", f"--linux={self.case.linux}", *self.faults]
        if kvm is not None:
            ours.append(f"--kvm={kvm}")
        done = subprocess.run(
            [*ours, *options, "--", *map(str, command)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        finished = Finished(done.returncode, done.stdout, done.stderr, trace)
        if trace.exists() and trace.stat().st_size:
            self.finished.append(finished)
        return finished


@pytest.fixture
def vfio_run(
    request: pytest.FixtureRequest, vfio_case: VfioCase, vfio_machine: Machine, tmp_path: Path
) -> Iterator[VfioRun]:
    """Runs an unmodified program on the kernel and machine of the test.

    When the test ends, no program must have left open what it should have closed.
    """
    from kvm_vfio.machine.write import machine_text  # noqa: PLC0415

    directory = tmp_path / "vfio"
    directory.mkdir()
    description = directory / "machine.toml"
    description.write_text(machine_text(vfio_machine), encoding="utf-8")
    faults = _faults(request)
    options = [f"--fail={spec}" for spec in faults["fail"]]
    options += [f"--fail-seed={faults['fail_seed']}", *["--fail-any"] * faults["fail_any"]]
    run = VfioRun(vfio_case, description, directory, options)
    _remember(request.node, lambda: "\n\n".join(str(each.explanation) for each in run.finished))
    yield run
    if _checks_leaks(request):
        leaks = [
            f"{problem.what}\n  call: {problem.call}\n  fix:  {problem.remedy}"
            for finished in run.finished
            for problem in finished.explanation.problems
            if problem.kind in _LEAKS
        ]
        if leaks:
            _leak(leaks)


def _checks_leaks(request: pytest.FixtureRequest) -> bool:
    mark = request.node.get_closest_marker("vfio")
    wanted = None if mark is None else mark.kwargs.get("leaks")
    return bool(request.config.getini("vfio_leaks")) if wanted is None else bool(wanted)


def _leak(lines: Sequence[str]) -> None:
    more = f"\n... and {len(lines) - 20} more" if len(lines) > 20 else ""  # noqa: PLR2004 - a screen
    pytest.fail("leaked:\n" + "\n".join(lines[:20]) + more, pytrace=False)


# -- reports ---------------------------------------------------------------------------------------


def _remember(item: pytest.Item, tell: Callable[[], str]) -> None:
    item.stash.setdefault(_told, []).append(tell)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what kvm-vfio can explain to the report of a test that failed."""
    report = yield
    if report.failed:
        for tell in item.stash.get(_told, []):
            if text := tell():
                report.sections.append((f"kvm-vfio explain, {report.when}", text))
    return report
