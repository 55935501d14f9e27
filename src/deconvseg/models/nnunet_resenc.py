"""nnU-Net's residual encoder network, built by dynamic-network-architectures."""

import itertools
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, MissingPackageError, check_choice
from deconvseg.models.fitting import Grid, Size, fit_stages
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.parts import other_upsampling
from deconvseg.models.per_stage import PerStage, check_sizes, depths_per_stage, kernels_per_stage, strides_per_stage
from deconvseg.models.registry import register_model
from deconvseg.nn.joining import decode
from deconvseg.nn.norm import create_norm
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved, choose_upsampling, upsample
from deconvseg.ops.torch_internals import children_of

_STAGES = 6
_FEWEST_STAGES = 2
_MOST_CHANNELS = {2: 512, 3: 320}
# Blocks of nnU-Net's residual encoder in the first stages; every later stage has the last number.
_DEPTHS = (1, 3, 4, 6)
_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
# Normalisations with a scale, which the package initialises to zero before a residual connection.
_NORMS = ("instance_affine", "batch")


@register_model("nnunet_resenc")
class ResEncUNet(WrappedNetwork):
    """nnU-Net's U-Net with a residual encoder (Isensee et al., MICCAI 2024).

    It is the ``ResidualEncoderUNet`` of the package ``dynamic-network-architectures``, with one convolution per decoder
    stage. Each tensor has one name in the state dict, while that package registers several.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of each stage, from the full resolution down; at least two stages. ``None`` means nnU-Net's six
            stages, doubling from 32 to at most 512 in 2D and 320 in 3D.
        depths: residual blocks per encoder stage; ``None`` means 1, 3, 4 and then 6 for each further stage.
        strides: strides of the stages: one number, one per stage (the first must be 1), one per axis, or per stage a
            sequence with one number per axis; ``None`` means 2 after the first stage.
        kernel_size: odd size of the convolutions: one number, one per axis, one per stage, or per stage a sequence with
            one number per axis.
        norm: ``"instance_affine"`` or ``"batch"``.
        upsampling: ``"transposed"`` (as in nnU-Net) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).
        deep_supervision_heads: number of extra heads at successively lower resolutions; used while ``deep_supervision``
            is on.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple``; output (B, out_channels, \\*S)
    or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such logits, from the highest
    resolution down, one per stage.

    Example:
        >>> import torch
        >>> from deconvseg.models import ResEncUNet
        >>> ResEncUNet(1, 2, spatial_dims=2, widths=(4, 8))(torch.rand(1, 1, 8, 8)).shape  # doctest: +SKIP
        torch.Size([1, 2, 8, 8])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        widths: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        strides: PerStage | None = None,
        kernel_size: PerStage = 3,
        norm: str = "instance_affine",
        upsampling: Upsampling = "transposed",
        deep_supervision_heads: int = 0,
    ) -> None:
        if widths is None:
            widths = [min(32 * 2**stage, _MOST_CHANNELS.get(spatial_dims, 320)) for stage in range(_STAGES)]
        if depths is None:
            depths = [_DEPTHS[min(stage, len(_DEPTHS) - 1)] for stage in range(len(widths))]
        config = dict(locals())
        check_sizes(in_channels, out_channels, spatial_dims, widths, deep_supervision_heads)
        check_choice(norm, _NORMS, "norm")
        stages = len(widths)
        if stages < _FEWEST_STAGES:
            raise InputError(f"widths={widths!r}: nnunet_resenc needs two stages or more")
        steps = strides_per_stage(2 if strides is None else strides, spatial_dims, stages)
        super().__init__(
            config,
            size_multiple=[math.prod(axis) for axis in zip(*steps, strict=True)],
        )
        architectures = import_architectures()
        built = architectures.ResidualEncoderUNet(
            in_channels,
            stages,
            list(widths),
            _CONV[spatial_dims],
            kernels_per_stage(kernel_size, spatial_dims, stages),
            steps,
            list(depths_per_stage(depths, stages, "depths")),
            out_channels,
            n_conv_per_stage_decoder=1,
            conv_bias=True,
            norm_op=partial(create_norm, norm, spatial_dims=spatial_dims),
            nonlin=nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
        )
        built.apply(built.initialize)
        drop_aliases(built)
        self.encoder: nn.Module = built.encoder
        transposed = built.decoder.transpconvs
        ups = choose_upsampling(upsampling).per_stage(len(transposed))
        self.upsampling = nn.ModuleList(itertools.starmap(other_upsampling, zip(transposed, ups, strict=True)))
        self.decoder: nn.ModuleList = built.decoder.stages
        self.head, *extra_heads = reversed(built.decoder.seg_layers)
        bottom = _CONV[spatial_dims](widths[-1], out_channels, kernel_size=1)
        self.extra_heads = nn.ModuleList([*extra_heads, bottom][:deep_supervision_heads])

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield sizes with the stages of the grid, at least two."""
        return fit_stages(cls, grid, patch, fewest=_FEWEST_STAGES)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S), or a list while ``deep_supervision`` is on."""
        self.check_input(x)
        stages = [partial(_decoder_stage, up, convs) for up, convs in zip(self.upsampling, self.decoder, strict=True)]
        return self.apply_heads(self.head, decode(stages, list(self.encoder(x))))


def _decoder_stage(upsampling: nn.Module, convs: nn.Module, x: Tensor, skip: Tensor) -> Tensor:
    out: Tensor = convs(torch.cat([upsample(upsampling, x, skip), skip], dim=1))
    return out


def import_architectures() -> Any:
    """Return the module ``dynamic_network_architectures.architectures.unet``, of which nnU-Net builds its networks."""
    try:
        from dynamic_network_architectures.architectures import unet
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"nnU-Net's networks are built by dynamic-network-architectures, but {error.name} is not installed: "
            "pip install 'deconvseg[nnunet]'"
        ) from error
    return unet


def drop_aliases(built: Any) -> None:
    """Remove aliases, so that each layer is registered once: ``all_modules`` repeats ``conv``, ``norm`` and others."""
    del built.decoder.encoder
    for module in list(built.modules()):
        children = children_of(module)
        if "all_modules" in children:
            for name in [name for name in children if name != "all_modules"]:
                delattr(module, name)
