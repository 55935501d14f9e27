"""The ``deconvseg`` command: parse the arguments, call one library function, print, and set the exit code.

Exit codes: 0 done, 1 the work failed, 2 wrong usage or bad input, 130 interrupted, 143 ended by SIGTERM, 129 by SIGHUP.
"""

import errno
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from deconvseg._version import __version__
from deconvseg.cli import (
    complexity,
    crossval,
    data,
    evaluating,
    exporting,
    importing,
    information,
    nnunet,
    planning,
    predicting,
    reproducing,
    sampling,
    sharing,
    sources,
    thresholds,
    training,
)
from deconvseg.cli.console import choose_level, error, show_command, show_log
from deconvseg.cli.flags import speak_for
from deconvseg.cli.helping import Command, Group
from deconvseg.cli.options import join_sizes
from deconvseg.errors import DeconvsegError, InterruptionError, UnknownLayoutError
from deconvseg.system import current_folder, ending_signal, exit_on, leave_current_folder, one_line, protect_streams

app = typer.Typer(
    name="deconvseg",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data.app, name="data")
app.add_typer(nnunet.app, name="nnunet")
app.command("plan", cls=Command)(planning.plan)
app.command("train", cls=Command)(training.train)
app.command("crossval", cls=Command)(crossval.crossval)
app.command("predict", cls=Command)(predicting.predict)
app.command("export", cls=Command)(exporting.export)
app.command("pack", cls=Command)(sharing.pack)
app.add_typer(sharing.hub)
app.command("import-official", cls=Command)(importing.import_official)
app.command("threshold", cls=Command)(thresholds.threshold)
app.command("evaluate", cls=Command)(evaluating.evaluate)
app.command("report", cls=Command)(evaluating.report)
app.command("reproduce", cls=Command)(reproducing.reproduce)
app.command("compare", cls=Command)(reproducing.compare)
app.command("sampling", cls=Command)(sampling.sampling)
app.command("sources", cls=Command)(sources.sources)
app.command("models", cls=Command)(information.models)
app.command("complexity", cls=Command)(complexity.complexity)
app.command("doctor", cls=Command)(information.doctor)

# Accepted anywhere on the command line; :func:`main` reads them.
_EVERYWHERE = ("--debug", "--quiet", "--verbose")

# What remains after a signal, by command.
_KEPT = {
    "train": "what was written is kept; continue with --resume",
    "crossval": "what was written is kept; continue with --resume",
    **dict.fromkeys(
        ("reproduce", "compare"), "the table so far and the finished cells are kept; continue with --resume"
    ),
    "convert": "converted cases are kept; continue with the same command",
    "push": "the repository has no part of the model, unless its commit was just made; push again",
    "predict": "finished masks are kept; predict the others with --continue",
    **dict.fromkeys(
        ("plan", "evaluate", "report", "export", "pack", "sampling", "sources", "complexity", "check"),
        "nothing was written",
    ),
}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"deconvseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the full traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show only warnings and the last line.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show every step.")] = False,
) -> None:
    """Medical image segmentation by deconvolution: from a folder of scans to masks and a report."""
    speak_for(context)


def main() -> None:
    """Run the command line and exit."""
    show_log()
    leave_current_folder()
    _end_tidily()
    streams = protect_streams()
    code = _run()
    with suppress(OSError):
        sys.stdout.flush()
    for stream in streams:
        # A closed pipe ("| head") is not an error.
        if stream.failure is not None and stream.fileno() == 1 and stream.failure.errno != errno.EPIPE:
            error(f"standard output cannot be written ({stream.failure.strerror}); the work is done")
            code = code or 1
    sys.exit(code)


def _run() -> int:
    """Run the command that the arguments name, and return the exit code."""
    arguments = [argument for argument in sys.argv[1:] if argument not in _EVERYWHERE]
    debug = "--debug" in sys.argv[1:]
    choose_level("quiet" if "--quiet" in sys.argv[1:] else "verbose" if "--verbose" in sys.argv[1:] else "usual")
    try:
        # Libraries raise unclear errors if it is missing.
        current_folder()
        app(join_sizes(arguments))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if name := ending_signal(code):
            _end_line(code)
            how = "interrupted" if name == "SIGINT" else f"ended by {name}"
            error(f"{how}; {_KEPT.get(_command(arguments), 'what was written is kept')}")
        return code
    except DeconvsegError as problem:
        if debug:
            traceback.print_exc()
        _end_line(problem.exit_code)
        if isinstance(problem, UnknownLayoutError):
            error(f"{problem.found}; try:")
            show_command(arguments, problem.arguments)
        else:
            error(str(problem))
        return problem.exit_code
    except Exception as problem:  # noqa: BLE001
        if debug:
            traceback.print_exc()
        # Any other error also gets one line instead of a traceback.
        text = f"unexpected {type(problem).__name__}: {one_line(problem)}"
        error(f"{text} (run again with --debug for the traceback)")
        return 1
    return 0


def _end_line(code: int) -> None:
    """Start a new line after the ``^C`` that a terminal shows."""
    if code == InterruptionError.exit_code and sys.stderr.isatty():
        typer.echo(err=True)


def _command(arguments: Sequence[str]) -> str:
    """Return the name of the command in the arguments."""
    names = [argument for argument in arguments if not argument.startswith("-")][:2]
    return names[-1] if names[:1] in (["data"], ["nnunet"], ["hub"]) else "".join(names[:1])


def _end_tidily() -> None:
    """Make SIGTERM and SIGHUP act like Ctrl-C: child processes end, and no partial files remain."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        # A signal that is ignored, such as by nohup, stays ignored.
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:
            exit_on(number)
