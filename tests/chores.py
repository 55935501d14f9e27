"""Work for other processes, which import it from here: some of it fails."""

import os
import signal
import time
from pathlib import Path

from deconvseg.errors import InputError
from deconvseg.progress import Console


def slowest_first(number: int) -> int:
    time.sleep(0.3 if number == 0 else 0)
    return number


def fail_at(bad: int, number: int) -> int:
    if number == bad:
        return [][number]
    return number


def refuse_at(bad: int, number: int) -> int:
    if number == bad:
        raise InputError(f"file{number}: is no image")
    return number


def die_at(bad: int, how: int, number: int) -> int:
    if number == bad:
        os.kill(os.getpid(), how) if how else os._exit(3)
    return number


def process_id(number: int) -> int:
    return os.getpid()


def misbehave(path: Path) -> None:
    """Do what the content of a file says."""
    content = path.read_text()
    if content == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if content == "hang":
        time.sleep(60)
    if content == "other":
        raise KeyError(content)


def check_folders(*, console: Console, folder: str, names: list[str]) -> list[str]:
    """A task: return the names that are not there."""
    console.say(f"looks into {Path(folder).name}")
    if not Path(folder).is_dir():
        raise InputError(f"{folder}: no such folder")
    return [name for name in names if not (Path(folder) / name).exists()]


def overflow(*, console: Console) -> None:
    """A task of other software that fails."""
    raise RuntimeError("shapes do not\nfit")


def die(*, console: Console, path: str) -> str:
    """A task whose process is killed, unless it is run again."""
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), 9)
    return "alive"
