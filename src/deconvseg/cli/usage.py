"""Errors of usage of the command line in one line, like every other error."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

import typer

from deconvseg.errors import InputError, suggest

# The error that the Click version of Typer raises for arguments that it cannot parse.
_UsageError: Any = typer.BadParameter.__base__
# The arguments of the command line, to name the options as they were typed.
_typed: ContextVar[tuple[str, ...]] = ContextVar("_typed", default=())


def typed_flag(flags: Iterable[str]) -> str:
    """Return the long flag of an option that was typed, else its first one."""
    long = [flag for flag in flags if flag.startswith("--")]
    typed = {argument.partition("=")[0] for argument in _typed.get()}
    return next((flag for flag in long if flag in typed), long[0] if long else "")


class OneLineErrors:
    """Commands and groups of Typer that raise `InputError` for unknown options and commands and missing arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; a group without any shows its help."""
        if not args and ctx.command.no_args_is_help:
            typer.echo(ctx.get_help())
            raise typer.Exit(InputError.exit_code)
        # The parser takes the arguments out of the list.
        typed = list(args)
        _typed.set(tuple(typed))
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        except _UsageError as error:
            raise InputError(f"{_describe(error, ctx, typed)}see '{ctx.command_path} --help'") from error
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


def _describe(error: Any, ctx: Any, args: list[str]) -> str:
    """Return the description of the error, up to the advice."""
    unknown = getattr(error, "option_name", None)
    if isinstance(unknown, str) and hasattr(error, "possibilities"):
        flags = [flag for part in ctx.command.params for flag in (*part.opts, *part.secondary_opts)]
        return f"No such option {unknown}: {suggest(unknown, [flag for flag in flags if flag.startswith('--')])}"
    return f"{error.format_message().rstrip('.')}; {_suggest_flag(error, ctx, args)}"


def _suggest_flag(error: Any, ctx: Any, args: list[str]) -> str:
    """Return the advice to write a missing option before an argument that belongs to no option."""
    missing = getattr(error, "param", None)
    if missing is None or missing.param_type_name != "option" or type(error).__name__ != "MissingParameter":
        return ""
    if any(part.param_type_name == "argument" for part in ctx.command.params):
        return ""
    stray = ctx.command.make_parser(ctx).parse_args(list(args))[1]
    return f"write {min(missing.opts, key=len)} {shlex.quote(stray[0])}; " if stray else ""
