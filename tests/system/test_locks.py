"""One process at a time works in a folder, and a process that has ended, however it did, keeps nobody out."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from deconvseg.errors import InputError
from deconvseg.system import LOCK, LockedError, hold
from deconvseg.system.identity import ProcessIdentity

_HOLDER = """
import sys, time
from deconvseg.system import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def try_to_hold(folder: Path, items: "list[str] | None" = None) -> None:
    with hold(folder, items):
        pass


def record(folder: Path) -> Path:
    (file,) = (folder / LOCK).glob("owner-*.json")
    return file


def rewrite(folder: Path, **changes: object) -> None:
    file = record(folder)
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_is_held_by_one_and_is_free_afterwards(tmp_path: Path) -> None:
    with hold(tmp_path), pytest.raises(LockedError, match=rf"in use by process {os.getpid()} \(.*since 20"):
        try_to_hold(tmp_path)
    try_to_hold(tmp_path)
    assert not list(tmp_path.iterdir())
    assert issubclass(LockedError, InputError)  # exit code 2


def test_a_folder_that_is_made_for_the_lock_goes_again_where_nothing_is_written(tmp_path: Path) -> None:
    with hold(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not list(tmp_path.iterdir())
    with hold(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "file").write_text("kept")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["file"]


def test_parts_are_held_beside_each_other_and_against_the_whole(tmp_path: Path) -> None:
    with hold(tmp_path, ["a.png", "b.png"]), hold(tmp_path, ["c.png"]), hold(tmp_path, []):
        with pytest.raises(LockedError, match=r": b\.png is in use by"):
            try_to_hold(tmp_path, ["b.png", "d.png"])
        with pytest.raises(LockedError):
            try_to_hold(tmp_path)
        try_to_hold(tmp_path, ["d.png"])
    with hold(tmp_path), pytest.raises(LockedError):
        try_to_hold(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_of_many_that_start_at_once_one_holds_the_folder(tmp_path: Path) -> None:
    start, held, refused = threading.Barrier(12), [], []
    done = threading.Event()

    def work() -> None:
        start.wait()
        try:
            with hold(tmp_path):
                held.append(1)
                done.wait(20)
        except LockedError:
            refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(held) + len(refused) < 12 and time.monotonic() < deadline:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 11)
    assert not list(tmp_path.iterdir())


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_a_killed_process_held_is_free_at_once_even_before_its_parent_looks(tmp_path: Path) -> None:
    process = holder(tmp_path)
    with pytest.raises(LockedError, match=str(process.pid)):
        try_to_hold(tmp_path)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is a zombie
    try_to_hold(tmp_path)
    process.wait()
    assert not list(tmp_path.iterdir())


def test_a_pid_that_another_process_has_now_does_not_hold(tmp_path: Path) -> None:
    with hold(tmp_path):
        rewrite(tmp_path, started="long ago")
        try_to_hold(tmp_path)


def test_a_process_of_another_machine_is_believed_and_named_with_the_way_out(tmp_path: Path) -> None:
    with hold(tmp_path):
        rewrite(tmp_path, host="node7 pid:[1]", pid=1, started="long ago", command="deconvseg train \x1b[2J")
        file = record(tmp_path)
        with pytest.raises(LockedError) as error:
            try_to_hold(tmp_path)
        text = str(error.value)
        assert "process 1 on node7 (deconvseg train �[2J, since " in text
        assert f"if it has ended, remove {file}" in text
        file.unlink()
        try_to_hold(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": "x"}', "\x00\xff"])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).mkdir()
    file = tmp_path / LOCK / "owner-1.json"
    file.write_text(content, encoding="latin-1")
    with pytest.raises(LockedError, match=r"locked by .*owner-1\.json, which cannot be read; remove that file"):
        try_to_hold(tmp_path)


@pytest.mark.parametrize("name", ["gate-0123", "owner-1.json"])
def test_what_another_process_removes_while_it_is_looked_at_does_not_hold(tmp_path: Path, name: str) -> None:
    """A link to nothing stands for it: its name is listed, and nothing is there."""
    (tmp_path / LOCK).mkdir()
    (tmp_path / LOCK / name).symlink_to(tmp_path / "removed")
    try_to_hold(tmp_path)


@pytest.mark.faults
def test_a_process_killed_at_the_gate_keeps_nobody_out(tmp_path: Path) -> None:
    gate = tmp_path / LOCK / "gate"
    for left in (gate, tmp_path / LOCK / "gate-0123"):
        left.mkdir(parents=True)
        gone = {**ProcessIdentity.own().to_json(), "started": "long ago", "items": None}
        (left / "owner-1.json").write_text(json.dumps(gone))
    os.utime(tmp_path / LOCK / "gate-0123", (1, 1))
    with hold(tmp_path):
        assert not gate.exists()
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")
def test_a_fork_does_not_give_up_what_its_parent_holds(tmp_path: Path) -> None:
    parent = os.getpid()
    with suppress(KeyboardInterrupt), hold(tmp_path):
        child = os.fork()
        if child == 0:
            raise KeyboardInterrupt  # leaves the block, in the copy
        os.waitpid(child, 0)
        with pytest.raises(LockedError):
            try_to_hold(tmp_path)
    if os.getpid() != parent:
        os._exit(0)


@pytest.mark.parametrize("pid", [-5, 0, True, 10**30])
def test_a_record_with_no_pid_that_a_system_has_is_named(tmp_path: Path, pid: object) -> None:
    with hold(tmp_path):
        rewrite(tmp_path, pid=pid)
        with pytest.raises(LockedError, match=r"locked by .*owner-.*\.json, which cannot be read; remove that file"):
            try_to_hold(tmp_path)


def test_a_file_in_the_place_of_the_lock_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("")
    with pytest.raises(InputError, match=rf"cannot write .*{LOCK}: .*{LOCK} is a file"):
        try_to_hold(tmp_path)


def test_only_the_first_of_several_holders_is_alone(tmp_path: Path) -> None:
    alone: list[str] = []
    with hold(tmp_path, ["a"], alone=lambda: alone.append("first")):
        with hold(tmp_path, ["b"], alone=lambda: alone.append("second")):
            pass
        with pytest.raises(LockedError), hold(tmp_path, alone=lambda: alone.append("third")):
            pass
    assert alone == ["first"]
