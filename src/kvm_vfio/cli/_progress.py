# SPDX-License-Identifier: GPL-2.0-only
"""What is being waited for, for a person who looks: on standard error, and only on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.status import Status


@contextmanager
def waiting() -> Iterator[Callable[[str], None]]:
    """Gives a function that shows what is waited for."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _text: None
        return
    with Status("", console=console) as status:
        yield status.update


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Gives a function that tells how much more has been done of `total`."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.speed} a second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda more: progress.advance(task, more)
