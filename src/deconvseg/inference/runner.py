"""A network, called on windows in batches as large as the memory allows."""

import itertools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deconvseg.models import Network
from deconvseg.planning import is_out_of_memory

_log = logging.getLogger("deconvseg")

# More windows at a time make a CPU no faster, and take its memory.
_BATCH = {"cpu": 1}
_BATCH_ON_ACCELERATORS = 4


class WindowMemoryError(Exception):
    """Not even one window of this size fits into memory; the cause is the allocator's own error."""

    def __init__(self, runner: "WindowRunner") -> None:
        super().__init__(f"one window of {runner.window} does not fit into memory")
        self.runner = runner


class WindowRunner:
    """Gives the logits of windows; a window whose voxels are all alike is computed once, and remembered.

    Where memory runs out the batch is halved, for good; where one window alone does not fit,
    :class:`WindowMemoryError` is raised, and :meth:`shrink` makes windows smaller, for good too. Other errors of the
    network pass through. Logits are the mean over mirrorings along all sets of the axes ``mirrored``.

    Attributes:
        window: the size of windows now.
        largest: the size that they have where nothing asks for less.
        trained: the size that the network was trained on; windows are never smaller than half of it along any axis.

    """

    def __init__(
        self, network: nn.Module, window: Sequence[int], *, device: torch.device, mirrored: Sequence[int] = ()
    ) -> None:
        self.network = network
        self.window = self.largest = self.trained = tuple(window)
        self.device = device
        axes = [axis + 2 for axis in mirrored]
        self.flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
        self.batch = _BATCH.get(device.type, _BATCH_ON_ACCELERATORS)
        self.constant: tuple[Tensor, Tensor] | None = None

    def __call__(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """Return logits (K, \\*W), in float32 on the network's device, for each of the windows (C, \\*W)."""
        results: list[Tensor | None] = [self._remembered(window) for window in windows]
        others = [place for place, result in enumerate(results) if result is None]
        while others:
            group = others[: self.batch]
            try:
                logits = self._logits(torch.stack([windows[place] for place in group]).to(self.device))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._take_less(error)
                continue
            for place, result in zip(group, logits, strict=True):
                results[place] = result
                self._remember(windows[place], result)
            others = others[len(group) :]
        return [result for result in results if result is not None]

    def smaller(self, window: Sequence[int]) -> tuple[int, ...] | None:
        """Make the longest side half the trained one, in a size that the network takes; None where none is longer.

        What a network says of windows that are still smaller has little to do with what it has learnt.
        """
        network = self.network
        if not isinstance(network, Network) or network.fixed_size is not None:
            return None
        halves = [-(-side // (2 * step)) * step for side, step in zip(self.trained, network.size_multiple, strict=True)]
        sides = [axis for axis, half in enumerate(halves) if half < window[axis]]
        if not sides:
            return None
        longest = max(sides, key=lambda axis: window[axis])
        return (*window[:longest], halves[longest], *window[longest + 1 :])

    def shrink(self) -> bool:
        """Take smaller windows from now on; say whether there are any."""
        smaller = self.smaller(self.window)
        if smaller is None:
            return False
        _log.warning("not enough memory for a window of %s: going on with windows of %s", self.window, smaller)
        self.window, self.largest, self.constant = smaller, smaller, None
        return True

    def resize(self, window: tuple[int, ...]) -> None:
        """Take windows of this size for an image."""
        if window != self.window:
            self.window, self.constant = window, None

    def _logits(self, batch: Tensor) -> Tensor:
        total = _first(self.network(batch)).float()
        for flip in self.flips[1:]:
            total = total + _first(self.network(batch.flip(flip))).float().flip(flip)
        return total if len(self.flips) == 1 else total / len(self.flips)

    def _remembered(self, window: Tensor) -> Tensor | None:
        if self.constant is None:
            return None
        values, logits = self.constant
        return logits if torch.equal(_corner(window), values) and _is_constant(window) else None

    def _remember(self, window: Tensor, logits: Tensor) -> None:
        if _is_constant(window):
            self.constant = _corner(window), logits.clone()

    def _take_less(self, error: Exception) -> None:
        if self.batch == 1:
            raise WindowMemoryError(self) from error
        self.batch //= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        _log.warning("not enough memory for %d windows at a time: going on with %d", 2 * self.batch, self.batch)


def _first(output: Tensor | Sequence[Tensor]) -> Tensor:
    """The logits at full resolution, also of a network that gives a list of them."""
    return output if isinstance(output, Tensor) else output[0]


def _corner(window: Tensor) -> Tensor:
    return window.flatten(1)[:, :1].clone()


def _is_constant(window: Tensor) -> bool:
    return bool((window.flatten(1).amax(1) == window.flatten(1).amin(1)).all())
