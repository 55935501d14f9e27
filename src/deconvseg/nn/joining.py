"""Where a decoder joins what comes from below with what the encoder kept."""

import torch
from torch import Tensor, nn

from deconvseg.nn.conv import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d
from deconvseg.nn.fusion import is_pointwise, is_watched, why_special
from deconvseg.ops import conv as convolutions

_UPSAMPLING = (ConvTranspose2d, ConvTranspose3d)
_FUSION = (Conv2d, Conv3d)


def join(skip: Tensor, x: Tensor, upsampling: nn.Module, fusion: nn.Module) -> Tensor:
    """Compute ``fusion(cat([skip, upsampling(x)]))``.

    On a CPU a transposed convolution and a pointwise one are computed as one, without the images between, where the
    native convolutions take them and nobody could tell the difference.
    """
    one = None if torch.compiler.is_compiling() else _as_one_map(x, upsampling, fusion)
    if one is not None:
        return convolutions.join(skip, x, *one)
    out: Tensor = fusion(torch.cat([skip, upsampling(x)], dim=1))
    return out


def _as_one_map(x: Tensor, upsampling: nn.Module, fusion: nn.Module) -> tuple[Tensor, Tensor | None, Tensor] | None:
    """Return the weights and bias of the first and the weights of the second, or None where they must be called."""
    if is_watched() or why_special(upsampling, _UPSAMPLING) or why_special(fusion, _FUSION):
        return None
    assert isinstance(upsampling, _UPSAMPLING)
    assert isinstance(fusion, _FUSION)
    if not is_pointwise(fusion) or fusion.bias is not None or fusion.is_special():
        return None
    native = upsampling.choose(x).backend == "native"
    return (upsampling.weight, upsampling.bias, fusion.weight) if native else None
