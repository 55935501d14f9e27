"""Nothing that becomes of standard output and standard error stops the work."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

_PROGRAM = """
import sys
from deconvseg.system import protect_streams
streams = protect_streams()
for text in ("a line", "é 日 \\udcff", "x" * 100000):
    print(text)
    print(text, file=sys.stderr)
sys.stderr.buffer.write(b"bytes")
sys.stdout.flush()
with open(sys.argv[1], "w") as file:
    file.write(" ".join(sorted(type(stream.failure).__name__ for stream in streams)))
"""


@pytest.mark.faults
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("redirection", "failures"),
    [
        (">/dev/full 2>/dev/full", "OSError OSError"),
        (">/dev/null 2>/dev/full", "NoneType OSError"),
        (">&- 2>&- <&-", "NoneType NoneType"),
        (">/dev/null 2>&1 | true", "NoneType NoneType"),
        ("2>&1 | true", "BrokenPipeError BrokenPipeError"),
    ],
)
def test_work_goes_on_whatever_becomes_of_its_output(
    tmp_path: Path, redirection: str, failures: str, unbuffered: str
) -> None:
    command = f"'{sys.executable}' -c '{_PROGRAM}' '{tmp_path / 'told'}' {redirection}; echo ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0"
    assert (tmp_path / "told").read_text() == failures


def test_characters_that_the_encoding_lacks_are_escaped() -> None:
    program = 'import sys; from deconvseg.system import protect_streams; protect_streams(); print("é \\udcff")'
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout == b"\\xe9 \\udcff\n"


@pytest.mark.skipif(not hasattr(os, "set_blocking"), reason="POSIX")
def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    program = """
from deconvseg.system import protect_streams
protect_streams()
for number in range(30000):
    print(f"line {number}")
"""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=writer)
    os.close(writer)
    with os.fdopen(reader) as stream:
        time.sleep(0.5)
        lines = stream.read().splitlines()
    assert process.wait() == 0
    assert lines == [f"line {number}" for number in range(30000)]
