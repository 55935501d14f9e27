"""Work for other processes, which import it from here: some of it fails."""

import os
import time

from deconvseg.errors import InputError


def square(number: int) -> int:
    return number * number


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
