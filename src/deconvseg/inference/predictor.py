"""One or several trained runs, ready to segment."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from deconvseg.data import Image, LabelMap, match_channels, preprocess_image, restore
from deconvseg.errors import InputError
from deconvseg.inference.masks import labels_from_probabilities
from deconvseg.inference.postprocessing import Postprocessing, apply
from deconvseg.inference.windows import predict_windows
from deconvseg.models import create_model
from deconvseg.planning import Plan
from deconvseg.runs import Run


class Predictor:
    """The mean of the probabilities of one or several runs, each with its own plan, on an image's own grid."""

    def __init__(
        self,
        runs: Sequence[Run],
        *,
        device: str = "cpu",
        overlap: float | None = None,
        tta: bool = False,
        postprocessing: Postprocessing | None = None,
    ) -> None:
        if not runs:
            raise InputError("no run given: name at least one run folder")
        self.plans = [run.plan for run in runs]
        self.device = torch.device(device)
        self.overlap = overlap
        self.tta = tta
        self.postprocessing = postprocessing or Postprocessing()
        for run, plan in zip(runs, self.plans, strict=True):
            if (plan.labels, plan.regions) != (self.plan.labels, self.plan.regions):
                raise InputError(
                    f"{run.path}: its classes {plan.output_names} differ from those of {runs[0].path}, "
                    f"{self.plan.output_names}; average only runs that were trained on the same labels"
                )
        self.networks = [self._load(run, plan) for run, plan in zip(runs, self.plans, strict=True)]

    @property
    def plan(self) -> Plan:
        """The first run's plan, whose labels all runs share."""
        return self.plans[0]

    def probabilities(self, image: Image, where: str = "the image") -> NDArray[np.float32]:
        """Return probabilities (K, *S) on the image's own grid."""
        total: NDArray[np.float32] = np.zeros((self.plan.outputs, *image.shape), np.float32)
        for network, plan in zip(self.networks, self.plans, strict=True):
            if len(image.shape) != plan.spatial_dims:
                raise InputError(
                    f"{where}: has {len(image.shape)} dimensions, but the run needs {plan.spatial_dims}D images"
                )
            prepared = preprocess_image(
                match_channels(image, [channel.name for channel in plan.channels], where),
                plan.spacing,
                plan.normalisations,
            )
            pixels = torch.from_numpy(prepared.pixels)[None].to(self.device)
            maps = predict_windows(
                network,
                pixels,
                plan.patch_size,
                overlap=plan.recipe.overlap if self.overlap is None else self.overlap,
                regions=plan.regions is not None,
                tta=self.tta,
            )
            total += restore(maps[0].cpu().numpy(), image)
        total /= len(self.networks)
        return total

    def mask(self, image: Image, probabilities: NDArray[np.float32]) -> LabelMap:
        """Return the mask, in the values that the training labels had, on the image's grid."""
        ids = labels_from_probabilities(probabilities, self.plan)
        mask = LabelMap(self.plan.labels.to_encoding().decode(ids), image.geometry)
        return apply(self.postprocessing, mask)

    def _load(self, run: Run, plan: Plan) -> torch.nn.Module:
        network = create_model(plan.model.name, **plan.model.config)
        network.load_weights(run.load_weights(), str(run.path / "weights.safetensors"), "plan.json describes")
        return network.to(self.device).eval()
