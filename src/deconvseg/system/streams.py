"""Standard streams that never raise an error: output that cannot be written is dropped."""

import io
import os
import select
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast


class UnfailingStream(io.RawIOBase):
    """A raw stream that writes until the first error, keeps that error in ``failure``, and drops the rest."""

    def __init__(self, stream: io.RawIOBase, text: io.TextIOBase) -> None:
        self.stream = stream
        # Kept alive, because its garbage collection would close the stream.
        self.text = text
        self.failure: OSError | None = None

    def write(self, content: Any) -> int:
        """Write all bytes, or nothing after the first failure; always return the length of ``content``."""
        rest = memoryview(content).cast("B")
        length = len(rest)
        while self.failure is None and len(rest):
            try:
                written = self.stream.write(rest)
                if written is None:
                    # A full non-blocking pipe: wait for its reader.
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
        """Return the file descriptor."""
        return self.stream.fileno()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self.stream.isatty()


def protect_streams() -> list[UnfailingStream]:
    """Replace standard output and standard error by streams that raise no errors.

    A full disk, a pipe without a reader or a closed descriptor does not stop the program; characters that the
    terminal's encoding lacks are escaped. Returns the new raw streams, whose ``failure`` is the first error. A stream
    without a file is left unchanged.
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
        # With PYTHONUNBUFFERED there is no buffer above the raw stream.
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
    """Open descriptors that the shell has closed (``2>&-``), or the next opened file would receive the output."""
    for descriptor in descriptors:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
