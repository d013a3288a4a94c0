# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio report`: a trace as a page."""

from __future__ import annotations

from pathlib import Path

import click

from kvm_vfio.errors import InputError


@click.command()
@click.argument("trace", type=click.Path(path_type=Path))
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page goes. Default: TRACE with .html at its end.",
)
def report(trace: Path, output: Path | None) -> None:
    """Make a page of the TRACE that `kvm-vfio run --trace` wrote.

    The page is one file and fetches nothing: problems first, a timeline to scrub, what held what at
    that moment, and every call, to be searched.
    """
    from kvm_vfio.report.course import course
    from kvm_vfio.report.page import page
    from kvm_vfio.trace.jsonl import read_trace

    output = output or trace.with_suffix(".html")
    text = page(course(read_trace(trace)))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}; name a file that can be written") from None
    click.echo(output)
