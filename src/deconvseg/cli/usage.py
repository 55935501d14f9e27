"""Errors of usage of the command line in one line, like every other error."""

from __future__ import annotations

from typing import Any

import typer

from deconvseg.errors import InputError, suggest

# The error that the Click version of Typer raises for arguments that it cannot parse.
_UsageError: Any = typer.BadParameter.__base__


class OneLineErrors:
    """Commands and groups of Typer that raise `InputError` for unknown options and commands and missing arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a group without any shows its help."""
        if not args and ctx.command.no_args_is_help:
            typer.echo(ctx.get_help())
            raise typer.Exit(InputError.exit_code)
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except _UsageError as error:
            raise InputError(f"{_describe(error, ctx)}see '{ctx.command_path} --help'") from error
        return rest

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command of a group."""
        try:
            return super().resolve_command(ctx, args)  # type: ignore[misc]
        except _UsageError as error:
            hint = suggest(args[0], ctx.command.list_commands(ctx))
            raise InputError(
                f"No such command {args[0]!r}: {hint}see '{ctx.command_path} --help' for all of them"
            ) from error


def _describe(error: Any, ctx: Any) -> str:
    """Return the description of the error, up to the advice."""
    unknown = getattr(error, "option_name", None)
    if isinstance(unknown, str) and hasattr(error, "possibilities"):
        flags = [flag for part in ctx.command.params for flag in (*part.opts, *part.secondary_opts)]
        return f"No such option {unknown}: {suggest(unknown, [flag for flag in flags if flag.startswith('--')])}"
    return f"{error.format_message().rstrip('.')}; "
