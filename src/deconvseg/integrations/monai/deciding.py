"""Masks from the logits of a bundle's networks, as a transform of MONAI."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from numpy.typing import NDArray

from deconvseg.errors import InputError
from deconvseg.integrations.onnx import run_onnx

# Planes whose maps are activated at a time.
_PLANES = 8


class Decided(MapTransform):
    """Make masks (1, \\*S) from logits (networks * K, \\*S) on the image's grid, in the values of mask files.

    ``decision`` and ``postprocessing`` are those of a :class:`~deconvseg.integrations.Contract`: the mean of the
    probabilities of the ``networks``, the largest map or thresholds, regions painted in their order, and the steps on
    the components of the mask. ``labels`` are the values of the ids. Voxels with NaN, which no window covered, are
    background.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.monai import Decided
        >>> rule = {"kind": "largest", "activation": "softmax", "on": "logits"}
        >>> decide = Decided("pred", decision=rule, labels=[0, 7])
        >>> decide({"pred": torch.tensor([[[0.5, 0.1]], [[0.2, 0.3]]])})["pred"].tolist()
        [[[0, 7]]]

    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        decision: Mapping[str, Any],
        labels: Sequence[int],
        networks: int = 1,
        postprocessing: Sequence[Mapping[str, Any]] = (),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.decision, self.networks = dict(decision), networks
        self.labels = np.asarray(labels, np.int64)
        self.postprocessing = [dict(step) for step in postprocessing]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with masks in place of logits."""
        found = dict(data)
        for key in self.key_iterator(found):
            found[key] = self._decide(found[key])
        return found

    def _decide(self, logits: torch.Tensor) -> MetaTensor:
        if len(logits) % self.networks:
            raise InputError(f"{len(logits)} maps are not those of {self.networks} networks; use the bundle's network")
        maps: NDArray[np.float32] = logits.detach().cpu().float().as_subclass(torch.Tensor).numpy()
        contract = {
            "decision": self.decision,
            "model": {"networks": self.networks, "maps": len(maps) // self.networks},
        }
        ids = np.empty(maps.shape[1:], np.int64)
        for first in range(0, len(ids), _PLANES):
            ids[first : first + _PLANES] = run_onnx.decide(maps[:, first : first + _PLANES], contract)
        mask = self.labels[ids]
        if self.postprocessing:
            affine = np.asarray(getattr(logits, "affine", np.eye(4)), np.float64)
            spacing = np.linalg.norm(affine[:3, : mask.ndim], axis=0)
            if mask.ndim == 2:  # MONAI's pictures are (column, row): equal components are told apart by rows
                mask, spacing = mask.T.copy(), spacing[::-1]
            run_onnx.postprocess(mask, self.postprocessing, spacing)
            mask = mask.T.copy() if mask.ndim == 2 else mask
        made = MetaTensor(torch.from_numpy(mask[None]))
        if isinstance(logits, MetaTensor):
            made.copy_meta_from(logits)
        return made
