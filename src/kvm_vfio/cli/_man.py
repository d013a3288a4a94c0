# SPDX-License-Identifier: GPL-2.0-only
"""Manual pages, from what click knows of the command: one for each command and subcommand.

Rule of this file: a page says what `--help` says and nothing of its own, so it cannot be wrong
where that is right. There is no date in it: the same version gives the same page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

_PARAGRAPHS = re.compile(r"\n[ \t]*\n")


def pages(command: click.Command, name: str, version: str) -> Iterator[tuple[str, str]]:
    """The name of each page's file, and its content."""
    context = click.Context(command, info_name=name, **command.context_settings)
    yield from _pages(context, version)


def _pages(ctx: click.Context, version: str) -> Iterator[tuple[str, str]]:
    yield f"{_file(ctx)}.1", "\n".join(_page(ctx, version)) + "\n"
    for below in _below(ctx):
        yield from _pages(below, version)


def _below(ctx: click.Context) -> list[click.Context]:
    group = ctx.command
    if not isinstance(group, click.Group):
        return []
    commands = ((name, group.get_command(ctx, name)) for name in group.list_commands(ctx))
    return [
        click.Context(command, parent=ctx, info_name=name, **command.context_settings)
        for name, command in commands
        if command is not None and not command.hidden
    ]


def _file(ctx: click.Context) -> str:
    return ctx.command_path.replace(" ", "-")


def _page(ctx: click.Context, version: str) -> Iterator[str]:
    command, name = ctx.command, _file(ctx)
    yield f'.TH "{name.upper()}" 1 "" "kvm-vfio {version}" "kvm-vfio"'
    yield ".SH NAME"
    yield f"{_plain(name)} \\- {_plain(command.get_short_help_str(200).rstrip('.'))}"
    yield ".SH SYNOPSIS"
    yield f".B {_plain(ctx.command_path)}"
    yield _plain(" ".join(command.collect_usage_pieces(ctx)))
    yield ".SH DESCRIPTION"
    yield from _text(command.help or "")
    options = [parameter.get_help_record(ctx) for parameter in command.get_params(ctx)]
    yield ".SH OPTIONS"
    for names, meaning in (record for record in options if record and record[1]):
        yield from (".TP", f".B {_plain(names)}", _plain(meaning))
    subcommands = _below(ctx)
    if subcommands:
        yield ".SH COMMANDS"
    for below in subcommands:
        yield from (".TP", f".BR {_plain(_file(below))} (1)")
        yield _plain(below.command.get_short_help_str(200))
    if command.epilog:
        yield from (".SH EXAMPLES", *_text(command.epilog))
    yield ".SH EXIT STATUS"
    yield "2, with a sentence that says what is wrong and how to mend it; else 0, or what the"
    yield "description says."
    above = [".BR " + _plain(_file(ctx.parent)) + " (1)"] if ctx.parent else []
    if above:
        yield from (".SH SEE ALSO", *above)


def _text(text: str) -> Iterator[str]:
    """Paragraphs; one that begins with click's backspace keeps its lines."""
    for paragraph in _PARAGRAPHS.split(text.strip()):
        lines = [line.strip() if "\b" not in paragraph else line for line in paragraph.split("\n")]
        if lines[0].strip() == "\b":
            yield from (".PP", ".nf", *map(_plain, lines[1:]), ".fi")
        else:
            yield from (".PP", *map(_plain, lines))


def _plain(text: str) -> str:
    """Text that groff prints as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
