# SPDX-License-Identifier: GPL-2.0-only
"""A campaign: random scripts on two kernels, and every way in which they differ.

Rule of this file: a script follows from its seed, and campaigns from their first seed. What one
kernel cannot say (`NotModelled`) ends a script early, for both.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from kvm_vfio.errors import InputError, KvmVfioError, NotModelled
from kvm_vfio.scenario.compare import Difference, difference, operations, shrink
from kvm_vfio.scenario.coverage import Coverage
from kvm_vfio.scenario.generate import Generator
from kvm_vfio.scenario.kernels import ModelHands, ScenarioKernel, opened, run
from kvm_vfio.scenario.language import Operation
from kvm_vfio.scenario.language import operations as operation_lines
from kvm_vfio.scenario.runner import Runner

LENGTH = 150
"""Operations of a script: enough to build something, few enough that a difference shrinks soon."""


class Found(NamedTuple):
    """A difference, the shortest script that shows it, and the seed it came from."""

    seed: int
    script: list[str]
    difference: Difference


class Campaign:
    """Compares `model`, which may not know everything, with `linux`."""

    def __init__(self, model: ScenarioKernel, linux: ScenarioKernel) -> None:
        self.coverage = Coverage()
        self._model = model
        self._linux = linux
        self._seen: set[tuple[str, str]] = set()

    def script(self, seed: int, length: int = LENGTH) -> Found | None:
        """Run the script of one seed: the difference it shows, shrunk, unless its like was seen."""
        generator = Generator(seed, force=self._model.can_force and self._linux.can_force)
        script: list[str] = []
        expected = list(self._known(self._written(generator, script, length), generator.hear))
        try:
            answers = self._answers(script, expected)
            self.coverage.add(answers)
            differs = difference(expected, answers)
            if differs is None or differs.kind in self._seen:
                return None
            self._seen.add(differs.kind)
            return self._shrunk(seed, script, differs)
        except KvmVfioError as error:
            alone = f"run it alone with --seed {seed} --calls 1"
            self.coverage.died.append(f"seed {seed}: {error}; {alone}")
            return None

    @staticmethod
    def _written(generator: Generator, script: list[str], length: int) -> Iterator[Operation]:
        """Operations, each written when the one before has been heard of."""
        for _ in range(length):
            script.append(generator.next())
            yield from operation_lines(script[-1:], "<script>", first=len(script))

    def _known(
        self, script: Iterable[Operation], hear: Callable[[str], None] = lambda _: None
    ) -> Iterator[str]:
        """What the model answers, up to what it does not know."""
        with self._model.hands() as hands:
            watch = hands.watch if isinstance(hands, ModelHands) else None
            try:
                for line in Runner(hands).run(script):
                    if watch is not None:
                        watch.look()
                    hear(line)
                    yield line
            except NotModelled as error:
                self.coverage.not_modelled[str(error)] += 1
            if watch is not None:
                self.coverage.asked += watch.asked
                self.coverage.transitions += watch.transitions

    def _answers(self, script: Sequence[str], expected: Sequence[str]) -> list[str]:
        """What the other kernel answers to what the model knows."""
        return list(run(self._linux, operations(script[: len(expected)])))

    def _difference(self, script: Sequence[str]) -> Difference | None:
        expected = list(self._known(operations(script)))
        return difference(expected, self._answers(script, expected))

    def _shrunk(self, seed: int, script: Sequence[str], found: Difference) -> Found:
        def differ(shorter: Sequence[str]) -> bool:
            try:
                other = self._difference(shorter)
            except InputError:  # force_coh of what is no group any more
                return False
            return other is not None and other.kind == found.kind

        short = shrink(script[: found.place + 1], differ)
        return Found(seed, short, self._difference(short) or found)


@dataclass(frozen=True)
class Pair:
    """Which two kernels are compared, by name."""

    model: str
    linux: str
    snoop: bool


class Step(NamedTuple):
    """What one script of a campaign has brought."""

    coverage: Coverage
    found: Found | None


def campaign(pair: Pair, *, seed: int, calls: int, workers: int) -> Iterator[Step]:
    """Scripts from `seed` on until so many calls were made, in processes with a guest each."""
    seeds = count(seed)
    made = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin) as pool:
        waiting: set[Future[Step]] = set()
        while made < calls:
            while len(waiting) < 2 * workers:
                waiting.add(pool.submit(_step, pair, next(seeds)))
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                step = future.result()
                made += max(step.coverage.calls, 1)
                yield step
        pool.shutdown(cancel_futures=True)


_kernels = ExitStack()  # of this worker, as long as it lives
_campaigns: dict[Pair, Campaign] = {}


def _begin() -> None:
    """In a worker: Ctrl-C is for the campaign to answer; without a campaign there is no worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_campaign, daemon=True).start()


def _end_with_the_campaign() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _step(pair: Pair, seed: int) -> Step:
    if pair not in _campaigns:
        model, linux = (
            _kernels.enter_context(opened(spec, snoop=pair.snoop))
            for spec in (pair.model, pair.linux)
        )
        _campaigns[pair] = Campaign(model, linux)
    work = _campaigns[pair]
    work.coverage = Coverage()
    found = work.script(seed)
    return Step(work.coverage, found)
