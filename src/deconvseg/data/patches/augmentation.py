"""Random augmentation of training patches: parameters are drawn per sample and applied per batch."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from deconvseg.data.patches import transforms

Probability = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(ge=0)]
_Relative = Annotated[float, Field(ge=0, lt=1)]
Padding = Literal["zeros", "border", "reflection"]
_Positive = Annotated[float, Field(gt=0)]

# If an axis is this many times coarser than the finest, interpolation between its planes invents anatomy. If a patch is
# this many times wider than thick, most of it leaves the sampled region when it is rotated out of its plane.
_ANISOTROPIC = 3.0


class Augmentation(BaseModel):
    """Probabilities and strengths of the augmentations; angles are in radians, other strengths are relative.

    The strength is drawn uniformly: angles and shifts from ±value, factors from 1 ± value or from the range, the
    standard deviation of noise from 0 to the value. ``flip`` mirrors each axis independently, or only ``flip_axes`` if
    they are given. ``padding`` gives the values of turned and scaled patches beyond the volume: ``"zeros"`` (labels:
    background), its ``"border"``, or its ``"reflection"``. ``scaling_range`` replaces 1 ± ``scaling``. With ``apart``
    rotation and scaling are drawn independently of each other, each with probability ``affine``.
    ``smoothing_channels`` and ``low_resolution_channels`` are the probabilities with which each channel of a changed
    sample is changed.

    Example:
        >>> from deconvseg.data import Augmentation
        >>> gentle = Augmentation(rotation=0.1, flip_axes=(0,))
        >>> gentle.rotation, gentle.noise
        (0.1, 0.1)

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    affine: Probability = 0.3
    rotation: _Amount = 0.52
    scaling: _Relative = 0.3
    scaling_per_axis: bool = False
    padding: Padding = "zeros"
    scaling_range: tuple[_Positive, _Positive] | None = None
    apart: bool = False
    flip: Probability = 0.5
    flip_axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] | None = None
    noise: Probability = 0.1
    noise_std: _Amount = 0.3
    smoothing: Probability = 0.1
    smoothing_sigma: tuple[_Positive, _Positive] = (0.5, 1.0)
    smoothing_channels: Probability = 1.0
    intensity_scale: Probability = 0.15
    intensity_scale_range: _Relative = 0.25
    intensity_shift: Probability = 0.0
    intensity_shift_range: _Amount = 0.1
    contrast: Probability = 0.15
    contrast_range: tuple[_Positive, _Positive] = (0.75, 1.25)
    low_resolution: Probability = 0.125
    low_resolution_zoom: tuple[_Positive, Annotated[float, Field(gt=0, le=1)]] = (0.5, 1.0)
    low_resolution_channels: Probability = 1.0
    gamma: Probability = 0.3
    gamma_inverted: Probability = 0.1
    gamma_range: tuple[_Positive, _Positive] = (0.7, 1.5)

    @model_validator(mode="after")
    def _check(self) -> "Augmentation":
        for name in ("scaling_range", "smoothing_sigma", "contrast_range", "low_resolution_zoom", "gamma_range"):
            low, high = getattr(self, name) or (0, 0)
            if low > high:
                raise ValueError(f"{name} goes from {low} to {high}: give the lower end first")
        return self

    def mirrored(self, dims: int) -> tuple[int, ...]:
        """Return the axes along which patches with this number of dimensions are mirrored."""
        if self.flip == 0:
            return ()
        return tuple(axis for axis in range(dims) if self.flip_axes is None or axis in self.flip_axes)


@dataclass(frozen=True)
class Change:
    """The parameters drawn for one sample; None means no change. ``matrix`` maps offsets from the patch centre."""

    matrix: NDArray[np.float64] | None = None
    padding: Padding = "zeros"
    flips: tuple[int, ...] = ()
    noise: float | None = None
    noise_seed: int = 0
    sigmas: tuple[float, ...] | None = None
    smoothed: tuple[bool, ...] | None = None
    brightness: tuple[float, float] | None = None
    contrast: tuple[float, ...] | None = None
    zoom: tuple[float, ...] | None = None
    lowered: tuple[bool, ...] | None = None
    gamma_inverted: tuple[float, ...] | None = None
    gamma: tuple[float, ...] | None = None


