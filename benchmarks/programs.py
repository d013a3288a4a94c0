# SPDX-License-Identifier: GPL-2.0-only
"""Programs that are measured: each is started once, then asked line by line for one measurement."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kvm_vfio.errors import KvmVfioError


def supervised(*command: str, options: Sequence[str] = ()) -> list[str]:
    """`command` under kvm-vfio, which says nothing of its own."""
    beside_python = os.path.dirname(sys.executable)
    found = shutil.which("kvm-vfio", path=beside_python + os.pathsep + os.environ["PATH"])
    ours = [found] if found else [sys.executable, "-m", "kvm_vfio"]
    return [*ours, "run", "--quiet", *options, "--", *command]


class Program:
    """A running program that answers each line on its standard input with a line."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = " ".join(command)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, line: str) -> list[str]:
        """The words of the answer."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(line + "\n")
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise KvmVfioError(
                f"`{self.command}` ended with status {self._process.wait()} when asked for `{line}`"
            )
        return answer.split()

    def child(self) -> int:
        """Its only child, which it has once it has answered."""
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii"))

    def part(self) -> bool:
        """Keep it and its child on two CPUs; False where there is only one."""
        pid, cpus = self._process.pid, sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            return False
        os.sched_setaffinity(pid, cpus[:1])
        os.sched_setaffinity(self.child(), cpus[1:2])
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.communicate()
