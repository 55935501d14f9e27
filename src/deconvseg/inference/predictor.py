"""One or several trained networks that segment images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from functools import cached_property, partial
from hashlib import sha256
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deconvseg.data import Axes, Image, LabelMap, Resampling
from deconvseg.errors import InputError
from deconvseg.inference.deciding import Rule
from deconvseg.inference.doubting import Doubt, DoubtSums
from deconvseg.inference.engine import Engine
from deconvseg.inference.engine_registry import TORCH, create_engine
from deconvseg.inference.masks import Canvas, describe_monotony, fill_background, ids_of
from deconvseg.inference.matching import check_alike, check_engine, check_model, check_steps
from deconvseg.inference.members import Member
from deconvseg.inference.memory import Estimate
from deconvseg.inference.postprocessing import WORKING_BYTES, Postprocessing, apply
from deconvseg.inference.preparing import PreparedImage, prepare
from deconvseg.inference.region_steps import apply_to_regions
from deconvseg.inference.sweep import Sweep
from deconvseg.inference.torch_engine import TorchEngine, computing_in
from deconvseg.inference.tuning import tune
from deconvseg.models import Network
from deconvseg.planning import InferencePlan, Plan
from deconvseg.progress import Progress, show_nothing
from deconvseg.runs import Precision, Run, Threshold, WeightsChoice, describe_run
from deconvseg.system import FOREIGN_ERRORS, first_line

Model: TypeAlias = Run | tuple[nn.Module | Engine, Plan]
_log = logging.getLogger("deconvseg")


class Predictor:
    """The mean of the probabilities of one or several networks, each with its own plan, on an image's own grid.

    A model is a run, or a network or an :class:`~deconvseg.inference.Engine` with the plan of its training. A
    network is copied with its current weights and runs on ``device``; an engine has its own device. Plans may choose
    the mean of the logits instead (:class:`~deconvseg.planning.InferencePlan`).
    ``overlap`` of windows (a fraction in [0, 1)) is by default the plan's; ``tta`` averages over mirrorings
    along the axes that training mirrored, by default as each plan says (usually not). With ``crop``, if every plan
    allows it, voxels outside the box of all voxels that are non-zero in some channel are background and not computed.
    ``threshold`` is that of :class:`~deconvseg.inference.Rule`; without it each voxel gets the most probable class.
    ``weights`` are the "final" or the "best" ones of each run, by default those that its recipe chooses.
    With the ``precision`` "bf16" the networks are computed in bfloat16
    (:class:`~deconvseg.inference.TorchEngine`), by PyTorch or by the registered ``engine``
    (:func:`~deconvseg.inference.list_engines`). Models that are engines have their own precision.
    ``memory`` is the number of bytes that a case may take in addition to the loaded networks; without it,
    sums of logits take at most 1 GB.

    Example:
        >>> from deconvseg.data import read_image
        >>> from deconvseg.inference import Predictor
        >>> from deconvseg.runs import Run
        >>> predictor = Predictor([Run.open("RUN")], tta=True)
        >>> mask = predictor.segment(read_image("image.png"))
        >>> mask.shape, mask.pixels.dtype.name
        ((40, 48), 'uint8')

    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        device: str = "cpu",
        overlap: float | None = None,
        tta: bool | None = None,
        crop: bool = True,
        memory: int | None = None,
        postprocessing: Postprocessing | None = None,
        threshold: Threshold | None = None,
        weights: WeightsChoice | None = None,
        precision: Precision = "32",
        engine: str = TORCH,
    ) -> None:
        if not models:
            raise InputError("no run given: name at least one run folder")
        for model in models:
            check_model(model)
        self.device = torch.device(device)
        self.memory = memory
        self.precision: Precision = precision
        self._engine_name = engine
        self.postprocessing = postprocessing or Postprocessing()
        self._weights = weights
        runs = [model for model in models if isinstance(model, Run)]
        if weights is not None and not runs:
            raise InputError("`weights` chooses among those of a run; a network or an engine has its own: omit it")
        check_engine(engine, precision, self.device, models)
        self.runs = [describe_run(run, run.choose_weights(weights)) for run in runs]
        self.folders = [run.path for run in runs]
        self.plans = [model.plan if isinstance(model, Run) else model[1] for model in models]
        self.crop = crop and all(plan.crop_to_nonzero for plan in self.plans)
        names = [str(model.path) if isinstance(model, Run) else f"model {n}" for n, model in enumerate(models)]
        check_alike(names, self.plans)
        self.rule = Rule(self.plan, threshold)
        check_steps(self.postprocessing, self.plan)
        self._members = []
        for name, model, plan in zip(names, models, self.plans, strict=True):
            wanted = plan.inference.tta if tta is None else tta
            mirrored = plan.recipe.augmentation.mirrored(plan.spatial_dims) if wanted else ()
            if tta and not mirrored:
                _log.warning("`tta=True`: %s was trained without mirroring, so this has no effect on it", name)
            computing = self._engine(name, model, plan)
            self._members.append(
                Member(
                    computing,
                    computing.fixed_size or plan.patch_size,
                    overlap=plan.recipe.overlap if overlap is None else overlap,
                    mirrored=mirrored,
                    rule=plan.inference.windows,
                )
            )
        self._sweep = self._sweep_of(self._members)

    def _engine(self, name: str, model: Model, plan: Plan) -> Engine:
        """Return the given engine, or the requested one for the network of a run or a copy of the given network."""
        given = model.network(model.choose_weights(self._weights)) if isinstance(model, Run) else model[0]
        if not isinstance(given, nn.Module):
            if given.fixed_size is not None and len(given.fixed_size) != plan.spatial_dims:
                raise InputError(
                    f"models: {type(given).__name__} takes windows of {tuple(given.fixed_size)}, but its plan is "
                    f"{plan.spatial_dims}D"
                )
            return given
        if self._engine_name != TORCH:
            if not isinstance(given, Network):
                raise InputError(
                    f"{name}: the engine {self._engine_name} takes networks of `create_model`, not a "
                    f"{type(given).__name__}; give an inference.Engine of it"
                )
            return create_engine(self._engine_name, given, plan.patch_size, precision=self.precision)
        network = given if isinstance(model, Run) else _copy(given)
        with computing_in(self.precision, self.device):
            tuned = tune(network.to(self.device).eval(), self.device)
        return TorchEngine(tuned, channels=len(plan.channels), device=self.device, precision=self.precision)

    def _sweep_of(self, members: Sequence[Member]) -> Sweep:
        return Sweep(members, self.plan.outputs, memory=self.memory, mean=self.plan.inference.average == "logits")

    @property
    def networks(self) -> list[nn.Module]:
        """The networks that PyTorch computes, as prepared for their device."""
        return [engine.network for engine in self.engines]

    @property
    def other_engines(self) -> list[Engine]:
        """The engines that are not PyTorch's."""
        return [member.engine for member in self._members if not isinstance(member.engine, TorchEngine)]

    @property
    def engines(self) -> list[TorchEngine]:
        """The engines of :attr:`networks`."""
        return [member.engine for member in self._members if isinstance(member.engine, TorchEngine)]

    @property
    def mirrored_axes(self) -> list[tuple[int, ...]]:
        """The axes along which each model's predictions are averaged over mirrorings, numbered from 0."""
        return [tuple(sorted({axis - 2 for flip in member.flips for axis in flip})) for member in self._members]

    @property
    def overlaps(self) -> list[float]:
        """The fraction that neighbouring windows share at least, of each model."""
        return [member.overlap for member in self._members]

    @property
    def windows(self) -> list[tuple[int, ...]]:
        """The size of each model's windows, if memory suffices."""
        return [member.trained for member in self._members]

    @cached_property
    def identity(self) -> str:
        """A hash of all that a mask depends on: weights, plans, windows, mirroring, cropping, threshold and steps."""
        digest = sha256()
        for member in self._members:
            for piece in member.engine.fingerprint():
                digest.update(piece)
        for plan, member in zip(self.plans, self._members, strict=True):
            seen = plan.model_dump_json(include={"spacing", "patch_size", "channels", "labels", "regions", "model"})
            seen += _describe_grid(plan)
            size = "" if member.trained == tuple(plan.patch_size) else f" {member.trained}"
            digest.update(f"{seen} {member.overlap} {member.flips}{size}".encode())
        steps = [step.model_dump_json() for step in self.postprocessing.steps]
        digest.update(f"{self.crop} {steps}".encode())
        if self.rule.threshold is not None:
            digest.update(f" {self.rule.threshold}".encode())
        return digest.hexdigest()

    @property
    def plan(self) -> Plan:
        """The first model's plan, whose labels all models share."""
        return self.plans[0]

    def copy_for_thread(self) -> Predictor:
        """Return a predictor with the same networks, which another thread may use at the same time."""
        other = copy(self)
        other._members = [copy(member) for member in self._members]
        other._sweep = other._sweep_of(other._members)
        return other

    def prepare(self, image: Image, where: str = "the image") -> PreparedImage:
        """Resample an image to the grid of each network and normalise its intensities."""
        if not isinstance(image, Image):
            raise InputError(
                f"{where}: give a deconvseg.data.Image (pixels, channels first, and a Geometry), not a "
                f"{type(image).__name__}; deconvseg.predict takes arrays too"
            )
        return prepare(image, self.plans, crop=self.crop, memory=self.memory, where=where)

    def estimate(self, image: PreparedImage) -> Estimate:
        """Estimate the windows and the memory of :meth:`segment`, including reading and writing the files."""
        reading = image.reading_bytes
        peak = max(reading, image.finishing_bytes(WORKING_BYTES if self.postprocessing.steps else 0))
        if image.volume is None:
            return Estimate(peak, reading, 0, 1)
        fit = self._sweep.fit(image.volume)
        peak = max(peak, self._sweep.bytes(image.volume, fit))
        return Estimate(peak, reading, fit.layout.windows, len(fit.layout.blocks))

    def segment(
        self,
        image: Image | PreparedImage,
        where: str = "the image",
        *,
        probabilities: NDArray[np.float32] | None = None,
        levels: NDArray[np.uint8] | None = None,
        regions: NDArray[np.uint8] | None = None,
        doubt: Callable[[Doubt], None] | None = None,
        tell: Progress = show_nothing,
        note: Callable[[str], None] | None = None,
    ) -> LabelMap:
        """Return the mask, in the values that the training labels had, on the image's own grid.

        Logits are reduced to classes slab by slab. If ``probabilities`` (K, \\*S), also on the image's grid, are given,
        they are filled; ``regions`` (R, \\*S) are 1 where each of the plan's ``structures`` is predicted by itself.
        ``tell`` is called with the fraction and the number of finished windows, ``note`` with each warning about the
        mask (which is otherwise logged). Raises :class:`~deconvseg.errors.DeconvsegError` for logits that are not
        finite, and :class:`~deconvseg.errors.InputError` if ``memory`` does not suffice.
        """
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image, where)
        ids = ids_of(self.plan, prepared.shape)
        if probabilities is not None:
            fill_background(probabilities, self.plan)
        for counts in (levels, regions):
            if counts is not None:
                counts[...] = 0
        note = note or partial(_log.warning, "%s: %s", prepared.where)
        for remark in prepared.remarks:
            note(remark)
        sums: list[DoubtSums] = []
        if prepared.volume is not None:
            arrays = (None if array is None else prepared.view(array) for array in (probabilities, levels, regions))
            canvas = Canvas(self.rule, prepared.where, prepared.view(ids), doubt is not None, *arrays)
            sums = [part for part in self._sweep.map(prepared.volume, canvas.paint, tell=tell, note=note) if part]
        if doubt is not None:
            doubt(DoubtSums.total(sums, self.rule))
        values = self.plan.labels.to_encoding().decode(ids)
        mask = apply(self.postprocessing, LabelMap(values, prepared.geometry))
        if regions is not None:
            apply_to_regions(self.postprocessing, regions, self.plan.structures, prepared.geometry.spacing)
        if one_value := describe_monotony(mask, self.plan):
            note(one_value)
        return mask

    def probabilities(self, image: Image, where: str = "the image") -> NDArray[np.float32]:
        """Return probabilities (K, \\*S) on the image's own grid; they are all in memory."""
        maps = self.new_maps(image.shape)
        self.segment(image, where, probabilities=maps)
        return maps

    def new_maps(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Return an array for the probabilities (K, \\*S) of an image of that spatial shape."""
        return np.empty((self.plan.outputs, *shape), np.float32)


def _describe_grid(plan: Plan) -> str:
    """Return what a mask depends on beside the spacing; empty for plans of versions that had none of it."""
    keys = ("resize", "crop_margin", "normalise_first")
    given: dict[str, object] = {
        key: value for key in keys if (value := getattr(plan, key)) is not None and value is not False
    }
    for key, default in (("axes", Axes()), ("resampling", Resampling()), ("inference", InferencePlan())):
        if (value := getattr(plan, key)) != default:
            given[key] = value
    return f" {given}" if given else ""


def _copy(network: nn.Module) -> nn.Module:
    """Return a copy of a network, or the network itself if it cannot be copied."""
    try:
        return deepcopy(network)
    except FOREIGN_ERRORS as reason:
        _log.warning(
            "%s cannot be copied (%s): the network itself is set to evaluation mode and must not be trained meanwhile",
            type(network).__name__,
            first_line(reason),
        )
        return network
