# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio explain`: what a traced program did wrong, and why its WBINVD was executed."""

from __future__ import annotations

import sys

import click


@click.command()
@click.argument("trace")
@click.option("--json", "as_json", is_flag=True, help="For machines: one object.")
def explain(trace: str, as_json: bool) -> None:
    """Explain a TRACE that `kvm-vfio run --trace` wrote.

    Problems first: what the program should do otherwise, in which call, and how. Then for each VM
    whether its WBINVD was executed and why; then each call that was refused, with the rule and what
    would satisfy it. Exit status 1 when there is a problem.
    """
    from kvm_vfio.trace.history import History
    from kvm_vfio.trace.jsonl import read_trace

    history = History()
    history(read_trace(trace))
    told = history.explanation()
    click.echo(told.to_json() if as_json else str(told))
    sys.exit(1 if told.problems else 0)
