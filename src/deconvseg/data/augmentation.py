"""Random changes of a patch, on MONAI's transforms, each a function of the generator that is handed in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Where voxels are longer than this many times their width, turning them out of the plane shears the anatomy.
_ANISOTROPIC = 3.0


class MonaiAugment:
    """Affine, flips, noise, smoothing, intensity scale and shift (Deconver, section IV-A3).

    Called with pixels (C, *S), class ids (*S) and a generator; returns the changed pair as tensors. The probabilities
    and ranges are keyword arguments, named as in the plan's recipe (angles in radians); ``spacing`` is in mm.
    """

    def __init__(
        self,
        spacing: Sequence[float],
        *,
        affine: float,
        rotation: float,
        scaling: float,
        flip: float,
        noise: float,
        noise_std: float,
        smoothing: float,
        smoothing_sigma: tuple[float, float],
        intensity_scale: float,
        intensity_scale_range: float,
        intensity_shift: float,
        intensity_shift_range: float,
    ) -> None:
        from monai import transforms

        spatial_dims = len(spacing)
        both, sigma = ("image", "labels"), smoothing_sigma
        self._compose: Any = transforms.Compose(
            [
                transforms.RandAffined(
                    both,
                    prob=affine,
                    rotate_range=_rotations(spacing, rotation),
                    scale_range=(scaling,) * spatial_dims,
                    mode=("bilinear", "nearest"),
                    padding_mode="border",
                ),
                *(transforms.RandFlipd(both, prob=flip, spatial_axis=axis) for axis in range(spatial_dims)),
                transforms.RandGaussianNoised("image", prob=noise, std=noise_std),
                transforms.RandGaussianSmoothd("image", prob=smoothing, sigma_x=sigma, sigma_y=sigma, sigma_z=sigma),
                transforms.RandScaleIntensityd("image", prob=intensity_scale, factors=intensity_scale_range),
                transforms.RandShiftIntensityd("image", prob=intensity_shift, offsets=intensity_shift_range),
            ]
        )

    def __call__(
        self, image: NDArray[np.float32], labels: NDArray[np.integer], rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the changed patch."""
        from monai.data.meta_tensor import MetaTensor

        self._compose.set_random_state(seed=int(rng.integers(2**32)))
        # Metadata are of no use for a patch and cost more than the changes themselves.
        item = self._compose(
            {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels[None].astype(np.float32))}
        )
        plain = [
            value.as_tensor() if isinstance(value, MetaTensor) else value for value in (item["image"], item["labels"])
        ]
        return plain[0].contiguous(), plain[1][0].contiguous()


def _rotations(spacing: Sequence[float], angle: float) -> tuple[float, ...]:
    """Return the largest angle about each axis: all the same, but only in the plane where voxels are anisotropic."""
    if len(spacing) == 2:
        return (angle,)
    longest = int(np.argmax(spacing))
    in_plane = spacing[longest] > _ANISOTROPIC * min(spacing)
    return tuple(angle if axis == longest or not in_plane else 0.0 for axis in range(3))
