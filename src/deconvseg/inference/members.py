"""A member of an ensemble: an engine, the size of its windows, and the number of windows at a time."""

import itertools
import logging
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference.engine import Engine
from deconvseg.inference.tiling import check_overlap
from deconvseg.planning import WindowRule
from deconvseg.system import is_out_of_memory

_log = logging.getLogger("deconvseg")

_FLOAT = 4


class WindowMemoryError(Exception):
    """Not even one window of this size fits into memory; the cause is the allocator's own error."""

    def __init__(self, member: "Member") -> None:
        super().__init__(f"one window of {member.window} does not fit into memory")
        self.member = member


class Member:
    """Computes an engine's logits of windows; a window whose voxels are all equal is computed once and remembered.

    If memory runs out, the batch is halved permanently. If a single window does not fit, :class:`WindowMemoryError`
    is raised, and :meth:`shrink` makes windows smaller permanently. Other errors of the engine are not caught.
    Logits are the mean over mirrorings along all combinations of the axes ``mirrored``. Raises
    :class:`~deconvseg.errors.InputError` for an ``overlap`` outside [0, 1), and for a ``window`` that the engine does
    not take.

    Attributes:
        engine: the engine that computes the logits.
        overlap: the smallest fraction that neighbouring windows share.
        rule: the places and weights of windows (:class:`~deconvseg.planning.InferencePlan`).
        window: the current size of windows.
        largest: the size of windows without a lack of memory.
        trained: the size of the training patches; windows are never smaller than half of it along any axis.

    """

    def __init__(
        self,
        engine: Engine,
        window: Sequence[int],
        *,
        overlap: float = 0.5,
        mirrored: Sequence[int] = (),
        rule: WindowRule = "centred",
    ) -> None:
        check_overlap(overlap)
        _check_window(engine, tuple(window))
        self.engine = engine
        self.overlap = overlap
        self.rule: WindowRule = rule
        self.window = self.largest = self.trained = tuple(window)
        axes = [axis + 2 for axis in mirrored]
        self.flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
        self.batch = engine.batch_size
        self.constant: tuple[Tensor, Tensor] | None = None

    def __call__(self, windows: Sequence[Tensor]) -> list[Tensor]:
        """Return logits (K, \\*W), in float32, for each of the windows (C, \\*W)."""
        results: list[Tensor | None] = [self._remembered(window) for window in windows]
        others = [place for place, result in enumerate(results) if result is None]
        while others:
            group = others[: self.batch]
            try:
                logits = self._logits([windows[place] for place in group])
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
        """Halve the longest side, to at least half the trained size, in a size that the engine takes, or return None.

        Masks from smaller windows are not usable.
        """
        steps = self.engine.size_multiple
        if steps is None or self.engine.fixed_size is not None:
            return None
        halves = [-(-side // (2 * step)) * step for side, step in zip(self.trained, steps, strict=True)]
        sides = [axis for axis, half in enumerate(halves) if half < window[axis]]
        if not sides:
            return None
        longest = max(sides, key=lambda axis: window[axis])
        return (*window[:longest], halves[longest], *window[longest + 1 :])

    def shrink(self) -> bool:
        """Make windows smaller from now on; return whether that is possible."""
        smaller = self.smaller(self.window)
        if smaller is None:
            return False
        _log.warning("not enough memory for a window of %s: continuing with windows of %s", self.window, smaller)
        self.window, self.largest, self.constant = smaller, smaller, None
        return True

    def resize(self, window: tuple[int, ...]) -> None:
        """Use windows of this size for an image."""
        if window != self.window:
            self.window, self.constant = window, None

    def bytes(self, window: Sequence[int], outputs: int) -> tuple[int, int]:
        """Estimate the host memory of a batch of such windows, and the part that is kept after it."""
        if self.engine.device.type != "cpu":
            return 0, 0
        logits = _FLOAT * outputs * math.prod(window)
        # The sum over mirrorings, the logits of one mirroring, the same mirrored back, and the new sum.
        mirrored = 3 * self.batch * logits if len(self.flips) > 1 else 0
        # The logits of the window whose voxels are all equal are kept.
        return self.engine.bytes(window, self.batch) + mirrored, logits

    def _logits(self, windows: Sequence[Tensor]) -> Tensor:
        batch = torch.stack(list(windows)).to(self.engine.device)
        if self.engine.fixed_batch:
            batch = torch.cat([batch, *[batch[-1:]] * (self.engine.batch_size - len(batch))])
        if len(self.flips) == 1:
            return self._computed(batch)[: len(windows)]
        # Each call gets its own batch, because a network may write into its input.
        total = self._computed(batch.clone())
        for flip in self.flips[1:]:
            total = total + self._computed(batch.flip(flip)).flip(flip)
        return (total / len(self.flips))[: len(windows)]

    def _computed(self, batch: Tensor) -> Tensor:
        name = type(self.engine).__name__
        logits: object = self.engine.logits(batch)
        if not isinstance(logits, Tensor) or not logits.is_floating_point():
            kind = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
            raise DeconvsegError(f"{name}: gives logits as {kind}; a tensor of floating-point numbers is needed")
        if (logits.shape[:1], logits.shape[2:]) != (batch.shape[:1], batch.shape[2:]):
            raise DeconvsegError(
                f"{name}: gives logits of shape {tuple(logits.shape)} for windows of shape {tuple(batch.shape)}; batch "
                "and size must be the same"
            )
        return logits.float()

    def _remembered(self, window: Tensor) -> Tensor | None:
        if self.constant is None:
            return None
        values, logits = self.constant
        return logits if torch.equal(_corner(window), values) and _is_constant(window) else None

    def _remember(self, window: Tensor, logits: Tensor) -> None:
        if _is_constant(window):
            self.constant = _corner(window), logits.clone()

    def _take_less(self, error: Exception) -> None:
        if self.batch == 1 or self.engine.fixed_batch:
            raise WindowMemoryError(self) from error
        self.batch //= 2
        if self.engine.device.type == "cuda":
            torch.cuda.empty_cache()
        _log.warning("not enough memory for %d windows at a time: continuing with %d", 2 * self.batch, self.batch)


def _check_window(engine: Engine, window: tuple[int, ...]) -> None:
    if engine.batch_size < 1:
        raise InputError(f"{type(engine).__name__}: its batch_size is {engine.batch_size}; give 1 or more")
    if engine.fixed_size is not None and window != tuple(engine.fixed_size):
        raise InputError(f"windows of {window}: this network accepts only {tuple(engine.fixed_size)}")
    steps = engine.size_multiple
    if steps is not None and (len(steps) != len(window) or any(n % m for n, m in zip(window, steps, strict=True))):
        raise InputError(f"windows of {window}: this network accepts only multiples of {tuple(steps)}")


def _corner(window: Tensor) -> Tensor:
    return window.flatten(1)[:, :1].clone()


def _is_constant(window: Tensor) -> bool:
    return bool((window.flatten(1).amax(1) == window.flatten(1).amin(1)).all())
