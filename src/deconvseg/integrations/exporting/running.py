"""What engines of exported programs share: a program for each size of windows, its threads, errors and memory."""

from __future__ import annotations

import builtins
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deconvseg.errors import DeconvsegError
from deconvseg.inference import Engine
from deconvseg.system import first_line, is_out_of_memory

Run: TypeAlias = Callable[[NDArray[np.float32]], Any]
# Words of both engines for an allocation that failed.
_NO_MEMORY = (
    *("bad_alloc", "bad allocation", "failed to allocate", "cannot allocate", "can not allocate"),
    *("out of memory", "not enough memory", "could not create a memory"),
)


class ProgramEngine(Engine):
    """Computes logits with a program of a network, which is compiled for one size of windows at a time.

    A program of a known size is faster and takes less memory than one of open sizes. Windows change their size only
    if memory runs out, so the last program is kept and the one before is freed.

    Attributes:
        channels: channels of the windows.
        title: the name and the version of the software.
        precision: "32", "bf16" or "int8".

    """

    title: str
    precision: str

    def __init__(self, channels: int, size_multiple: Sequence[int] | None, fixed_size: Sequence[int] | None) -> None:
        self.channels = channels
        self.size_multiple = None if size_multiple is None else tuple(size_multiple)
        self.fixed_size = None if fixed_size is None else tuple(fixed_size)
        self.threads = torch.get_num_threads()
        self._shape: tuple[int, ...] = ()
        self._run: Run | None = None
        self._bytes: dict[tuple[int, ...], int] = {}

    @abstractmethod
    def compile(self, shape: tuple[int, ...]) -> tuple[Run, int]:
        """Return what computes logits of windows (B, C, \\*S) of that shape, and the bytes that it takes while it does.

        The bytes of the loaded program are not counted.
        """
        ...

    def logits(self, batch: Tensor) -> Tensor:
        """Return the logits in float32."""
        run = self._program(tuple(batch.shape))
        with self._convert_errors():
            return torch.from_numpy(np.asarray(run(batch.contiguous().numpy()), np.float32))

    def bytes(self, window: Sequence[int], batch: int) -> int:
        """Return the bytes of the activations, as the compiled program lays them out, and of the logits.

        0 if not even compiling fits into memory; :meth:`logits` then raises :class:`MemoryError`.
        """
        shape = (batch, self.channels, *window)
        if shape not in self._bytes:
            try:
                self._program(shape)
            except MemoryError:
                return 0
        return self._bytes[shape]

    def _program(self, shape: tuple[int, ...]) -> Run:
        if self._run is None or shape != self._shape:
            # The program before is freed first.
            self._run = None
            with self._convert_errors():
                self._run, self._bytes[shape] = self.compile(shape)
            self._shape = shape
        return self._run

    @contextmanager
    def _convert_errors(self) -> Iterator[None]:
        """Convert the engine's errors: a lack of memory to :class:`MemoryError`, others to one line."""
        try:
            yield
        except MemoryError:
            raise
        # The errors of ONNX Runtime have no other base class.
        except Exception as error:
            text = first_line(error)
            if is_out_of_memory(error) or any(word in str(error).lower() for word in _NO_MEMORY):
                raise MemoryError(f"{self.title}: {text}") from error
            raise DeconvsegError(f"{self.title}: {text}") from error

    def fingerprint(self) -> Iterator[builtins.bytes]:
        """Yield the engine, its version and precision, and the program with its weights."""
        yield f"{self.title} {self.precision}".encode()
        yield from self.program()

    @abstractmethod
    def program(self) -> Iterator[builtins.bytes]:
        """Yield the program in pieces that are hashed."""
        ...


def live_bytes(steps: Sequence[tuple[Sequence[str], Sequence[tuple[str, int]]]]) -> int:
    """Return the largest number of bytes that are needed at the same time.

    Each of the ``steps``, in the order of execution, is the names of its inputs, and the names and bytes of its
    outputs. An output is needed from its step to the last one that reads it.
    """
    last = {name: number for number, (inputs, _) in enumerate(steps) for name in inputs}
    live = peak = 0
    freed: dict[int, int] = {}
    for number, (_, outputs) in enumerate(steps):
        for name, size in outputs:
            live += size
            end = max(number, last.get(name, number))
            freed[end] = freed.get(end, 0) + size
        peak = max(peak, live)
        live -= freed.pop(number, 0)
    return peak
