"""All-or-nothing changes of a model's upsampling."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.nn.observing import Snapshot, at_rest, same, unchanged, watched
from deconvseg.nn.upsampling.places import Place, Sizes
from deconvseg.system import FOREIGN_ERRORS, first_line


@dataclass(frozen=True)
class Change:
    """A place, and for each upsampling in it the sizes and the new layer."""

    place: Place
    sizes: Sequence[Sizes]
    layers: Sequence[nn.Module]


@dataclass(frozen=True)
class Run:
    """The output of a run of a model, and the number of calls of each module."""

    output: object
    calls: Counter[nn.Module]


def run(model: nn.Module, image: Tensor, watching: Iterable[nn.Module]) -> Run:
    """Run a model on an image with a fixed random seed, and count the calls of some modules."""
    calls: Counter[nn.Module] = Counter()

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        calls[module] += 1

    with unchanged(model), at_rest(model), watched(watching, enter):
        torch.manual_seed(0)
        return Run(model(image.clone()), calls)


def change_all(
    model: nn.Module, changes: Sequence[Change], mode: str, image: Tensor | None, *, equal: bool
) -> list[tuple[Place, str]]:
    """Change a model and run it to check that the new layers work.

    With ``equal`` its output must be the same as before, up to rounding (fused kernels round differently). Returns the
    faulty places with their reasons; the model is left unchanged if there are any.
    """
    before = None
    if image is not None:
        before = run(model, image, [change.place.module for change in changes])
    try:
        _change(model, changes, mode, image, before, equal=equal)
    except InputError as error:
        alone = [(change.place, _fault(model, change, mode, image, before, equal=equal)) for change in changes]
        faults = [(place, fault) for place, fault in alone if fault]
        return faults or [(change.place, str(error)) for change in changes]
    return []


def _fault(
    model: nn.Module, change: Change, mode: str, image: Tensor | None, before: Run | None, *, equal: bool
) -> str:
    """Return what is wrong with a single change, or an empty string."""
    snapshot = Snapshot(model)
    try:
        _change(model, [change], mode, image, before, equal=equal)
    except InputError as error:
        return str(error)
    snapshot.restore()
    return ""


def _change(
    model: nn.Module, changes: Sequence[Change], mode: str, image: Tensor | None, before: Run | None, *, equal: bool
) -> None:
    with contextlib.ExitStack() as undo:
        undo.callback(Snapshot(model).restore)
        try:
            for change in changes:
                change.place.change(model, change.layers, mode)
            if image is not None and before is not None:
                layers = [layer for change in changes for layer in change.layers]
                _check(changes, before, run(model, image, layers), equal=equal)
        except InputError:
            raise
        except FOREIGN_ERRORS as error:
            raise InputError(f"with the new layer the model fails ({first_line(error)})") from error
        undo.pop_all()


def _check(changes: Sequence[Change], before: Run, after: Run, *, equal: bool) -> None:
    for change in changes:
        expected = before.calls[change.place.module]
        for layer in change.layers:
            if after.calls[layer] != expected:
                raise InputError(
                    f"the model calls the new layer {after.calls[layer]} times instead of {expected}: it keeps the old "
                    "one elsewhere too, as in a list"
                )
    if equal and not same(before.output, after.output, rounded=True):
        raise InputError("with the new layer, which adds zeros, the model's output changes")
