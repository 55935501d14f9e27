import os
import signal
import sys
import time
from functools import partial

import pytest

from chores import die_at, fail_at, process_id, refuse_at, slowest_first
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.system import map_in_processes
from deconvseg.system.workers import WorkerTraceback

NAME = "item {}".format


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_items_though_the_first_is_slow(workers: int) -> None:
    assert list(map_in_processes(slowest_first, range(5), workers, NAME)) == list(range(5))


def test_without_workers_everything_happens_in_this_process() -> None:
    assert set(map_in_processes(process_id, range(3), 0, NAME)) == {os.getpid()}
    assert os.getpid() not in set(map_in_processes(process_id, range(3), 2, NAME))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_the_item_and_keeps_its_traceback(workers: int) -> None:
    with pytest.raises(DeconvsegError, match=r"^item 3: IndexError: list index out of range$") as error:
        list(map_in_processes(partial(fail_at, 3), range(6), workers, NAME))
    if workers:
        assert isinstance(error.value.__cause__, WorkerTraceback)
        assert "in fail_at" in str(error.value.__cause__)


def test_an_error_of_ours_crosses_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^file1: is no image$") as error:
        list(map_in_processes(partial(refuse_at, 1), range(4), 2, NAME))
    assert error.value.exit_code == 2


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(("how", "message"), [(signal.SIGKILL, "SIGKILL; .*memory runs out"), (0, "exit code 3")])
def test_a_process_that_dies_is_an_error_that_names_its_item(how: int, message: str) -> None:
    started = time.monotonic()
    with pytest.raises(DeconvsegError, match=f"^item 2: the process that worked on it .*{message}"):
        list(map_in_processes(partial(die_at, 2, how), range(6), 2, NAME))
    assert time.monotonic() - started < 60  # an end, not a hang
