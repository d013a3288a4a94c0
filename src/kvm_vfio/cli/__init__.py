# SPDX-License-Identifier: GPL-2.0-only
"""The command `kvm-vfio`.

Every module in this package is a subcommand: `run.py` defines the click command `run`. A module is
imported only when its command is used or listed, so that `kvm-vfio run` starts fast. A module whose
name begins with an underscore is shared by commands and is none itself.

What a person got wrong is said in one sentence on standard error, with exit status 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pkgutil import iter_modules

import click

from kvm_vfio.errors import KvmVfioError


class Refusal(click.ClickException):
    """A sentence for a person, or several: `kvm-vfio: what is wrong`, exit status 2."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        """Write each sentence to standard error, wherever click would put it."""
        del file
        for line in self.format_message().splitlines():
            click.echo(f"kvm-vfio: {line}", err=True)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what a person can mend into a `Refusal`; a bug keeps its traceback."""
    try:
        yield
    except KvmVfioError as error:
        raise Refusal(str(error)) from error
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        remedy = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        raise Refusal(error.format_message().rstrip(".") + remedy) from error


class LazyGroup(click.Group):
    """The modules of this package as subcommands, imported when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        modules = (module.name for module in iter_modules(__path__))
        return sorted(name for name in modules if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(import_module(f"{__name__}.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"{__name__}.{cmd_name}.{cmd_name} is not a click command")
        return command

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: object,
    ) -> click.Context:
        with _refusing():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> object:
        with _refusing():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kvm-vfio", message="%(prog)s %(version)s")
def main() -> None:
    """KVM-VFIO, the pseudo device between KVM and VFIO, in user space."""
