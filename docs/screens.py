"""Terminal screens in the documentation, recorded by running their commands: ``python docs/screens.py PAGE...``.

The ``console`` blocks of a page hold a command after ``$ `` and, below it, what a terminal of 80 columns shows. This
script runs the commands of a page in their order, in a new folder, and writes the screens into the page. Python blocks
with a ``title`` are files of that name in the folder. A comment ``<!-- before: COMMAND -->`` is run in its place and
shows nothing. The block after ``<!-- at 50 % -->`` gets the screen at half of its command's time; another block of
the same command, which is run once, the screen at its end.

Needs a POSIX terminal and the extra ``docs``.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import pyte

COLUMNS, WIDE, ROWS = 80, 160, 30

_BLOCK = re.compile(
    r"<!-- before: (?P<before>.+?) -->\n"
    r"|(?P<at><!-- at (?P<percent>\d+) % -->\n+)?```console\n\$ (?P<command>[^\n]+)\n.*?```\n",
    re.DOTALL,
)
_FILE = re.compile(r'```python title="(?P<name>[^"]+)"\n(?P<text>.*?)```', re.DOTALL)

Recording = list[tuple[float, bytes]]


def columns(command: str) -> int:
    """The width of the terminal: what Python prints without regard to it must not be cut."""
    return WIDE if command.startswith("python") else COLUMNS


def record(command: str, folder: Path) -> Recording:
    """Run a command in a terminal of its own; return what it wrote, and when."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns(command), 0, 0))
    environment = _environment(folder)
    started = time.monotonic()
    process = subprocess.Popen(
        ["bash", "-c", command], cwd=folder, env=environment, stdin=follower, stdout=follower, stderr=follower
    )
    os.close(follower)
    written: Recording = []
    while True:
        ready, _, _ = select.select([leader], [], [], 0.2)
        if not ready:
            continue
        try:
            data = os.read(leader, 65536)
        except OSError:  # Linux says so that the last writer has closed the terminal
            data = b""
        if not data:
            break
        written.append((time.monotonic() - started, data))
    os.close(leader)
    if process.wait():
        print(f"{command}: exit code {process.returncode}", file=sys.stderr)
    return written


def _environment(folder: Path) -> dict[str, str]:
    """The variables of a new user: an empty cache, and this Python's commands first."""
    kept = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "TERM": "xterm", "LANG": "C.UTF-8", "PATH": path, "XDG_CACHE_HOME": str(folder / ".cache")}


def screen(recording: Recording, width: int, share: float = 1) -> str:
    """The text of the terminal after a share of the command's time."""
    display = pyte.Screen(width, 2000)  # higher than any output, so that nothing scrolls away
    stream = pyte.ByteStream(display)
    for moment, data in recording:
        if moment <= share * recording[-1][0]:
            stream.feed(data)
    return "\n".join(line.rstrip() for line in display.display).strip("\n")


def rewrite(page: Path) -> None:
    """Run the commands of a page, and write their screens into it."""
    text = page.read_text(encoding="utf-8")
    recordings: dict[str, Recording] = {}
    with tempfile.TemporaryDirectory() as name:
        for file in _FILE.finditer(text):
            Path(name, file["name"]).write_text(file["text"], encoding="utf-8")

        def show(block: re.Match[str]) -> str:
            if block["before"]:
                subprocess.run(["bash", "-c", block["before"]], cwd=name, env=_environment(Path(name)), check=True)
                return block[0]
            command = block["command"]
            if command not in recordings:
                print(f"{page.name}: {command}", file=sys.stderr)
                recordings[command] = record(command, Path(name))
            shown = screen(recordings[command], columns(command), int(block["percent"] or 100) / 100)
            return f"{block['at'] or ''}```console\n$ {command}\n{shown}\n```\n"

        page.write_text(_BLOCK.sub(show, text), encoding="utf-8")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        rewrite(Path(argument))
