"""Child processes of this package: they import nothing from the current folder, and end with their parent.

With ``-m`` and ``-c``, and so in every process that ``multiprocessing`` spawns, Python searches the current folder for
modules first, even for those of the standard library. A ``signal.py`` in a folder of downloaded data would be executed.
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

# Seconds between terminating a process and killing it.
_PATIENCE = 10.0

# The first statements of a child process. It imports modules from the paths of its parent only. It ignores Ctrl-C,
# which a terminal sends to all its processes, because the parent ends its children.
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
    """Return the command that runs a module of this package in a child process, whatever the current folder is.

    Start it with :func:`child_environment`. The child ignores Ctrl-C and ends when this process ends.
    """
    # Python 3.10 has no -P. -I ignores PYTHON* variables as well; the bootstrap contains their paths.
    safe = "-P" if sys.version_info >= (3, 11) else "-I"
    return [sys.executable, safe, "-c", _BOOTSTRAP.format(paths=safe_path(), module=module), *arguments]


def start_process(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, **streams: Any
) -> "subprocess.Popen[Any]":
    """Start a module of this package (:func:`python_command`) with this environment, extended by ``environment``.

    ``streams`` are arguments of :class:`subprocess.Popen`.
    """
    return subprocess.Popen(python_command(module, *arguments), env=child_environment(**(environment or {})), **streams)


def child_environment(**values: str) -> dict[str, str]:
    """Return the environment for a child process, in which the current folder is not searched for modules.

    ``values`` are added to it. Processes that the child starts do not search the current folder either.
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
    """Remove the current folder from the module search path of this process and of its future children."""
    sys.path[:] = safe_path()
    environment = child_environment()
    os.environ["PYTHONSAFEPATH"] = "1"
    if "PYTHONPATH" in environment:
        os.environ["PYTHONPATH"] = environment["PYTHONPATH"]
    else:
        os.environ.pop("PYTHONPATH", None)


def end_with_parent(parent: int | None = None) -> None:
    """End this process as soon as its parent has ended.

    It ends at once, as after SIGKILL; atomic writes in progress leave no file. A forked process passes its ``parent``,
    because its environment still names the parent of the process that was forked.
    """
    parent = parent or int(os.environ.get(_PARENT) or os.getppid())
    threading.Thread(target=_watch, args=(parent,), daemon=True, name="end with parent").start()


@contextmanager
def ending(processes: Sequence["subprocess.Popen[Any]"]) -> Iterator[None]:
    """Terminate the processes when the block ends, and kill those that are still running 10 seconds later."""
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
    """Return standard output as a stream for messages only; everything else that is printed goes to standard error."""
    messages = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    # Redirects the descriptor itself, because native libraries print without Python's sys.stdout.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return messages


def read_messages(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that another process writes, one per line.

    Other lines are skipped: a killed process may leave an incomplete line.
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
    """Return the entries other than the current folder, as absolute paths."""
    try:
        here = os.getcwd()  # noqa: PTH109 (relative entries refer to this spelling)
    except FileNotFoundError:
        # The current folder was deleted, so relative entries lead nowhere.
        return [entry for entry in path if Path(entry).is_absolute()]
    named = {entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()}
    kept = []
    for entry in path:
        place = os.path.abspath(entry)  # noqa: PTH100 (symbolic links are not resolved)
        if not _same(place, here) or entry in named or _same(place, str(_PACKAGES)):
            kept.append(place)
    return list(dict.fromkeys(kept))


def _same(first: str, second: str) -> bool:
    with suppress(OSError):
        return Path(first).samefile(second)
    return first == second
