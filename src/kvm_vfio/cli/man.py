# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio man`: the manual pages, where an installation has not brought them."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from kvm_vfio.errors import InputError


@click.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.pass_context
def man(ctx: click.Context, directory: Path) -> None:
    """Write the manual pages into DIRECTORY, such as ~/.local/share/man/man1.

    An installed wheel has them already, in share/man.
    """
    from kvm_vfio.cli._man import pages

    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in pages(ctx.find_root().command, "kvm-vfio", version("kvm-vfio")):
            (directory / name).write_text(content, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"{directory}: {reason}; name a directory to write to") from None