class Augment:
    """Draws augmentations for a sample and applies them on the device of the patches.

    The order is: affine map, mirroring, noise, smoothing, brightness, contrast, low resolution, gamma. ``spacing`` is
    in mm, and rotations are rigid in mm. Rotation, scaling and low resolution do not affect an axis that is more than
    three times coarser than the finest, or along which the patch is less than a third of its width.

    Example:
        >>> import numpy as np
        >>> from deconvseg.data import Augment, Augmentation
        >>> augment = Augment(spacing=(1.0, 1.0), patch_size=(32, 32), settings=Augmentation(flip=1.0))
        >>> change = augment.draw(np.random.default_rng(0), channels=1)
        >>> change.flips
        (0, 1)

    """

    def __init__(self, spacing: Sequence[float], patch_size: Sequence[int], settings: Augmentation) -> None:
        self.spacing = np.asarray(spacing, float)
        self.settings = settings
        coarse = self.spacing > _ANISOTROPIC * self.spacing.min()
        thin = _ANISOTROPIC * np.asarray(patch_size) < max(patch_size)
        self.axes = tuple(int(axis) for axis in np.flatnonzero(~(coarse | thin)))

    def draw(self, rng: np.random.Generator, channels: int) -> Change:
        """Draw the changes of one sample with this number of channels."""
        s, dims = self.settings, len(self.spacing)

        def drawn(probability: float) -> bool:
            return bool(rng.random() < probability)

        def uniform(low: float, high: float, count: int) -> tuple[float, ...]:
            return tuple(rng.uniform(low, high, count).tolist())

        def some(probability: float) -> tuple[bool, ...] | None:
            # Nothing is drawn for all channels, so that their other changes do not depend on it.
            return None if probability == 1 else tuple((rng.random(channels) < probability).tolist())

        if s.apart:
            rotated, scaled = drawn(s.affine), drawn(s.affine)
        else:
            rotated = scaled = drawn(s.affine)
        return Change(
            matrix=self._matrix(rng, rotated, scaled) if rotated or scaled else None,
            padding=s.padding,
            flips=tuple(axis for axis in s.mirrored(dims) if drawn(s.flip)),
            noise=rng.uniform(0, s.noise_std) if drawn(s.noise) else None,
            noise_seed=int(rng.integers(2**63)),
            sigmas=uniform(*s.smoothing_sigma, dims) if drawn(s.smoothing) else None,
            smoothed=some(s.smoothing_channels),
            brightness=self._brightness(rng),
            contrast=uniform(*s.contrast_range, channels) if drawn(s.contrast) else None,
            zoom=self._zoom(rng) if drawn(s.low_resolution) else None,
            lowered=some(s.low_resolution_channels),
            gamma_inverted=uniform(*s.gamma_range, channels) if drawn(s.gamma_inverted) else None,
            gamma=uniform(*s.gamma_range, channels) if drawn(s.gamma) else None,
        )

    def _matrix(self, rng: np.random.Generator, rotated: bool, scaled: bool) -> NDArray[np.float64]:
        """Draw a rotation (in mm) and a scaling."""
        s, dims = self.settings, len(self.spacing)
        matrix = np.eye(dims)
        for first, second in itertools.combinations(self.axes, 2):
            angle = rng.uniform(-s.rotation, s.rotation) * rotated
            turn = np.eye(dims)
            turn[first, first] = turn[second, second] = np.cos(angle)
            turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
            matrix = matrix @ turn
        low, high = s.scaling_range or (1 - s.scaling, 1 + s.scaling)
        factors = rng.uniform(low, high, dims) if scaled else np.ones(dims)
        scale = np.ones(dims)
        scale[list(self.axes)] = factors[list(self.axes)] if s.scaling_per_axis else factors[0]
        result: NDArray[np.float64] = (matrix * self.spacing * scale) / self.spacing[:, None]
        return result

    def _brightness(self, rng: np.random.Generator) -> tuple[float, float] | None:
        s = self.settings
        scaled, shifted = rng.random(2) < (s.intensity_scale, s.intensity_shift)
        scale, shift = rng.uniform(-s.intensity_scale_range, s.intensity_scale_range), rng.uniform(-1, 1)
        if not scaled and not shifted:
            return None
        return 1 + scale * bool(scaled), shift * s.intensity_shift_range * bool(shifted)

    def _zoom(self, rng: np.random.Generator) -> tuple[float, ...]:
        zoom = rng.uniform(*self.settings.low_resolution_zoom)
        return tuple(zoom if axis in self.axes else 1.0 for axis in range(len(self.spacing)))


# The intensity changes by the name of their strength in a Change, in the order of application.
_INTENSITIES: dict[str, Callable[[Tensor, Tensor, Sequence[Change]], Tensor]] = {
    "noise": lambda x, std, changes: transforms.add_noise(x, std, [change.noise_seed for change in changes]),
    "sigmas": lambda x, sigmas, _: transforms.blur(x, sigmas.tolist()),
    "brightness": lambda x, pairs, _: transforms.scale_and_shift(x, pairs[:, 0], pairs[:, 1]),
    "contrast": lambda x, factors, _: transforms.change_contrast(x, factors),
    "zoom": lambda x, zooms, _: transforms.lower_resolution(x, zooms.tolist()),
    "gamma_inverted": lambda x, exponents, _: transforms.change_gamma(x, exponents, inverted=True),
    "gamma": lambda x, exponents, _: transforms.change_gamma(x, exponents),
}

# The channels that are changed, by the name of the strength.
_CHANNELS = {"sigmas": "smoothed", "zoom": "lowered"}


def change_intensities(image: Tensor, changes: Sequence[Change]) -> Tensor:
    """Return the images (B, C, *S) after noise, smoothing, brightness, contrast, low resolution and gamma."""
    for name, make in _INTENSITIES.items():
        chosen = [index for index, change in enumerate(changes) if getattr(change, name) is not None]
        if not chosen:
            continue
        drawn = [changes[index] for index in chosen]
        strengths = torch.tensor([getattr(change, name) for change in drawn], dtype=torch.float32, device=image.device)
        if len(chosen) == len(image):
            image = _of_channels(name, drawn, make(image, strengths, drawn), image)
        else:
            part = image[chosen]
            image = image.clone()
            image[chosen] = _of_channels(name, drawn, make(part, strengths, drawn), part)
    return image


def _of_channels(name: str, changes: Sequence[Change], changed: Tensor, image: Tensor) -> Tensor:
    """Return the changed images, in which channels that a change leaves alone are those of the image."""
    chosen = [getattr(change, _CHANNELS[name]) for change in changes] if name in _CHANNELS else []
    if all(channels is None for channels in chosen):
        return changed
    every = (True,) * image.shape[1]
    kept = torch.tensor([every if channels is None else channels for channels in chosen], device=image.device)
    return torch.where(kept.view(*kept.shape, *[1] * (image.ndim - 2)), changed, image)
