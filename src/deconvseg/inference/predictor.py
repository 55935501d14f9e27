"""One or several trained networks, ready to segment."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import cached_property, partial
from hashlib import sha256
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvseg.data import Geometry, Image, LabelMap, list_names
from deconvseg.errors import InputError
from deconvseg.inference.fitting import Fit, Fitter
from deconvseg.inference.grids import in_sweep_order
from deconvseg.inference.masks import Canvas, describe_monotony, fill_background
from deconvseg.inference.memory import Estimate
from deconvseg.inference.postprocessing import Postprocessing, apply
from deconvseg.inference.preparing import PreparedImage, prepare
from deconvseg.inference.runner import WindowMemoryError, WindowRunner
from deconvseg.inference.sweeping import Sweep
from deconvseg.inference.tiling import check_overlap
from deconvseg.inference.tuning import tune
from deconvseg.nn.observing import FOREIGN_ERRORS, first_line
from deconvseg.planning import Plan
from deconvseg.runs import Run, describe_run

Ids = NDArray[np.uint8 | np.uint16]
_log = logging.getLogger("deconvseg")


class Predictor:
    """The mean of the probabilities of one or several networks, each with its own plan, on an image's own grid.

    A model is a run, or a network with the plan that it was trained by, which is copied with the weights that it has
    now. ``overlap`` of windows (a fraction from 0 to below 1) is the plan's if not given; ``tta`` averages over
    mirrorings along the axes that training mirrored. With ``crop``, where every plan says that it
    may be cropped, what lies outside the box of all voxels that are not zero in some channel is background, and no
    window is spent on it. ``memory`` is the number of bytes that a case
    may take beside the loaded networks while it is computed; without it, sums of logits take at most 1 GB.
    """

    def __init__(
        self,
        models: Sequence[Run | tuple[nn.Module, Plan]],
        *,
        device: str = "cpu",
        overlap: float | None = None,
        tta: bool = False,
        crop: bool = True,
        memory: int | None = None,
        postprocessing: Postprocessing | None = None,
    ) -> None:
        if not models:
            raise InputError("no run given: name at least one run folder")
        if overlap is not None:
            check_overlap(overlap)
        self.device = torch.device(device)
        self.memory = memory
        self.postprocessing = postprocessing or Postprocessing()
        self.runs = [describe_run(model) for model in models if isinstance(model, Run)]
        self.plans = [model.plan if isinstance(model, Run) else model[1] for model in models]
        self.crop = crop and all(plan.crop_to_nonzero for plan in self.plans)
        names = [str(model.path) if isinstance(model, Run) else f"model {n}" for n, model in enumerate(models)]
        for name, plan in zip(names, self.plans, strict=True):
            if (plan.labels, plan.regions) != (self.plan.labels, self.plan.regions):
                raise InputError(
                    f"{name}: its classes {plan.output_names} differ from those of {names[0]}, "
                    f"{self.plan.output_names}; average only runs that were trained on the same labels"
                )
            channels, others = ([channel.name for channel in one.channels] for one in (self.plan, plan))
            if channels != others and len(others) > 1:
                raise InputError(
                    f"{name}: its channels {', '.join(others)} differ from those of {names[0]}, {', '.join(channels)}; "
                    "average only runs that were trained on the same channels"
                )
        _check_steps(self.postprocessing, self.plan)
        mirrored = [plan.recipe.augmentation.mirrored(plan.spatial_dims) if tta else () for plan in self.plans]
        for name, axes in zip(names, mirrored, strict=True):
            if tta and not axes:
                _log.warning("--tta: %s was trained without mirroring, so it changes nothing there", name)
        networks = [model.network("final") if isinstance(model, Run) else _copy(model[0]) for model in models]
        self.networks = [tune(network.to(self.device).eval(), self.device) for network in networks]
        self._runners = [
            WindowRunner(network, plan.patch_size, device=self.device, mirrored=axes)
            for network, plan, axes in zip(self.networks, self.plans, mirrored, strict=True)
        ]
        overlaps = [plan.recipe.overlap if overlap is None else overlap for plan in self.plans]
        self._fitter = Fitter(self._runners, overlaps, self.plan, memory, bool(self.postprocessing.steps))
        self._store = self.device if self.device.type == "cuda" else torch.device("cpu")

    @cached_property
    def identity(self) -> str:
        """A hash of what decides a mask: weights, plans, overlap, mirroring, cropping and post-processing."""
        digest = sha256()
        for network in self.networks:
            for name, value in network.state_dict().items():
                if isinstance(value, Tensor):
                    digest.update(name.encode())
                    digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        for plan, overlap, runner in zip(self.plans, self._fitter.overlaps, self._runners, strict=True):
            seen = plan.model_dump_json(include={"spacing", "patch_size", "channels", "labels", "regions", "model"})
            digest.update(f"{seen} {overlap} {runner.flips}".encode())
        steps = [step.model_dump_json() for step in self.postprocessing.steps]
        digest.update(f"{self.crop} {steps}".encode())
        return digest.hexdigest()

    @property
    def plan(self) -> Plan:
        """The first model's plan, whose labels all models share."""
        return self.plans[0]

    def prepare(self, image: Image, where: str = "the image") -> PreparedImage:
        """Bring an image to the grid and the intensities of each network."""
        if not isinstance(image, Image):
            raise InputError(
                f"{where}: give a deconvseg.data.Image (pixels, channels first, and a Geometry), not a "
                f"{type(image).__name__}; deconvseg.predict takes arrays too"
            )
        return prepare(image, self.plans, crop=self.crop, memory=self.memory, where=where)

    def estimate(self, image: PreparedImage) -> Estimate:
        """Foresee the memory and the windows that :meth:`segment` takes, of reading and writing the files too."""
        return self._fitter.estimate(image, self._store)

    def segment(
        self,
        image: Image | PreparedImage,
        where: str = "the image",
        *,
        probabilities: NDArray[np.float32] | None = None,
        tell: Callable[[float], None] = lambda fraction: None,
        note: Callable[[str], None] | None = None,
    ) -> LabelMap:
        """Return the mask, in the values that the training labels had, on the image's own grid.

        Logits are reduced to classes slab by slab; ``probabilities`` (K, \\*S), on the image's grid too, are filled in
        where they are given. ``tell`` is called with the fraction of windows that are done, ``note`` with each sentence
        about why the mask may be wrong (without it, the log has it). Raises
        :class:`~deconvseg.errors.DeconvsegError` where logits are not finite, and
        :class:`~deconvseg.errors.InputError` where ``memory`` does not suffice.
        """
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image, where)
        ids: Ids = np.zeros(prepared.shape, np.uint8 if len(self.plan.labels.values) <= 256 else np.uint16)
        if probabilities is not None:
            fill_background(probabilities, self.plan)
        note = note or partial(_log.warning, "%s: %s", prepared.where)
        for remark in prepared.remarks:
            note(remark)
        if prepared.box is not None:
            self._paint(prepared, prepared.box, ids, probabilities, tell, note)
        mask = self._finish(ids, prepared.geometry)
        one_value = describe_monotony(mask, self.plan)
        if one_value is not None:
            note(one_value)
        return mask

    def probabilities(self, image: Image, where: str = "the image") -> NDArray[np.float32]:
        """Return probabilities (K, \\*S) on the image's own grid; they are all in memory."""
        maps = self.new_maps(image.shape)
        self.segment(image, where, probabilities=maps)
        return maps

    def new_maps(self, shape: Sequence[int]) -> NDArray[np.float32]:
        """Return room for the probabilities (K, \\*S) of an image of that spatial shape."""
        return np.empty((self.plan.outputs, *shape), np.float32)

    def _finish(self, ids: Ids, geometry: Geometry) -> LabelMap:
        """Make the mask of class ids (\\*S) on the image's grid."""
        return apply(self.postprocessing, LabelMap(self.plan.labels.to_encoding().decode(ids), geometry))

    @torch.inference_mode()
    def _paint(
        self,
        image: PreparedImage,
        box: tuple[range, ...],
        ids: Ids,
        probabilities: NDArray[np.float32] | None,
        tell: Callable[[float], None],
        note: Callable[[str], None],
    ) -> None:
        """Fill in the ids (and probabilities) of a box, with less at a time where memory runs out."""
        while True:
            try:
                fit = self._fitter.fit(image, box, self._store)
                for runner, window in zip(self._runners, fit.windows, strict=True):
                    if window != runner.trained:
                        note(
                            f"windows of {window} instead of the trained {runner.trained}, for lack of memory; the "
                            "mask may be worse: allow more memory for the trained size"
                        )
                self._sweep(image, fit, ids, probabilities, tell)
                return
            except (WindowMemoryError, torch.OutOfMemoryError) as error:
                self._make_room(error)
            # Only now, with the error, are the sums gone that this attempt has made.
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _make_room(self, error: WindowMemoryError | torch.OutOfMemoryError) -> None:
        """Keep the sums of logits on the host, or, if they are there, take smaller windows; the error if neither."""
        if self._store.type != "cpu":
            _log.warning("not enough memory on %s: going on with the sums of logits on the host", self._store)
            self._store = torch.device("cpu")
        elif not (isinstance(error, WindowMemoryError) and error.runner.shrink()):
            raise error.__cause__ or error from None

    def _sweep(
        self,
        image: PreparedImage,
        fit: Fit,
        ids: Ids,
        probabilities: NDArray[np.float32] | None,
        tell: Callable[[float], None],
    ) -> None:
        order, swept = image.geometry.axis_order(), fit.layout.swept
        maps = None if probabilities is None else np.moveaxis(order.view(probabilities), 1 + swept, 1)
        canvas = Canvas(self.plan, image.where, np.moveaxis(order.view(ids), swept, 0), maps)
        for place, logits in self._slabs(image, fit, tell):
            canvas.paint(place, logits)
            # They may be a view of a block's sums, which are to be gone before those of the next block are made.
            del logits

    def _slabs(
        self, image: PreparedImage, fit: Fit, tell: Callable[[float], None]
    ) -> Iterator[tuple[tuple[slice, ...], tuple[Tensor, ...]]]:
        """Yield where in sweep order each slab lies, and every network's logits (K, P, ...) of it."""
        done, layout = count(1), fit.layout
        for runner, window in zip(self._runners, fit.windows, strict=True):
            runner.resize(window)
        for block in layout.blocks:
            sweeps = [
                Sweep(
                    runner,
                    pixels.movedim(1 + layout.swept, 1),
                    in_sweep_order(grid, layout.swept),
                    swept=layout.swept,
                    store=self._store,
                    tell=lambda: tell(next(done) / layout.windows),
                ).slabs(layout.chunks, block)
                for runner, pixels, grid in zip(self._runners, image.pixels, fit.grids, strict=True)
            ]
            # Not by `zip`, which keeps what it gave until it gives the next.
            for chunk in layout.chunks:
                place = tuple(slice(part.start, part.stop) for part in (chunk, *block))
                yield place, tuple(next(sweep) for sweep in sweeps)


def _check_steps(postprocessing: Postprocessing, plan: Plan) -> None:
    """Refuse post-processing of labels that the masks do not have: it was chosen for other classes."""
    for step in postprocessing.steps:
        foreign = {*step.labels, step.written_as, *step.enclosing.values()} - {0, *plan.labels.values}
        if foreign:
            raise InputError(
                f"post-processing of {step.structure}: names the labels {list_names(sorted(foreign))}, but the masks "
                f"have {list_names(plan.labels.values)}; it belongs to another run: predict without it"
            )


def _copy(network: nn.Module) -> nn.Module:
    """Copy somebody's network, which may be at training; one that cannot be copied is taken as it is."""
    try:
        return deepcopy(network)
    except FOREIGN_ERRORS as reason:
        _log.warning(
            "%s cannot be copied (%s): it is put into evaluation itself, and is not to be trained meanwhile",
            type(network).__name__,
            first_line(reason),
        )
        return network
