"""Other processes of this package: they run no file of the current folder, and end with the one that started them.

Python looks for modules in the current folder first, also for those of its library: with ``-m``, with ``-c``, and so in
every process that ``multiprocessing`` starts anew. A folder of downloaded data would run its author's ``signal.py``.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

_PARENT = "DECONVSEG_PARENT"
_LOOK_SECONDS = 0.25
_PACKAGES = Path(__file__).resolve().parents[2]

# Seconds between asking a process to end and ending it.
_PATIENCE = 10.0

# What a process does first: its modules come from where this one has them and from nowhere else. Ctrl-C comes to all
# processes of a terminal; the one that started the others ends them.
_BOOTSTRAP = """
import sys
sys.path[:] = {paths!r}
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
from deconvseg.system.processes import end_with_parent
end_with_parent()
from deconvseg.system.streams import protect_streams
protect_streams()
from runpy import run_module
run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def python_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a process of its own, whatever the current folder is.

    Start it with :func:`child_environment`. It leaves Ctrl-C to this process, and ends with it.
    """
    # Python 3.10 has no -P; -I also ignores the environment's PYTHON* variables, whose paths are in the bootstrap.
    safe = "-P" if sys.version_info >= (3, 11) else "-I"
    return [sys.executable, safe, "-c", _BOOTSTRAP.format(paths=safe_path(), module=module), *arguments]


def start_process(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, **streams: Any
) -> "subprocess.Popen[Any]":
    """Start a module of this package (:func:`python_command`) in this environment and some values more.

    ``streams`` are arguments of :class:`subprocess.Popen`.
    """
    return subprocess.Popen(python_command(module, *arguments), env=child_environment(**(environment or {})), **streams)


def child_environment(**values: str) -> dict[str, str]:
    """Return this process's environment for another one, without the current folder as a place of modules.

    ``values`` are added to it. What that process starts is kept from the current folder too.
    """
    environment = {**os.environ, **values, _PARENT: str(os.getpid()), "PYTHONSAFEPATH": "1"}
    if path := _safe_entries(os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        environment["PYTHONPATH"] = os.pathsep.join(path)
    else:
        environment.pop("PYTHONPATH", None)
    return environment


def safe_path() -> list[str]:
    """Return ``sys.path`` without the current folder, unless this package or ``PYTHONPATH`` names it."""
    return _safe_entries(sys.path)


def leave_current_folder() -> None:
    """Take the current folder out of the places of modules, of this process and of all that it starts."""
    sys.path[:] = safe_path()
    environment = child_environment()
    os.environ["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" in environment:
        os.environ["PYTHONPATH"] = environment["PYTHONPATH"]
    else:
        os.environ.pop("PYTHONPATH", None)


def end_with_parent(parent: int | None = None) -> None:
    """End this process as soon as the process that started it has ended.

    It ends at once, as after a kill; a file that it was writing is not there. A forked process passes its ``parent``,
    because its environment still names the parent of the process that it is a copy of.
    """
    parent = parent or int(os.environ.get(_PARENT) or os.getppid())
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="end with parent").start()


@contextmanager
def ending(processes: Sequence["subprocess.Popen[Any]"]) -> Iterator[None]:
    """Terminate the processes when the block ends, and kill those that are still running after a few seconds."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def take_over_stdout() -> TextIO:
    """Return standard output for this process's messages alone: what anything else prints goes to standard error."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # The descriptor itself, because libraries in other languages print without asking Python.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return messages


def read_messages(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Give the JSON objects that another process writes, one in each line.

    Lines that are no JSON object are left out: a process that is killed may leave half of one.
    """
    for line in lines:
        with suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                yield message


def _watch(parent: int) -> None:
    while _is_parent(parent):
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _is_parent(parent: int) -> bool:
    if os.name == "posix":
        return os.getppid() == parent
    import psutil

    return bool(psutil.pid_exists(parent))


def _safe_entries(path: list[str]) -> list[str]:
    """Return the entries that do not mean the current folder, relative ones made absolute."""
    try:
        here = os.getcwd()  # noqa: PTH109 (the name that relative entries have)
    except FileNotFoundError:
        # Deleted: nothing is found there.
        return [entry for entry in path if Path(entry).is_absolute()]
    named = {entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()}
    kept = []
    for entry in path:
        place = os.path.abspath(entry)  # noqa: PTH100 (links stay what they are)
        if not _same(place, here) or entry in named or _same(place, str(_PACKAGES)):
            kept.append(place)
    return list(dict.fromkeys(kept))


def _same(first: str, second: str) -> bool:
    with suppress(OSError):
        return Path(first).samefile(second)
    return first == second
