"""Errors of usage, which click finds, told in the same way as every other error."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..errors import SettingsError
from ..settings import unknown
from .report import explain_errors


class CommandLine(click.Group):
    """A group of commands that tells every error in the same way, and ends Ctrl-C with one line."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        with explain_errors(as_json="--log-json" in sys.argv):
            try:
                sys.exit(super().main(*arguments, **{**options, "standalone_mode": False}))
            except click.UsageError as error:
                raise _explained(error) from None
            except click.Abort:  # click's exception for Ctrl-C
                raise KeyboardInterrupt from None


def _explained(error: click.UsageError) -> SettingsError:
    """Return click's error as one of ours: one line, with the closest names or where the help is."""
    message, context = error.format_message(), error.ctx
    if context is not None and message == context.get_help():  # nothing was asked for
        click.echo(message, err=True)
        sys.exit(error.exit_code)
    if context is not None and isinstance(error, click.NoSuchOption):
        shown = [option for option in context.command.params if not getattr(option, "hidden", True)]
        names = (name for option in shown for name in option.opts if name.startswith("--"))
        return SettingsError(unknown("option", error.option_name, [*names, "--help"]))
    message = f"{message[:1].lower()}{message[1:].rstrip('.')}"
    return SettingsError(f"{message}; see `{context.command_path} --help`" if context else message)
