"""One or several trained networks, ready to segment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deconvseg.data import Geometry, Image, LabelMap, match_channels, nonzero_box, preprocess_image
from deconvseg.errors import InputError
from deconvseg.inference.grids import GridAxis, in_sweep_order
from deconvseg.inference.layout import Layout, choose_layout
from deconvseg.inference.masks import fill_background, labels_from_maps
from deconvseg.inference.memory import Estimate, WindowMemory, device_budget, largest_windows, show_bytes, sums_budget
from deconvseg.inference.postprocessing import Postprocessing, apply
from deconvseg.inference.runner import WindowMemoryError, WindowRunner
from deconvseg.inference.sweeping import Sweep
from deconvseg.inference.tuning import tune
from deconvseg.inference.windows import activate
from deconvseg.models import create_model
from deconvseg.planning import Plan
from deconvseg.runs import Run

Ids = NDArray[np.uint8 | np.uint16]


@dataclass(frozen=True)
class PreparedImage:
    """An image on the grid of each network; its own pixels are no longer needed.

    Attributes:
        shape: the spatial shape of the image as it was given, which its mask will have.
        geometry: where that grid lies.
        pixels: (C, \\*S) for each network, normalised; networks that see the same share one tensor.
        box: the voxels to predict, in canonical axis order; None where there is nothing but zeros.
        where: how messages call the image.

    """

    shape: tuple[int, ...]
    geometry: Geometry
    pixels: list[Tensor]
    box: tuple[range, ...] | None
    where: str


class Predictor:
    """The mean of the probabilities of one or several networks, each with its own plan, on an image's own grid.

    A model is a run, or a network with the plan that it was trained by. ``overlap`` of windows is the plan's if not
    given; ``tta`` averages over mirrorings along the axes that training mirrored. With ``crop``, what lies outside the
    box of all voxels that are not zero in every channel is background, and no window is spent on it. ``memory`` is the
    number of bytes that a case may take beside the loaded networks; without it, sums of logits take at most 1 GB.
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
        self.device = torch.device(device)
        self.overlap = overlap
        self.crop = crop
        self.memory = memory
        self.postprocessing = postprocessing or Postprocessing()
        self.plans = [model.plan if isinstance(model, Run) else model[1] for model in models]
        for number, (model, plan) in enumerate(zip(models, self.plans, strict=True)):
            if (plan.labels, plan.regions) != (self.plan.labels, self.plan.regions):
                raise InputError(
                    f"{_name(model, number)}: its classes {plan.output_names} differ from those of "
                    f"{_name(models[0], 0)}, {self.plan.output_names}; average only runs that were trained on the "
                    "same labels"
                )
        networks = [_load(model) if isinstance(model, Run) else model[0] for model in models]
        self.networks = [tune(network.to(self.device).eval(), self.device) for network in networks]
        self._runners = [
            WindowRunner(
                network,
                plan.patch_size,
                device=self.device,
                mirrored=plan.recipe.augmentation.mirrored(plan.spatial_dims) if tta else (),
            )
            for network, plan in zip(self.networks, self.plans, strict=True)
        ]
        self._window_memory = WindowMemory()
        self._store = self.device if self.device.type == "cuda" else torch.device("cpu")

    @property
    def plan(self) -> Plan:
        """The first model's plan, whose labels all models share."""
        return self.plans[0]

    def prepare(self, image: Image, where: str = "the image") -> PreparedImage:
        """Bring an image to the grid and the intensities of each network."""
        seen: list[tuple[Plan, Tensor]] = []
        for plan in self.plans:
            if len(image.shape) != plan.spatial_dims:
                raise InputError(
                    f"{where}: has {len(image.shape)} dimensions, but the run needs {plan.spatial_dims}D images"
                )
            alike = (pixels for other, pixels in seen if _sees(other) == _sees(plan))
            pixels = next(alike, None)
            if pixels is None:
                channels = match_channels(image, [channel.name for channel in plan.channels], where)
                pixels = torch.from_numpy(preprocess_image(channels, plan.spacing, plan.normalisations).pixels)
            seen.append((plan, pixels))
        order = image.geometry.axis_order()
        box = nonzero_box(image) if self.crop else tuple(range(image.shape[axis]) for axis in order.permutation)
        return PreparedImage(image.shape, image.geometry, [pixels for _, pixels in seen], box, where)

    def estimate(self, image: PreparedImage) -> Estimate:
        """Foresee the memory and the windows that :meth:`segment` takes, of reading and writing the files too."""
        # A file is read into one array and copied into another; so it is when its axes are put in order.
        reading = 2 * image.pixels[0].element_size() * len(image.pixels[0]) * math.prod(image.shape)
        if image.box is None:
            return Estimate(max(reading, self._held(image)), reading, 0, 1)
        layout, _ = self._lay_out(image, image.box)
        sums = layout.bytes if self._store.type == "cpu" else 0
        peak = max(reading, self._held(image) + self._activations(image) + sums)
        return Estimate(peak, reading, layout.windows, len(layout.blocks))

    def segment(
        self,
        image: Image | PreparedImage,
        where: str = "the image",
        *,
        probabilities: NDArray[np.float32] | None = None,
        tell: Callable[[float], None] = lambda fraction: None,
    ) -> LabelMap:
        """Return the mask, in the values that the training labels had, on the image's own grid.

        Logits are reduced to classes slab by slab; ``probabilities`` (K, \\*S), on the image's grid too, are filled in
        where they are given. ``tell`` is called with the fraction of windows that are done.
        """
        prepared = image if isinstance(image, PreparedImage) else self.prepare(image, where)
        ids: Ids = np.zeros(prepared.shape, np.uint8 if len(self.plan.labels.values) <= 256 else np.uint16)
        if probabilities is not None:
            fill_background(probabilities, self.plan)
        if prepared.box is not None:
            self._paint(prepared, prepared.box, ids, probabilities, tell)
        return self._finish(ids, prepared.geometry)

    def probabilities(self, image: Image, where: str = "the image") -> NDArray[np.float32]:
        """Return probabilities (K, \\*S) on the image's own grid; they are all in memory."""
        maps: NDArray[np.float32] = np.empty((self.plan.outputs, *image.shape), np.float32)
        self.segment(image, where, probabilities=maps)
        return maps

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
    ) -> None:
        """Fill in the ids (and probabilities) of a box, with less at a time where memory runs out."""
        order = image.geometry.axis_order()
        while True:
            try:
                layout, grids = self._lay_out(image, box)
                canonical = np.moveaxis(order.view(ids), layout.swept, 0)
                maps = None if probabilities is None else np.moveaxis(order.view(probabilities), 1 + layout.swept, 1)
                for place, logits in self._slabs(image, layout, grids, tell):
                    if len(logits) == 1:
                        canonical[place] = labels_from_maps(logits[0], self.plan, threshold=0.0)
                    if len(logits) > 1 or maps is not None:
                        average = torch.stack([activate(each, self.plan.regions is not None) for each in logits]).mean(
                            0
                        )
                    if len(logits) > 1:
                        canonical[place] = labels_from_maps(average, self.plan, threshold=0.5)
                    if maps is not None:
                        np.moveaxis(maps, 0, -1)[place] = average.movedim(0, -1).cpu().numpy()
                return
            except WindowMemoryError as error:
                if not error.runner.shrink():
                    raise error.__cause__ or error from None
            except torch.OutOfMemoryError:
                if self._store.type == "cpu":
                    raise
                self._store = torch.device("cpu")
                torch.cuda.empty_cache()

    def _slabs(
        self, image: PreparedImage, layout: Layout, grids: Sequence[Sequence[GridAxis]], tell: Callable[[float], None]
    ) -> Iterator[tuple[tuple[slice, ...], tuple[Tensor, ...]]]:
        """Yield where in sweep order each slab lies, and every network's logits (K, P, ...) of it."""
        done = count(1)
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
                for runner, pixels, grid in zip(self._runners, image.pixels, grids, strict=True)
            ]
            for chunk, *logits in zip(layout.chunks, *sweeps, strict=True):
                yield tuple(slice(part.start, part.stop) for part in (chunk, *block)), tuple(logits)

    def _lay_out(self, image: PreparedImage, box: tuple[range, ...]) -> tuple[Layout, list[list[GridAxis]]]:
        """Lay windows over the box, and choose how it is swept."""
        order = image.geometry.axis_order()
        outputs = [image.shape[axis] for axis in order.permutation]
        grids = [
            [
                GridAxis.make(size, side, overlap, outputs=length, wanted=wanted)
                for size, side, length, wanted in zip(pixels.shape[1:], runner.window, outputs, box, strict=True)
            ]
            for pixels, runner, overlap in zip(image.pixels, self._runners, self._overlaps, strict=True)
        ]
        if self._store.type == "cuda":
            layout = choose_layout(grids, box, self.plan.outputs, device_budget(self._store))
        else:
            other = 0 if self.memory is None else self._held(image) + self._activations(image)
            layout = choose_layout(grids, box, self.plan.outputs, sums_budget(self.memory, other))
            if self.memory is not None and other + layout.bytes > self.memory:
                raise InputError(
                    f"{image.where}: needs about {show_bytes(other + layout.bytes)} beside the loaded model, more "
                    f"than the {show_bytes(self.memory)} that --memory allows; allow more, or predict parts of it"
                )
        return layout, grids

    @property
    def _overlaps(self) -> list[float]:
        return [plan.recipe.overlap if self.overlap is None else self.overlap for plan in self.plans]

    def _held(self, image: PreparedImage) -> int:
        """Bytes of the prepared pixels, of a mask at work and of one that is being written."""
        pixels = {id(each): each.nbytes for each in image.pixels}
        return sum(pixels.values()) + 3 * math.prod(image.shape) * (1 if len(self.plan.labels.values) <= 256 else 2)

    def _activations(self, image: PreparedImage) -> int:
        return largest_windows(self._window_memory, self._runners, [len(pixels) for pixels in image.pixels])


def _sees(plan: Plan) -> tuple[object, ...]:
    """What decides how an image is brought to the network's grid."""
    return plan.spacing, plan.channels


def _name(model: Run | tuple[nn.Module, Plan], number: int) -> str:
    return str(model.path) if isinstance(model, Run) else f"model {number}"


def _load(run: Run) -> nn.Module:
    network = create_model(run.plan.model.name, **run.plan.model.config)
    network.load_weights(run.load_weights(), str(run.path / "weights.safetensors"), "plan.json describes")
    return network
