"""Swin UNETR and SwinUNETR-V2, built by MONAI."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.parts import MONAI_NORMS, use_upsampling
from deconvseg.models.per_stage import check_ends, depths_per_stage
from deconvseg.models.registry import register_model
from deconvseg.nn.dimensions import per_axis
from deconvseg.nn.norm import use_own_norms
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved

_STAGES = 4
_MULTIPLE = 32
_FEATURES = 12
_DECODER = ("decoder5", "decoder4", "decoder3", "decoder2", "decoder1")


@register_model("swin_unetr")
class SwinUNETR(WrappedNetwork):
    """Shifted-window transformer with a convolutional decoder (Swin UNETR), MONAI's ``SwinUNETR``.

    Source: Hatamizadeh et al., BrainLes 2021.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        feature_size: channels at the full resolution, a multiple of 12.
        depths: transformer blocks per stage, for four stages.
        num_heads: attention heads per stage, divisors of its channels (``feature_size`` times 1, 2, 4 and 8).
        window_size: window size, one number or one per axis.
        norm: name of the normalisation in the convolutional blocks.
        upsampling: upsampling of the five decoder blocks: ``"transposed"`` (as in the paper) or another kind, by name
            or with options (:func:`~deconvseg.nn.create_upsampling`).

    Shapes: input (B, in_channels, \\*S) with every size a multiple of 32; output (B, out_channels, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import SwinUNETR
        >>> SwinUNETR(1, 2, spatial_dims=2, feature_size=12)(torch.rand(1, 1, 64, 64)).shape
        torch.Size([1, 2, 64, 64])

    """

    residual_convs: ClassVar[bool] = False

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        feature_size: int = 48,
        depths: Sequence[int] = (2, 2, 2, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int | Sequence[int] = 7,
        norm: str = "instance",
        upsampling: Upsampling = "transposed",
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        check_choice(norm, MONAI_NORMS, "norm")
        if feature_size < 1 or feature_size % _FEATURES:
            raise InputError(f"feature_size={feature_size!r}: give a multiple of {_FEATURES}")
        heads = depths_per_stage(num_heads, _STAGES, "num_heads")
        channels = [feature_size * 2**stage for stage in range(_STAGES)]
        if any(count % head for count, head in zip(channels, heads, strict=True)):
            raise InputError(f"num_heads={num_heads!r}: give divisors of the stages' channels {channels}")
        super().__init__(
            config,
            size_multiple=[_MULTIPLE] * spatial_dims,
        )
        from monai.networks import nets

        with _RatesOnCPU():
            self.body = nets.SwinUNETR(
                in_channels,
                out_channels,
                depths=depths_per_stage(depths, _STAGES, "depths"),
                num_heads=heads,
                feature_size=feature_size,
                window_size=per_axis(window_size, spatial_dims, "window_size"),
                norm_name=MONAI_NORMS[norm],
                spatial_dims=spatial_dims,
                use_v2=self.residual_convs,
            )
        use_upsampling(self.body, _DECODER, upsampling)
        use_own_norms(self.body)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield the widths of the network."""
        # Multiples of 12, which the attention heads need; 48 is the paper's width.
        for features in grid.widths((12, 24, 36, 48)):
            yield f"width {features}", {"feature_size": features}

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Return the logits of an image (B, in_channels, \\*S)."""
        self.check_input(x)
        if x.shape[0] == 0:
            raise InputError(f"{type(self).__name__} got an image of shape {tuple(x.shape)}: give one sample or more")
        return super().forward(x)


@register_model("swin_unetr_v2")
class SwinUNETRV2(SwinUNETR):
    """Swin UNETR with residual convolutions before each stage of attention (He et al., MICCAI 2023).

    Example:
        >>> import torch
        >>> from deconvseg.models import SwinUNETRV2
        >>> SwinUNETRV2(1, 2, spatial_dims=2, feature_size=12)(torch.rand(1, 1, 64, 64)).shape
        torch.Size([1, 2, 64, 64])

    """

    residual_convs = True


class _RatesOnCPU(TorchFunctionMode):
    """Create ``torch.linspace`` tensors on the CPU, because MONAI reads their values even on the meta device."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.linspace:
            given["device"] = "cpu"
        return func(*args, **given)
