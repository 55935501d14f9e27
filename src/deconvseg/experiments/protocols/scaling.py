"""The scale of a table: rehearsals, and parts that are set by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from deconvseg.models import create_model, list_arguments
from deconvseg.planning import Recipe

# A rehearsal: a table in at most an hour on two cores.
_STEPS = (10, 50)
_NARROW, _NARROWEST = 8, 8
_PATCHES = {2: 64, 3: 32}
_CASES, _FOLDS = 10, 2
# Where epochs are shortened, at most this many, of at least so many steps.
_EPOCHS, _STEPS_OF_EPOCH = 20, 25

# Arguments that are numbers of channels, and what they are a multiple of in the networks that have them.
_CHANNELS: Mapping[str, int] = {
    "widths": 1,
    "init_filters": 8,
    "feature_size": 1,
    "channels": 1,
    "hidden": 1,
    "last_width": 1,
    "hidden_size": 12,
    "mlp_dim": 1,
}
# A network with `num_heads` divides its first channels among three heads, in pairs for the positions.
_OF_HEADS = 12


@dataclass(frozen=True)
class Scale:
    """What of a protocol is reduced; None keeps the protocol's.

    ``share`` below 1 is a rehearsal: it sets the other parts that are not given. ``narrow`` divides all widths,
    ``patch`` is the largest length of a patch, ``cases`` the largest number of cases that the folds divide, ``seconds``
    the time limit of each training.
    """

    share: float = 1.0
    steps: int | None = None
    narrow: int | None = None
    patch: int | None = None
    cases: int | None = None
    seconds: float | None = None
    batch: int | None = None

    @property
    def rehearses(self) -> bool:
        """Whether this is a rehearsal."""
        return self.share < 1

    @property
    def most_cases(self) -> int | None:
        """The number of cases that the folds divide at most."""
        return self.cases or (_CASES if self.rehearses else None)

    @property
    def divisor(self) -> int:
        """The number by which widths are divided."""
        return self.narrow or (_NARROW if self.rehearses else 1)

    def folds(self, asked: int | None, protocol: int) -> int:
        """Return the number of folds."""
        return asked or (min(_FOLDS, protocol) if self.rehearses else protocol)

    def size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the size of a patch (or of resized images)."""
        most = self.patch or (_PATCHES[len(size)] if self.rehearses else None)
        return tuple(size) if most is None else tuple(min(length, most) for length in size)

    def recipe(self, recipe: Recipe, cases: int, batch: int) -> Recipe:
        """Return a recipe with the steps of this scale, for trainings on a number of cases."""
        all_steps = recipe.epochs * recipe.count_steps(cases, batch)
        steps = self.steps
        if steps is None and self.rehearses:
            least, most = _STEPS
            steps = max(least, min(most, round(self.share * all_steps)))
        if steps is None or steps >= all_steps:
            return recipe
        epochs = max(1, min(_EPOCHS, recipe.epochs, steps // _STEPS_OF_EPOCH))
        every = max(1, round(epochs * recipe.validate_every / recipe.epochs))
        per_epoch = math.ceil(steps / epochs)
        return recipe.model_copy(update={"epochs": epochs, "steps_per_epoch": per_epoch, "validate_every": every})

    def network(self, model: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a network's arguments with narrower widths, for its own patch size."""
        given = dict(arguments)
        if given.get("image_size") is not None:
            sizes = given["image_size"]
            whole_size = [sizes] * given["spatial_dims"] if isinstance(sizes, int) else list(sizes)
            given["image_size"] = list(self.size(whole_size))
            if isinstance(given.get("window"), int):
                # The windows of the lowest resolution cover the same share of the image.
                given["window"] = max(1, given["window"] * given["image_size"][0] // whole_size[0])
        if self.divisor == 1:
            return given
        with torch.device("meta"):
            whole = create_model(model, **given).config
        known = list_arguments(model)
        for name, multiple in _CHANNELS.items():
            if name not in known:
                continue
            value: Any = whole.get(name)
            step = (
                _OF_HEADS if name == "feature_size" and isinstance(whole.get("num_heads"), list | tuple) else multiple
            )
            given[name] = (
                [self._narrow(width, step) for width in value]
                if isinstance(value, list | tuple)
                else self._narrow(value, step)
            )
        return given

    def _narrow(self, width: int, multiple: int) -> int:
        wanted = max(_NARROWEST, width // self.divisor)
        return min(width, math.ceil(wanted / multiple) * multiple)
