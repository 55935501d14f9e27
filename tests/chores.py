"""Work for other processes, which import it from here: some of it fails."""

import os
import signal
import time
from pathlib import Path

from deconvseg.errors import InputError


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
