# SPDX-License-Identifier: GPL-2.0-only
"""Words that a shell completes where click cannot know them."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def machines(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Built-in machines, else files: bash takes one kind or the other."""
    from kvm_vfio.machine.load import builtin_machines

    names = [name for name in builtin_machines() if name.startswith(incomplete)]
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def programs(
    _ctx: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Files: the shell's own completion of commands is not to be had here."""
    return [CompletionItem(incomplete, type="file")]
