# SPDX-License-Identifier: GPL-2.0-only
"""`kvm-vfio completion`: what a shell must run to complete this command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_KVM_VFIO_COMPLETE"  # click's own name for it


@click.command(
    epilog="""\b
bash  kvm-vfio completion bash > ~/.local/share/bash-completion/completions/kvm-vfio
zsh   kvm-vfio completion zsh > ~/.zfunc/_kvm-vfio       (a directory of $fpath)
fish  kvm-vfio completion fish > ~/.config/fish/completions/kvm-vfio.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion for SHELL, to be put where it looks for such."""
    kind = get_completion_class(shell)
    if kind is None:
        raise TypeError(f"click has no completion for {shell}")
    made = kind(ctx.find_root().command, {}, "kvm-vfio", _VARIABLE)
    click.echo(made.source_template % made.source_vars())
