# SPDX-License-Identifier: GPL-2.0-only
"""A guest that runs: boot it, have calls made in it, give it a new worker, end it.

Rule of this file: one QEMU process, which cannot outlive this one; nothing of it is left in the
file system.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import IO, NamedTuple, Self

from kvm_vfio.errors import Unsupported
from kvm_vfio.guest import initrd, machine, plan
from kvm_vfio.guest.batch import Batch
from kvm_vfio.guest.channel import Channel, GuestDied
from kvm_vfio.guest.packages import GuestKernel

_BOOT_SECONDS = 60.0  # four times what a busy computer needs
_WORKER_SECONDS = 20.0
_CALL_SECONDS = 20.0  # more than the agent's own patience
_TELLING = re.compile(r"panic|BUG|Oops|RIP: 0010|qemu")
_EVENT = struct.Struct("<QQ")


class Event(NamedTuple):
    """A watched function ran: what that means (see `plan.PROBES`), and the recorded argument."""

    name: str
    argument: int


class Guest:
    """A booted kernel. Its worker, the process that makes the calls, can be renewed."""

    def __init__(self, kernel: GuestKernel, *, snoop: bool) -> None:
        """Start QEMU; `ready` waits for the kernel. Unsupported when there is no QEMU."""
        self.kernel = kernel
        self.snoop = snoop
        self.dead = False
        self.iommu_groups: dict[str, int] = {}  # of devices, as far as anybody has asked
        self._files = [os.memfd_create(name) for name in ("memory", "console", "initrd")]
        memory, self._console, archive = self._files
        os.ftruncate(memory, machine.MEMORY_BYTES)
        with open(archive, "wb", closefd=False) as file:
            file.write(initrd.build(kernel, plan.text(kernel)))
        self._qemu = self._start(*map(_path, self._files))
        self._channel = Channel(memory, _pipes(self._qemu), patience=_CALL_SECONDS)

    def _start(self, memory: str, console: str, archive: str) -> subprocess.Popen[bytes]:
        files = machine.Files(memory, console, str(self.kernel.image), archive)
        qemu = machine.command(files, snoop=self.snoop)
        for program, package in ((qemu[0], "qemu-system-x86"), ("setpriv", "util-linux")):
            if shutil.which(program) is None:
                remedy = f"as root: apt-get install {package}"
                raise Unsupported(f"{program} is not here, and a guest needs it; {remedy}")
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *qemu],  # noqa: S607 - found above
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._console,
            pass_fds=self._files,
            bufsize=0,
        )

    def ready(self, tick: Callable[[], None] = lambda: None) -> Self:
        """Wait until the first worker is there. `tick` is called ten times a second."""
        try:
            self._wait_for_boot(tick)
        except GuestDied as error:
            raise self._died(error) from None
        return self

    def _wait_for_boot(self, tick: Callable[[], None]) -> None:
        for _ in range(int(_BOOT_SECONDS * 10)):
            bell = self._channel.wait(0.1)
            tick()
            if bell == b"f":
                raise GuestDied(self._channel.text())
            if bell == b"r":
                return
        raise GuestDied(f"no answer within {_BOOT_SECONDS:g} seconds")

    @property
    def name(self) -> str:
        """What the kernel calls itself: release and version, as uname says them."""
        return self._channel.text()

    @property
    def events(self) -> frozenset[str]:
        """The events that this kernel can have."""
        armed = self._channel.header().probes
        return frozenset(p.event for i, p in enumerate(plan.PROBES) if armed >> i & 1)

    def perform(self, batch: Batch, *, more_patience: float = 0.0) -> None:
        """Have the calls made. GuestDied when the guest does not survive it.

        `more_patience`: so many seconds longer than any call may an instruction take.
        """
        try:
            self._channel.perform(batch, more_patience=more_patience)
        except GuestDied as error:
            raise self._died(error) from None

    def renew(self) -> list[Event]:
        """End the worker and start another: the events that this caused.

        GuestDied when something of the worker's outlived it.
        """
        try:
            return self._renew()
        except GuestDied as error:
            raise self._died(error) from None

    def _renew(self) -> list[Event]:
        self._channel.ring(b"e")
        if self._channel.wait(_WORKER_SECONDS) != b"e":
            raise GuestDied("the worker does not end")
        header = self._channel.header()
        events = heard(_EVENT.iter_unpack(self._channel.left_over()))
        if header.held:
            raise GuestDied(f"the worker ended, and the drivers are held {header.held} times")
        if self._channel.wait(_WORKER_SECONDS) != b"r":
            raise GuestDied("no new worker came")
        return events

    def console(self) -> str:
        """What the kernel, QEMU and the agent have written."""
        size = os.fstat(self._console).st_size
        return os.pread(self._console, size, 0).decode(errors="replace")

    def close(self) -> None:
        """End the guest."""
        self._qemu.kill()
        self._qemu.wait()
        for pipe in _pipes(self._qemu):
            pipe.close()
        self._channel.close()
        while self._files:
            os.close(self._files.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _died(self, error: GuestDied) -> GuestDied:
        self.dead = True
        lines = [line.strip() for line in self.console().splitlines() if line.strip()]
        telling = [line for line in lines if _TELLING.search(line)][:3] or lines[-3:]
        said = f"; its last words: {' / '.join(telling)}" if telling else ""
        return GuestDied(f"the guest of Linux {self.kernel.version}: {error}{said}")


def heard(recorded: Iterable[tuple[int, int]]) -> list[Event]:
    """Events from what probes recorded: the number of a probe, and its argument."""
    events = []
    for number, argument in recorded:
        probe = plan.PROBES[number]
        events.append(Event(probe.event, argument & (1 << probe.bits) - 1))
    return events


def _path(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _pipes(qemu: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if qemu.stdin is None or qemu.stdout is None:
        raise TypeError("QEMU was started without pipes")
    return qemu.stdin, qemu.stdout
