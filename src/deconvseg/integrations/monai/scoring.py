"""The predicted structures of a mask, one channel each, for MONAI's metrics."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform


class Structuresd(MapTransform):
    """Split masks (1, \\*S) into the structures of a run (N, \\*S): unions of values of mask files.

    MONAI's ``AsDiscreted`` knows only consecutive values, each a class of its own. ``values`` are those of each
    structure, with the further values of merged labels; None has one structure, of all voxels above 0. Voxels whose
    true mask, the key ``truth``, has the value ``ignore`` belong to no structure.

    Example:
        >>> import torch
        >>> from deconvseg.integrations.monai import Structuresd
        >>> split = Structuresd("label", values=[[1, 2], [2]])
        >>> split({"label": torch.tensor([[[0, 1, 2]]])})["label"].tolist()
        [[[0.0, 1.0, 1.0]], [[0.0, 0.0, 1.0]]]

    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        values: Sequence[Sequence[int]] | None,
        ignore: int | None = None,
        truth: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values, self.ignore, self.truth = values, ignore, truth

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the data with a channel for each structure."""
        found = dict(data)
        left_out = None if self.ignore is None else np.asarray(found[self.truth].cpu())[0] == self.ignore
        for key in self.key_iterator(found):
            mask = np.asarray(found[key].detach().cpu().as_subclass(torch.Tensor))[0]
            parts = [mask > 0] if self.values is None else [np.isin(mask, list(values)) for values in self.values]
            inside = np.stack(parts)
            if left_out is not None:
                inside &= ~left_out
            made = MetaTensor(torch.from_numpy(inside.astype(np.float32)))
            if isinstance(found[key], MetaTensor):
                made.copy_meta_from(found[key])
            found[key] = made
        return found
