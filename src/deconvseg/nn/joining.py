"""Joins of decoder features with skip connections."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from deconvseg.nn.conv import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d
from deconvseg.nn.fusion import is_pointwise, is_replaceable, is_watched
from deconvseg.nn.upsampling import SummedUpsampling, needs_skip, upsample
from deconvseg.ops import conv as convolutions
from deconvseg.ops.overriding import is_symbolic

_UPSAMPLING = (ConvTranspose2d, ConvTranspose3d)
_FUSION = (Conv2d, Conv3d)


def decode(stages: Iterable[Callable[[Tensor, Tensor], Tensor]], features: list[Tensor]) -> list[Tensor]:
    """Apply the stages of a decoder; each maps the features of the lower resolution and its skip connection.

    ``features`` are those of the encoder, highest resolution first, one more than stages. The decoder's features
    replace them in the list, except the last one, to free memory. Returns the list.
    """
    for index, stage in zip(reversed(range(len(features) - 1)), stages, strict=True):
        features[index] = stage(features[index + 1], features[index])
    return features


def join(skip: Tensor, x: Tensor, upsampling: nn.Module, fusion: nn.Module) -> Tensor:
    """Return ``fusion(cat([skip, upsampling(x)]))``; an upsampling that needs the skip connection receives it too.

    On a CPU a transposed convolution and a pointwise convolution are computed as one linear map without intermediate
    images, if the native kernels support them and the result is the same.
    """
    base, added = _parts(upsampling)
    one = None if is_symbolic(x) else _as_one_map(x, base, fusion)
    if one is not None:
        joined = convolutions.join(skip, x, *one)
        if added is None:
            return joined
        ones = [1] * (x.ndim - 2)
        of_added = one[2][:, skip.shape[1] :]
        return joined + convolutions.conv(added(x), of_added, None, stride=ones, padding=[0] * (x.ndim - 2))
    out: Tensor = fusion(torch.cat([skip, upsample(upsampling, x, skip)], dim=1))
    return out


def _parts(upsampling: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Return the base and added layer of a sum, which the fusion maps separately, or the layer and None."""
    if not is_replaceable(upsampling, (SummedUpsampling,)) or needs_skip(upsampling):
        return upsampling, None
    assert isinstance(upsampling, SummedUpsampling)
    return upsampling.base, upsampling.added


def _as_one_map(x: Tensor, upsampling: nn.Module, fusion: nn.Module) -> tuple[Tensor, Tensor | None, Tensor] | None:
    """Return the upsampling's weights and bias and the fusion's weights, or None if the layers must be called."""
    if is_watched() or not is_replaceable(upsampling, _UPSAMPLING) or not is_replaceable(fusion, _FUSION):
        return None
    assert isinstance(upsampling, _UPSAMPLING)
    assert isinstance(fusion, _FUSION)
    if not is_pointwise(fusion) or fusion.bias is not None or fusion.is_special():
        return None
    return (upsampling.weight, upsampling.bias, fusion.weight) if upsampling.has_kernel(x) else None
