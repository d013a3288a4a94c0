# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor: start it, talk QMP, wait for what it says."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu.qmp import ConnectError, EventListener, QMPClient, QMPError

PATIENCE = 30.0  # seconds


class Qemu:
    """A QEMU started by `command`, with its monitor on a socket at `path`."""

    def __init__(self, command: list[str], path: Path) -> None:
        self._command = [*command, "-qmp", f"unix:{path},server=on,wait=off"]
        self._path = path
        self._client = QMPClient("demo")
        self._deleted = EventListener(("DEVICE_DELETED",))
        self._process: asyncio.subprocess.Process | None = None
        self.status = -1

    async def __aenter__(self) -> Self:
        """Start, and connect as soon as the monitor listens. ConnectionError: QEMU ends first."""
        self._process = await asyncio.create_subprocess_exec(*self._command)
        self._client.register_listener(self._deleted)
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self._client.connect(str(self._path))
                except ConnectError:
                    if self._process.returncode is not None:
                        status = self._process.returncode
                        raise ConnectionError(f"QEMU ended with exit status {status}") from None
                    await asyncio.sleep(0.05)
                else:
                    return self

    async def execute(self, command: str, **arguments: object) -> Any:  # noqa: ANN401  # any JSON
        """One QMP command and its answer."""
        return await asyncio.wait_for(self._client.execute(command, arguments), PATIENCE)

    async def unplug(self, device: str) -> None:
        """Unplug, and wait until QEMU says that the device is gone.

        A running guest would have to agree; a paused one is asked no more after a reset.
        """
        await self.execute("device_del", id=device)
        await self.execute("system_reset")
        await asyncio.wait_for(self._deleted.get(), PATIENCE)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Quit, and remember the exit status."""
        if self._process is None:
            return
        with suppress(EOFError, OSError, QMPError):  # QEMU hangs up, perhaps before it answers
            if kind is None:
                await self.execute("quit")
        if kind is not None:
            self._process.kill()
        with suppress(EOFError, OSError):
            await self._client.disconnect()
        self.status = await asyncio.wait_for(self._process.wait(), PATIENCE)
