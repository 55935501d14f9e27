"""Augmentations as tensor operations; strengths are per sample, or per sample and channel."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

_LINEAR = {2: "bilinear", 3: "trilinear"}
# Gaussians are truncated at this many standard deviations.
_GAUSSIAN_WIDTH = 3.0


def resample(
    image: Tensor,
    labels: Tensor,
    matrix: Sequence[Sequence[float]],
    centre: Sequence[float],
    size: Sequence[int],
    padding: str = "zeros",
) -> tuple[Tensor, Tensor]:
    """Resample a patch (C, *size) from an image (C, *R), linearly, and from its labels (*R), by nearest neighbour.

    Voxel ``i`` of the patch is sampled at ``centre + matrix @ (i - (size - 1) / 2)``. ``padding`` gives the values
    outside R: ``"zeros"``, ``"border"`` or ``"reflection"``.
    """
    grid = _grid(matrix, centre, size, labels.shape, image.device)
    # align_corners=True has no scale along an axis of one voxel.
    pixels = F.grid_sample(image[None], grid, mode="bilinear", padding_mode=padding, align_corners=False)
    ids = F.grid_sample(labels[None, None].float(), grid, mode="nearest", padding_mode=padding, align_corners=False)
    return pixels[0], ids[0, 0].to(labels.dtype)


def _grid(
    matrix: Sequence[Sequence[float]],
    centre: Sequence[float],
    size: Sequence[int],
    shape: Sequence[int],
    device: torch.device,
) -> Tensor:
    """Return the sampling positions in the coordinates of ``grid_sample`` (last axis first, -1 to 1)."""
    dims = len(size)
    steps = [torch.arange(n, dtype=torch.float32, device=device) - (n - 1) / 2 for n in size]
    grid = torch.empty(1, *size, dims, device=device)
    for axis, (row, middle, n) in enumerate(zip(matrix, centre, shape, strict=True)):
        position = torch.full((1,) * dims, (2 * middle + 1) / n - 1, device=device)
        for other, step in enumerate(steps):
            position = position + (step * (2 * row[other] / n)).view([-1 if d == other else 1 for d in range(dims)])
        grid[0, ..., dims - 1 - axis] = position
    return grid


def add_noise(image: Tensor, std: Tensor, seeds: Sequence[int]) -> Tensor:
    """Add Gaussian noise with standard deviation ``std`` (B,), drawn on the image's device from each sample's seed."""
    noise = torch.stack(
        [
            torch.randn(sample.shape, generator=torch.Generator(image.device).manual_seed(seed), device=image.device)
            for sample, seed in zip(image, seeds, strict=True)
        ]
    )
    return torch.addcmul(image, noise, _like(std, image))


def blur(image: Tensor, sigmas: Sequence[Sequence[float]]) -> Tensor:
    """Smooth with a Gaussian whose standard deviation is given per sample and axis, in voxels.

    The image is extended by its border voxels (replicate padding).
    """
    for axis, sigma in enumerate(zip(*sigmas, strict=True), start=2):
        radius = min(max(_radius(value) for value in sigma), image.shape[axis] - 1)
        if radius == 0:
            continue
        weights = torch.tensor([_gaussian(value, radius) for value in sigma], device=image.device)
        n = image.shape[axis]
        edges = [image.narrow(axis, place, 1).expand(_widened(image, axis, radius)) for place in (0, n - 1)]
        padded = torch.cat([edges[0], image, edges[1]], axis)
        image = torch.zeros_like(image)
        # A few shifted sums are faster than a convolution of one channel with one filter.
        for shift, weight in enumerate(weights.unbind(1)):
            image.addcmul_(padded.narrow(axis, shift, n), _like(weight, image))
    return image


def _radius(sigma: float) -> int:
    return math.ceil(_GAUSSIAN_WIDTH * sigma)


def _gaussian(sigma: float, radius: int) -> list[float]:
    """Return weights from -radius to radius; each sigma has its own truncation, independent of the batch's radius."""
    offsets = range(-radius, radius + 1)
    values = [math.exp(-0.5 * (x / sigma) ** 2) if abs(x) <= _radius(sigma) else 0.0 for x in offsets]
    total = math.fsum(values)
    return [value / total for value in values]


def _widened(image: Tensor, axis: int, length: int) -> list[int]:
    return [length if d == axis else n for d, n in enumerate(image.shape)]


def scale_and_shift(image: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``image * scale + shift``, (B,) each: brightness."""
    return torch.addcmul(_like(shift, image), image, _like(scale, image))


def change_contrast(image: Tensor, factor: Tensor) -> Tensor:
    """Stretch each channel about its mean by a factor (B, C), clipped to its original range."""
    axes = tuple(range(2, image.ndim))
    mean = image.mean(axes, keepdim=True)
    stretched = torch.addcmul(mean, image - mean, _like(factor, image))
    return stretched.clamp(image.amin(axes, keepdim=True), image.amax(axes, keepdim=True))


def change_gamma(image: Tensor, exponent: Tensor, *, inverted: bool = False) -> Tensor:
    """Scale each channel to 0 … 1, raise it to a power (B, C), and restore its mean and standard deviation.

    With ``inverted`` the power is applied to the negative image, so it acts on bright instead of dark parts.
    """
    axes = tuple(range(2, image.ndim))
    if inverted:
        image = -image
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    mean, spread = _mean_and_spread(image)
    powered = ((image - low) / (high - low).clamp_min(1e-7)).pow_(_like(exponent, image))
    new_mean, new_spread = _mean_and_spread(powered)
    # A constant channel does not change.
    powered = (powered - new_mean).mul_(spread / new_spread.clamp_min(1e-7)).add_(mean)
    return -powered if inverted else powered


def lower_resolution(image: Tensor, zoom: Sequence[Sequence[float]]) -> Tensor:
    """Resample each image to ``zoom`` (per sample and axis, at most 1) times as many voxels, and linearly back."""
    size = image.shape[2:]
    lowered = []
    for sample, factors in zip(image, zoom, strict=True):
        coarse = [max(1, round(n * factor)) for n, factor in zip(size, factors, strict=True)]
        small = F.interpolate(sample[None], size=coarse, mode="nearest-exact")
        lowered.append(F.interpolate(small, size=list(size), mode=_LINEAR[len(size)], align_corners=False))
    return torch.cat(lowered)


def _mean_and_spread(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and the root of its sum of squared deviations; much faster than ``torch.std_mean``."""
    axes = tuple(range(2, image.ndim))
    mean = image.mean(axes, keepdim=True)
    return mean, torch.linalg.vector_norm(image - mean, dim=axes, keepdim=True)


def _like(strength: Tensor, image: Tensor) -> Tensor:
    return strength.view(*strength.shape, *[1] * (image.ndim - strength.ndim))
