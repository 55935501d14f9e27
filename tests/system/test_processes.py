"""Processes that run no file of the current folder, end with the one that started them, and are all ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deconvseg.system import ending, leave_current_folder
from deconvseg.system.processes import child_environment, python_command, safe_path

# What a downloaded folder may hold: names that Python itself, or what it starts, imports.
HOSTILE = ("signal", "torch", "multiprocessing", "runpy", "site", "sitecustomize", "json", "deconvseg")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'a').write({name!r})\n")
    return folder


# multiprocessing starts a further Python, which looks for its modules in the current folder by itself.
_PROBE = """
import json, multiprocessing, os, subprocess, sys
if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    process.start()
    process.join()
    subprocess.run([sys.executable, "-c", "import signal, json"], check=True)
    print(json.dumps([sys.argv[1:], sys.path]))
"""


@pytest.mark.parametrize("path", ["", ":", ".", "{probe}:", "{probe}:.:./", "{probe}:{here}/../downloaded/."])
def test_a_process_runs_nothing_of_the_current_folder(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    probe = tmp_path / "probe"
    probe.mkdir()
    (probe / "probe.py").write_text(_PROBE)
    monkeypatch.setattr(sys, "path", ["", ".", str(hostile), *sys.path, str(probe)])
    monkeypatch.setenv("PYTHONPATH", path.format(probe=probe, here=hostile).removesuffix(f"{hostile}/../downloaded/."))
    monkeypatch.chdir(hostile)
    done = subprocess.run(
        python_command("probe", "an argument"), env=child_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert '["an argument"]' in done.stdout
    assert str(probe) in done.stdout
    assert str(hostile) not in done.stdout
    assert not (tmp_path / "executed").exists()


def test_before_python_3_11_the_isolated_mode_does_the_same(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without PYTHONSAFEPATH, only Python's own ways of starting processes hand the mode on.
    (tmp_path / "probe.py").write_text("\n".join(line for line in _PROBE.splitlines() if ".run(" not in line))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "version_info", (3, 10))
    monkeypatch.chdir(hostile)
    environment = {key: value for key, value in child_environment().items() if key != "PYTHONSAFEPATH"}
    command = python_command("probe")
    assert "-I" in command
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "executed").exists()


def test_what_a_user_gave_as_python_path_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/opt/theirs", "", "mine", "."]))
    expected = os.pathsep.join(["/opt/theirs", str(tmp_path / "mine")])
    assert child_environment(OTHER="1").items() >= {"PYTHONPATH": expected, "OTHER": "1"}.items()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # the current folder, by its whole name
    assert child_environment()["PYTHONPATH"] == str(tmp_path)


def test_a_deleted_current_folder_is_no_place_of_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setattr(sys, "path", ["", "relative", *sys.path])
    assert all(Path(entry).is_absolute() for entry in safe_path())


def test_the_command_line_leaves_the_current_folder_at_once(hostile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONSAFEPATH", "")
    monkeypatch.setattr(sys, "path", ["", str(hostile), *sys.path])
    monkeypatch.chdir(hostile)
    leave_current_folder()
    assert os.environ["PYTHONSAFEPATH"] == "1"
    assert "PYTHONPATH" not in os.environ
    assert not {"", str(hostile)} & set(sys.path)


_PARENT = """
import signal, subprocess, sys
from deconvseg.system import start_process
for number in (signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_DFL)  # nohup and shells start what runs in the background with these ignored
sys.path.append(sys.argv[1])
child = start_process("sleeping", stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_process_ends_with_the_one_that_started_it(tmp_path: Path, how: int) -> None:
    (tmp_path / "sleeping.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    command = [sys.executable, "-c", _PARENT, str(tmp_path)]
    parent = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(how)
    parent.wait(timeout=10)
    deadline = time.monotonic() + 10
    while _lives(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(child)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.faults
def test_none_of_several_is_left_behind() -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    codes = ("import time; print(flush=True); time.sleep(60)", stubborn)
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for code in codes]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()

    def fail() -> None:
        with pytest.MonkeyPatch.context() as patch, ending(processes):
            patch.setattr("deconvseg.system.processes._PATIENCE", 0.2)
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        fail()
    assert [process.returncode for process in processes] == [-signal.SIGTERM, -signal.SIGKILL]


def test_a_fork_of_a_child_ends_with_the_child_and_not_before(tmp_path: Path) -> None:
    """Its environment names the parent of the process that it is a copy of."""
    program = tmp_path / "fork.py"
    program.write_text(
        "import os, time\n"
        "from deconvseg.system.processes import end_with_parent\n"
        "parent = os.getpid()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    end_with_parent(parent)\n"
        "    time.sleep(0.8)\n"
        "    os._exit(7)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, program], env=child_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "7\n"
