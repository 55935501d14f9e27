"""Upsampling at learned positions (DTC, arXiv 2601.17939, section 3.1)."""

from collections.abc import Sequence

from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.ops.backends import Choice, as_stored, choose, chosen
from deconvseg.ops.cost import counted
from deconvseg.ops.deformable_upsample import cost, library
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import without_autocast
from deconvseg.ops.shapes import finer_size

__all__ = ["choose_upsample", "deformable_upsample"]


@overridable
@counted(cost.upsample)
def deformable_upsample(
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    *,
    scale: int | Sequence[int],
    receptive_field: float,
    base: Tensor | None = None,
) -> Tensor:
    """Sample features on a finer grid whose points are shifted by weighted offsets (DTC, Eq. 1 and 2).

    ``features`` is (B, C, \\*S) with two or three spatial axes; ``offsets`` and ``weights`` are
    (B, axes, \\*(S * scale)), in ``grid_sample``'s channel order: the last array axis first. ``weights=None`` means
    weights of 1; neither offsets nor weights are bounded. ``scale`` is one integer or one per axis, in array order. On
    an axis of ``size`` input pixels λ = receptive_field / (2 * size), or 1 if ``receptive_field`` is infinite.
    Interpolation is linear with ``align_corners=False`` and border padding, so that zero offsets give ordinary linear
    upsampling. ``base``, another upsampling's result (B, C, \\*(S * scale)), is added in the same pass. Returns (B, C,
    \\*(S * scale)) in the type of ``features``; half types and autocast regions compute in float32.

    A kernel computes the result if one accepts the tensors, otherwise plain PyTorch does
    (:func:`~deconvseg.ops.explain` shows the choice, :func:`~deconvseg.ops.use_backend` forces one). Second derivatives
    always use plain PyTorch. Raises :class:`~deconvseg.errors.InputError` if the shapes do not fit, or if a forced
    backend cannot compute.

    Example:
        >>> import torch
        >>> from torch.nn.functional import interpolate
        >>> from deconvseg.ops import deformable_upsample
        >>> features, offsets = torch.rand(1, 4, 8, 8), torch.zeros(1, 2, 16, 16)
        >>> upsampled = deformable_upsample(features, offsets, None, scale=2, receptive_field=2.0)
        >>> torch.allclose(upsampled, interpolate(features, scale_factor=2, mode="bilinear"), atol=1e-6)
        True

    """
    factors = _check(features, offsets, weights, scale, receptive_field)
    if base is not None and tuple(base.shape) != (*features.shape[:2], *offsets.shape[2:]):
        expected = (*features.shape[:2], *offsets.shape[2:])
        raise InputError(f"base of shape {tuple(base.shape)} does not fit the result: give {expected}")
    with without_autocast(features.device.type):
        tensors = _as_stored(features, offsets, weights)
        arguments = *tensors, factors, float(receptive_field), base
        backend = chosen(library.UPSAMPLE, *tensors)
        by_reference = backend == "reference"
        upsampled = library.by_reference(*arguments) if by_reference else library.upsample(*arguments, backend)
        return upsampled.to(features.dtype)


def choose_upsample(
    features: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    *,
    scale: int | Sequence[int],
    receptive_field: float,
) -> Choice:
    """Return the backend of :func:`deformable_upsample` for these arguments, without computing; same errors."""
    _check(features, offsets, weights, scale, receptive_field)
    return choose(library.UPSAMPLE, *_as_stored(features, offsets, weights))


def _as_stored(features: Tensor, offsets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    if weights is None:
        features, offsets = as_stored(features, offsets)
    else:
        features, offsets, weights = as_stored(features, offsets, weights)
    return features, offsets, weights


def _check(
    features: Tensor, offsets: Tensor, weights: Tensor | None, scale: int | Sequence[int], receptive_field: float
) -> tuple[int, ...]:
    """Return the scale of each axis; :class:`InputError` for arguments that do not fit."""
    axes = features.ndim - 2
    if axes not in (2, 3):
        raise InputError(f"features of shape {tuple(features.shape)}: give (B, C, *S) with 2 or 3 spatial axes")
    factors = (scale,) * axes if isinstance(scale, int) else tuple(scale)
    if len(factors) != axes or any(not isinstance(factor, int) or factor < 1 for factor in factors):
        raise InputError(f"scale={scale!r}: give a positive integer, or {axes} of them, one per axis")
    if not receptive_field >= 0:
        raise InputError(f"receptive_field={receptive_field}: give 0 or more, or infinity")
    scaled = finer_size(features.shape[2:], factors)
    expected = (features.shape[0], axes, *scaled)
    for name, tensor in (("offsets", offsets), ("weights", weights)):
        if tensor is not None and tuple(tensor.shape) != expected:
            raise InputError(
                f"{name} of shape {tuple(tensor.shape)} do not fit features of shape {tuple(features.shape)} with "
                f"scale={scale}: give {expected}"
            )
    return factors
