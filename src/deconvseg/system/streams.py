"""Standard streams whose errors do not stop the program: output that cannot be written is dropped."""

import io
import os
import select
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast


class UnfailingStream(io.RawIOBase):
    """Passes bytes on until the other end refuses them, remembers why, and drops the rest."""

    def __init__(self, stream: io.RawIOBase, text: io.TextIOBase) -> None:
        self.stream = stream
        # Kept alive: it closes the stream when it is garbage-collected.
        self.text = text
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        """Write everything, or nothing after the first failure; return the length in any case."""
        rest = memoryview(content).cast("B")
        length = len(rest)
        while self.failure is None and len(rest):
            try:
                written = self.stream.write(rest)
                if written is None:
                    # A pipe that does not block is full: its reader is slow.
                    select.select([], [self.fileno()], [])
                else:
                    rest = rest[written:]
            except OSError as error:
                self.failure = error
        return length

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Return whether a person reads it."""
        return self.stream.isatty()


def protect_streams() -> list[UnfailingStream]:
    """Replace standard output and standard error by streams that raise no errors.

    A disk that is full, a pipe whose reader has ended and a closed descriptor stop no work; characters that the
    terminal's encoding lacks are escaped. Returns the new raw streams, whose ``failure`` is the first error; a stream
    that is no file is left as it is.
    """
    _open_closed(range(3))
    found = []
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            # It was closed when Python started.
            setattr(sys, name, io.TextIOWrapper(io.FileIO(descriptor, "w", closefd=False), "utf-8", write_through=True))
        stream = getattr(sys, name)
        binary = getattr(stream, "buffer", None)
        if binary is None:
            continue
        # Python puts no buffer between where PYTHONUNBUFFERED asks for none.
        buffered = hasattr(binary, "raw")
        with suppress(OSError):
            stream.flush()
        unfailing = UnfailingStream(binary.raw if buffered else binary, stream)
        text = io.TextIOWrapper(
            cast("Any", io.BufferedWriter(unfailing) if buffered else unfailing),
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=True,
            write_through=not buffered,
        )
        setattr(sys, name, text)
        found.append(unfailing)
    return found


def _open_closed(descriptors: Iterable[int]) -> None:
    """Open what the shell has closed (``2>&-``): the next file would get its number, and what is printed with it."""
    for descriptor in descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
