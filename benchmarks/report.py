# SPDX-License-Identifier: GPL-2.0-only
"""(g) The report of a trace of 100,000 calls, in a headless Chromium.

What it costs to open is set against the page of a hundredth of the calls; what it costs to search
and to scrub, against a turn of the browser in which nothing is asked: each ends when the browser
has painted. That the page is ready within two seconds is said beside.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.measure import Finding, Meter, compare, take_turns
from kvm_vfio.errors import Unsupported
from kvm_vfio.report.course import course
from kvm_vfio.report.page import page
from kvm_vfio.trace.jsonl import read_trace
from tests.browser.chromium import Chromium
from tests.support import find_chromium

BUSY = Path(__file__).parents[1] / "tests" / "browser" / "busy.py"
CALLS = 100_000
MOST_SECONDS = 2.0
LARGE, SMALL = f"a page of {CALLS:,} calls", f"a page of {CALLS // 100:,} calls"
NOTHING = "a turn of the browser"
_ACTS = {
    NOTHING: "",
    "search": "search.value = rounds++ % 2 ? 'group_add eexist' : 'unmap 0x6d000';"
    "search.dispatchEvent(new Event('input'));",
    "scrub": "report.choose(Math.floor(rows * (rounds++ * 7919 % 100) / 100));",
    "choose an object": "report.chooseNode(rounds++ % 5);",
}
_LIMITS = {"search": 12.0, "scrub": 6.0, "choose an object": 12.0}


def made(directory: Path, calls: int) -> str:
    """The address of the page of a program that makes so many calls."""
    trace, html = directory / f"{calls}.jsonl", directory / f"{calls}.html"
    run = [sys.executable, "-m", "kvm_vfio", "run", "-q", "--kvm", "model", "--trace", str(trace)]
    subprocess.run([*run, sys.executable, str(BUSY), str(calls)], check=True)
    html.write_text(page(course(read_trace(trace))))
    return f"file://{html}"


def opening(browser: Chromium, url: str) -> Meter:
    """Seconds from navigation to a page that answers."""

    def once() -> float:
        browser.open(url)
        return float(browser.run("report.ready")) / 1000

    return once


def acting(browser: Chromium, act: str) -> Meter:
    """Seconds until the browser has painted what came of it."""
    script = (
        "(async () => { const search = document.getElementById('search');"
        "window.rounds ??= 0; const rows = report.data.rows.size; const from = performance.now();"
        f"{act} await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
        "return performance.now() - from; })()"
    )
    return lambda: float(browser.run(script)) / 1000


def findings(rounds: int) -> Iterator[Finding]:
    program = find_chromium()
    if program is None:
        raise Unsupported("there is no chromium; as root: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        large, small = made(directory, CALLS), made(directory, CALLS // 100)
        with Chromium(program, directory / "profile") as browser:
            meters = {LARGE: opening(browser, large), SMALL: opening(browser, small)}
            opened = take_turns(rounds, meters)
            yield compare("g", "open", opened, LARGE, SMALL, 6.0)
            seconds = median(opened[LARGE])
            verdict = "ok" if seconds < MOST_SECONDS else "over"
            yield f"(g) {LARGE} is ready in {seconds:.2f} s, limit {MOST_SECONDS:g} s: {verdict}"
            browser.open(large)
            acts = {case: acting(browser, act) for case, act in _ACTS.items()}
            samples = take_turns(rounds, acts)
            for case, limit in _LIMITS.items():
                yield compare("g", case, samples, case, NOTHING, limit)
