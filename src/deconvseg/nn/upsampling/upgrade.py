"""Upgrade of an existing model's upsampling: DTC or another kind is added to it or replaces it."""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.nn.observing import reference_tensor
from deconvseg.nn.upsampling import functional
from deconvseg.nn.upsampling.changing import Change, change_all
from deconvseg.nn.upsampling.choosing import Upsampling, UpsamplingChoice, choose_upsampling
from deconvseg.nn.upsampling.comparing import find_faults
from deconvseg.nn.upsampling.moved import accept_moved
from deconvseg.nn.upsampling.places import (
    FunctionalPlace,
    ModulePlace,
    Modules,
    Place,
    Sizes,
    find_modules,
    find_places,
)
from deconvseg.nn.upsampling.probing import Calls, probe
from deconvseg.nn.upsampling.summed import starts_at_zero
from deconvseg.ops.torch_internals import is_compiled

_MODES = ("beside", "replace")
_log = logging.getLogger("deconvseg")


@dataclass(frozen=True)
class UpsamplingChange:
    """One changed upsampling: the module's path, what was found there, and the new layer."""

    path: str
    found: str
    in_channels: int
    out_channels: int
    scale: tuple[int, ...]
    kind: str
    mode: str

    def __str__(self) -> str:
        scale = " x ".join(map(str, self.scale))
        place = "beside" if self.mode == "beside" else "instead of"
        path = self.path or "the model itself"
        return f"{path}: {self.kind} {place} {self.found}, {self.in_channels} to {self.out_channels} channels, {scale}"


@accept_moved({"kind": "kind", "receptive_field": "receptive_field", "init": "init"})
def upgrade_upsampling(
    model: nn.Module,
    upsampling: Upsampling = "dtc",
    mode: str = "beside",
    *,
    leave: str | Sequence[str] = (),
    example: Tensor | None = None,
) -> list[UpsamplingChange]:
    """Change a model's upsampling in place, keep its weights, and return the changes.

    The function changes transposed convolutions, ``Upsample``, ``PixelShuffle``, MONAI's ``UpSample`` and
    ``SubpixelUpsample``, this package's layers, and calls of ``torch.nn.functional.interpolate`` in a forward that
    ``torch.fx`` can trace; all with integer factors. ``mode="beside"`` adds the new layer's output to that of the old
    one (as in DTC's Fig. 3, arXiv 2601.17939); ``"replace"`` removes the old one. ``upsampling`` is the argument of
    :func:`~deconvseg.nn.create_upsampling`, a name or a mapping with options; kinds that need the skip connection
    (``fade``, ``sapa``) are rejected, because it is not known here. ``{"kind": "dtc", "init": "zero"}`` with
    ``mode="beside"`` leaves the output unchanged until the model is trained. ``leave`` lists patterns (``fnmatch``) of
    paths that are not changed. ``example`` is an image (B, C, \\*S) on which the model is run, to find channels and
    functional calls and to check the changed model; by default one is generated, which suffices for most networks.

    Load weights that were saved before the change first: with ``"beside"`` the keys of a changed module get ``base``
    inserted. Create the optimiser, and wrap the model for distributed training, afterwards. A traced forward keeps the
    settings and branches of the time of the call. Raises :class:`~deconvseg.errors.InputError` and leaves the model
    unchanged for wrong arguments, a model without upsampling, a model wrapped for distributed training, and places that
    cannot be changed, each with its reason.

    Example:
        >>> from torch import nn
        >>> from deconvseg.nn import upgrade_upsampling
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 2, stride=2))
        >>> for change in upgrade_upsampling(model, {"kind": "dtc", "init": "zero"}):
        ...     print(change)
        1: dtc beside ConvTranspose2d, 4 to 2 channels, 2 x 2

    """
    chosen = choose_upsampling(upsampling)
    check_choice(mode, _MODES, "mode")
    if chosen.takes_skip:
        raise InputError(
            f"upsampling {chosen.name!r} needs the skip connection, which is not known where an upsampling is found: "
            "choose another kind, or use create_upsampling in a decoder of your own, or create_model(..., "
            f"upsampling={chosen.name!r})"
        )
    _check_model(model)
    modules = find_modules(model)
    calls, image, failure = _observe(model, example)
    places = _chosen(list(find_places(modules, calls)), [leave] if isinstance(leave, str) else leave, modules, failure)
    planned, refused = _plan(places, model, chosen, mode, ran=image is not None)
    if image is not None:
        refused += _changed_by_tracing(model, image, [change.place for change in planned])
    if not refused:
        zeros = all(starts_at_zero(layer) for change in planned for layer in change.layers)
        refused = change_all(model, planned, mode, image, equal=zeros and mode == "beside")
    if refused:
        raise InputError(_refusal(refused, failure))
    return [
        UpsamplingChange(
            change.place.paths[0],
            change.place.found,
            size.in_channels,
            size.out_channels,
            size.scale,
            chosen.name,
            mode,
        )
        for change in planned
        for size in change.sizes
    ]


