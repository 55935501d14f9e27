"""nnU-Net's network, built by MONAI's DynUNet, with the widths of the Deconver paper."""

import math
from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size, fit_stages
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.parts import MONAI_NORMS, use_upsampling
from deconvseg.models.per_stage import PerStage, check_sizes, kernels_per_stage, strides_per_stage
from deconvseg.models.registry import register_model
from deconvseg.nn.joining import decode
from deconvseg.nn.norm import use_own_norms
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved

_FEWEST_STAGES = 3


@register_model("nnunet")
class NNUNet(WrappedNetwork):
    """nnU-Net's plain U-Net (Isensee et al., Nature Methods 2021) for 2D and 3D images, MONAI's ``DynUNet``.

    The state dict has DynUNet's names, without the aliases that DynUNet registers under ``skip_layers``.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        widths: channels of each stage, from the full resolution down; at least three stages.
        strides: strides of the stages: one number, one per stage (the first must be 1), one per axis, or per stage a
            sequence with one number per axis; ``None`` means 2 after the first stage.
        kernel_size: odd size of the convolutions: one number, one per axis, one per stage, or per stage a sequence with
            one number per axis.
        norm: ``"instance"`` (without parameters, as in the Deconver paper), ``"instance_affine"`` (as in nnU-Net) or
            ``"batch"``.
        residual: whether the encoder's blocks have residual connections.
        upsampling: ``"transposed"`` (as in nnU-Net) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).
        deep_supervision_heads: number of extra heads at successively lower resolutions; used while ``deep_supervision``
            is on.

    Shapes: input (B, in_channels, \\*S) with every size a multiple of ``size_multiple``; output (B, out_channels, \\*S)
    or, while ``deep_supervision`` is on, a list of ``deep_supervision_heads + 1`` such logits, from the highest
    resolution down, one per stage.

    Example:
        >>> import torch
        >>> from deconvseg.models import NNUNet
        >>> NNUNet(1, 2, spatial_dims=2, widths=(4, 8, 16))(torch.rand(1, 1, 8, 8)).shape
        torch.Size([1, 2, 8, 8])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        strides: PerStage | None = None,
        kernel_size: PerStage = 3,
        norm: str = "instance",
        residual: bool = False,
        upsampling: Upsampling = "transposed",
        deep_supervision_heads: int = 0,
    ) -> None:
        config = dict(locals())
        check_sizes(in_channels, out_channels, spatial_dims, widths, deep_supervision_heads)
        check_choice(norm, MONAI_NORMS, "norm")
        if len(widths) < _FEWEST_STAGES:
            raise InputError(f"widths={widths!r}: nnunet needs {_FEWEST_STAGES} stages or more")
        steps = strides_per_stage(2 if strides is None else strides, spatial_dims, len(widths))
        kernels = kernels_per_stage(kernel_size, spatial_dims, len(widths))
        _check_reach(kernels, steps)
        super().__init__(
            config,
            size_multiple=[math.prod(axis) for axis in zip(*steps, strict=True)],
        )
        from monai.networks.nets import DynUNet

        built = DynUNet(
            spatial_dims,
            in_channels,
            out_channels,
            kernels,
            steps,
            steps[1:],
            filters=widths,
            norm_name=MONAI_NORMS[norm],
            res_block=residual,
        )
        self.input_block: nn.Module = built.input_block
        self.downsamples: nn.ModuleList = built.downsamples
        self.bottleneck: nn.Module = built.bottleneck
        self.upsamples: nn.ModuleList = built.upsamples
        self.output_block: nn.Module = built.output_block
        self.extra_heads = self.create_extra_heads(widths[1:])
        use_upsampling(self, [f"upsamples.{index}" for index in range(len(self.upsamples))], upsampling)
        use_own_norms(self)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield sizes with the stages of the grid, at least three."""
        return fit_stages(cls, grid, patch, fewest=_FEWEST_STAGES)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S), or a list while ``deep_supervision`` is on."""
        self.check_input(x)
        features = [self.input_block(x)]
        for block in (*self.downsamples, self.bottleneck):
            features.append(block(features[-1]))
        return self.apply_heads(self.output_block, decode(self.upsamples, features))


def _check_reach(kernels: Sequence[Sequence[int]], steps: Sequence[Sequence[int]]) -> None:
    for kernel, step in zip(kernels, steps, strict=True):
        if any(stride > size + 1 for size, stride in zip(kernel, step, strict=True)):
            raise InputError(
                f"strides: {step} skips voxels that kernel_size {kernel} does not reach: give smaller ones"
            )
