"""How the program ends: by which signal, with which exit code, and what it says."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import sys, time
from deconvseg.cli.app import app, main

@app.command("sleep")
def sleep() -> None:
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("tidied up", flush=True)

sys.argv = ["deconvseg", "sleep"]
main()
"""


def _heed_signals() -> None:
    """Undo what a shell in the background and nohup do, which start a process with these signals ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.faults
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "ended by SIGTERM"),
        (signal.SIGHUP, 129, "ended by SIGHUP"),
    ],
)
def test_a_signal_ends_the_program_tidily_with_its_own_code(how: int, code: int, text: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=_heed_signals,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(how)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert output == "tidied up\n"
    assert f"error: {text}; what was written is kept" in errors
    assert "Traceback" not in errors


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_nohup_ignores_stays_ignored() -> None:
    program = _PROGRAM.replace("time.sleep(60)", "time.sleep(0.5)")
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "tidied up\n")


@pytest.mark.faults
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
def test_masks_are_written_though_the_log_cannot_be(trained: Path, discs: Path, tmp_path: Path) -> None:
    program = "from deconvseg.cli import main; main()"
    images = tmp_path / "images"
    images.mkdir()
    shutil.copy(discs / "images" / "disc0.png", images)
    command = [sys.executable, "-c", program, "predict", "-i", str(images), "-m", str(trained), "-o", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*command, "-d", "cpu"], stderr=full, stdout=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0
        assert (tmp_path / "disc0.png").exists()
        # The results themselves are not lost without a word.
        told = subprocess.run([*command[:3], "models"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert told.returncode == 1
    assert "error: standard output cannot be written (No space left on device); the work is done" in told.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
@pytest.mark.parametrize("verb", [["doctor"], ["data", "check", "/data"], ["train", "data", "-o", "run"]])
def test_a_deleted_current_folder_is_one_line(tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "gone").mkdir()
    gone = str(tmp_path / "gone")
    program = f"from deconvseg.cli import main; import os; os.chdir({gone!r}); os.rmdir({gone!r}); main()"
    done = subprocess.run([sys.executable, "-c", program, *verb], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    # A log has the time of day before each line.
    assert line[8:].startswith(" error: the current folder cannot be used, it may have been deleted (")


def test_what_is_imported_while_loading_is_released_at_the_end() -> None:
    pytest.importorskip("triton")  # an extension module that reports what is left
    program = "from deconvseg.cli.console import loading\nwith loading():\n    import triton"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "leaked" not in done.stdout + done.stderr