def _check_model(model: nn.Module) -> None:
    # A sharded model implies that the sharding module was imported.
    sharding = sys.modules.get("torch.distributed.fsdp")
    sharded = (sharding.FullyShardedDataParallel, sharding.FSDPModule) if sharding is not None else ()
    for path, module in model.named_modules():
        if isinstance(module, (nn.parallel.DistributedDataParallel, *sharded)):
            raise InputError(
                f"{path or 'the model'} is wrapped in {type(module).__name__}, which would not synchronise new layers: "
                "upgrade the model, then wrap it"
            )
        if is_compiled(module):
            raise InputError(f"{path or 'the model'} is compiled: upgrade the model, then compile it")
    if any(map(nn.parameter.is_lazy, [*model.parameters(), *model.buffers()])):
        raise InputError("the model has lazy layers, whose channels are not known yet: run it once on an image")


def _observe(model: nn.Module, example: Tensor | None) -> tuple[Calls, Tensor | None, str]:
    """Run the model; without an example a failure is returned as a text, because some layers declare their sizes."""
    try:
        calls, image = probe(model, example)
    except InputError as error:
        if example is not None:
            raise
        return {}, None, str(error)
    return calls, image, ""


def _chosen(places: list[Place], leave: Sequence[str], modules: Modules, failure: str) -> list[Place]:
    for pattern in leave:
        if not any(fnmatchcase(path, pattern) for place in places for path in place.paths):
            there = ", ".join(place.paths[0] for place in places) or "none"
            raise InputError(f"leave: {pattern!r} is the path of no upsampling; there are: {there}")
    chosen = [
        place for place in places if not any(fnmatchcase(path, pattern) for path in place.paths for pattern in leave)
    ]
    if not chosen:
        raise InputError(_nothing(places, modules, failure))
    if failure:
        _log.warning("calls of interpolate were not looked for, nor the changed model run, because %s", failure)
    return chosen


def _nothing(places: list[Place], modules: Modules, failure: str) -> str:
    if places:
        return f"leave: all {len(places)} upsamplings of the model are left as they are: give fewer patterns"
    learned = [paths[0] or "the model itself" for paths in modules.learned.values()]
    if learned:
        return f"every upsampling of the model has learned positions already ({', '.join(learned)}): nothing to change"
    unseen = f"; calls of interpolate could not be looked for, because {failure}" if failure else ""
    return (
        "the model has no upsampling: no transposed convolution with a stride, Upsample, PixelShuffle, or call of "
        f"interpolate that enlarges{unseen}"
    )


def _plan(
    places: Sequence[Place], model: nn.Module, chosen: UpsamplingChoice, mode: str, *, ran: bool
) -> tuple[list[Change], list[tuple[Place, str]]]:
    """Return the changes with their new layers, and the places that cannot be changed with their reasons."""
    planned, refused = [], []
    for place in places:
        try:
            if isinstance(place, ModulePlace):
                place.check(model, mode, ran=ran)
            sizes = place.sizes()
            layers = [_make(size, chosen, place.module, model) for size in sizes]
            if mode == "replace" and any(map(starts_at_zero, layers)):
                raise InputError("the new layer makes every output zero: give mode='beside', or another init")
            planned.append(Change(place, sizes, layers))
        except InputError as error:
            refused.append((place, str(error)))
    return planned, refused


def _make(sizes: Sizes, chosen: UpsamplingChoice, module: nn.Module, model: nn.Module) -> nn.Module:
    layer = chosen.create(sizes.in_channels, sizes.out_channels, sizes.scale, len(sizes.scale))
    like = reference_tensor(module)
    like = reference_tensor(model) if like is None else like
    return layer.train(module.training).to(like) if like is not None else layer.train(module.training)


def _changed_by_tracing(model: nn.Module, image: Tensor, places: Sequence[Place]) -> list[tuple[Place, str]]:
    """Return the places whose traced forward differs from the original, with the reasons."""
    functionals = [place for place in places if isinstance(place, FunctionalPlace)]
    forwards = {place.module: functional.compile_forward(place.module, place.graph, {}) for place in functionals}
    faults = find_faults(model, image, forwards) if forwards else {}
    return [(place, faults[place.module]) for place in functionals if place.module in faults]


def _refusal(refused: Sequence[tuple[Place, str]], failure: str) -> str:
    listed = "; ".join(f"{place.paths[0] or 'the model itself'} ({place.found}): {reason}" for place, reason in refused)
    paths = tuple(dict.fromkeys(place.paths[0] for place, _ in refused))
    hint = f" ({failure})" if failure else ""
    return f"upsampling that cannot be changed: {listed}. Leave it by leave={paths!r}{hint}"
