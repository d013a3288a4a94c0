# SPDX-License-Identifier: GPL-2.0-only
"""A headless Chromium with one page, driven over the pipe that DevTools offers.

Rule of this file: one command at a time; an error in the page is an error here.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import signal
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_SECONDS = 60.0


class Chromium:
    """The browser, and its page of `width` by `height`."""

    def __init__(
        self, program: str, profile: Path, *, width: int = 1400, height: int = 900
    ) -> None:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        self._pid, self._read, self._write = _start(
            program,
            *("--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
            *("--remote-debugging-pipe", f"--user-data-dir={profile}", *sandbox),
            *(f"--window-size={width},{height}", "--hide-scrollbars", "about:blank"),
        )
        self._pending = b""
        self._number = 0
        self._session: str | None = None
        self.requests: list[str] = []  # every address that was asked for
        self.complaints: list[str] = []  # exceptions, and what went to the console
        (page,) = [t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._call("Emulation.setDeviceMetricsOverride", **size)

    def open(self, url: str) -> None:
        """Go to a page, and wait until it says that it is ready."""
        self._call("Page.navigate", url=url)
        deadline = time.monotonic() + _SECONDS
        while not self.run("document.documentElement?.dataset.ready === 'yes'"):
            failed = self.run("document.getElementById('failure')?.textContent ?? ''")
            if failed or time.monotonic() > deadline:
                raise AssertionError(f"the page is not ready: {failed} {self.complaints}")
            time.sleep(0.01)

    def run(self, script: str) -> Any:  # noqa: ANN401 - what a script says
        """The value of an expression, awaited where it is a promise."""
        said = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in said:
            raise AssertionError(said["exceptionDetails"])
        return said["result"].get("value")

    def press(self, key: str, *, shift: bool = False, text: str = "") -> None:
        """A key, as a person's keyboard sends it."""
        event = {"key": key, "modifiers": 8 if shift else 0, "text": text}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, **event)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The left button goes down at `start`, and up at `end`."""
        for kind, (x, y) in (
            ("mousePressed", start),
            ("mouseMoved", end),
            ("mouseReleased", end),
        ):
            buttons = 0 if kind == "mouseReleased" else 1
            event = {"x": x, "y": y, "button": "left", "buttons": buttons, "clickCount": 1}
            self._call("Input.dispatchMouseEvent", type=kind, **event)

    def prefer(self, scheme: str) -> None:
        """Prefer the colour scheme "dark" or "light"."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, file: Path) -> None:
        data = self._call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        os.close(self._read)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the pipe ----------------------------------------------------------------------------------

    def _call(self, method: str, **params: object) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            said = self._message()
            if said.get("id") == self._number:
                if "error" in said:
                    raise AssertionError(f"{method}: {said['error']}")
                result: dict[str, Any] = said["result"]
                return result
            self._hear(said.get("method", ""), said.get("params", {}))

    def _hear(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.complaints.append(json.dumps(params)[:2000])

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._read], [], [], _SECONDS)
            more = os.read(self._read, 1 << 16) if ready else b""
            if not more:
                raise AssertionError(f"Chromium does not answer; it said {self.complaints}")
            self._pending += more
        message, _, self._pending = self._pending.partition(b"\0")
        said: dict[str, Any] = json.loads(message)
        return said


def _start(program: str, *arguments: str) -> tuple[int, int, int]:
    """The browser's process, and the pipe's ends to read from and to write to.

    The browser has its own ends as 3 and 4.
    """
    its_read, write = os.pipe()
    read, its_write = os.pipe()
    ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (its_read, its_write)]
    nothing = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]
    actions = [(os.POSIX_SPAWN_DUP2, end, fd) for fd, end in enumerate(ends, 3)]
    pid = os.posix_spawn(
        program, [program, *arguments], os.environ, file_actions=[*nothing, *actions]
    )
    for fd in (its_read, its_write, *ends):
        os.close(fd)
    return pid, read, write
