"""``deconvseg pack`` and ``deconvseg hub``."""

from typing import Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import Terminal, echo, echo_path, loading, print_json
from deconvseg.cli.helping import Command, Group
from deconvseg.options import PackOptions, PushOptions
from deconvseg.units import format_bytes

hub = typer.Typer(name="hub", cls=Group, no_args_is_help=True, help="Share trained runs on the hub of Hugging Face.")


@options.takes(PackOptions)
def pack(json: options.Json = False, **asked: Any) -> None:
    """Write a finished run or cross-validation as one file that 'deconvseg predict -m' takes.

    It has no names of cases, no paths and no state to resume the training.
    """
    with loading():
        from deconvseg.integrations import pack

    package = pack(**asked)
    if json:
        print_json(package.model_dump(mode="json"))
        return
    echo(f"{len(package.files)} files, {format_bytes(package.bytes)}, weights in {package.stored}")
    echo_path(asked["output"])


@hub.command("push", cls=Command)
@options.takes(PushOptions)
def push(json: options.Json = False, **asked: Any) -> None:
    """Send a finished run or cross-validation to a repository on the hub, with a model card.

    'deconvseg predict -m hf://ORG/NAME' takes it. The token is that of 'hf auth login' or HF_TOKEN.
    """
    with loading():
        from deconvseg.integrations import push

    pushed = push(**asked, console=Terminal())
    if json:
        folder = None if asked["dry_run"] is None else str(asked["dry_run"])
        print_json({"repository": pushed.repository, "commit": pushed.commit, "url": pushed.url, "dry_run": folder})
    elif asked["dry_run"] is not None:
        echo(f"nothing was sent to {pushed.url}; its files are in the folder:")
        echo_path(asked["dry_run"])
    else:
        echo(pushed.url)
