"""UNETR, built by MONAI."""

from collections.abc import Iterator, Sequence

from torch import nn

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import WrappedNetwork
from deconvseg.models.parts import MONAI_NORMS, use_upsampling
from deconvseg.models.per_stage import check_ends
from deconvseg.models.registry import register_model
from deconvseg.nn.dimensions import check_channels, per_axis
from deconvseg.nn.norm import use_own_norms
from deconvseg.nn.upsampling import MOVED_OF_DTC, Upsampling, accept_moved

_PATCH = 16
# Vision transformers by their usual names: channels of the decoder, hidden channels, attention heads.
_TRANSFORMERS = {"tiny": (8, 192, 3), "small": (16, 384, 6), "base": (32, 768, 12)}
_DECODER = ("decoder5", "decoder4", "decoder3", "decoder2")


@register_model("unetr")
class UNETR(WrappedNetwork):
    """Vision transformer with a convolutional decoder (UNETR, Hatamizadeh et al., WACV 2022), MONAI's ``UNETR``.

    The position embedding has a fixed size, so the network supports only one image size. Cross-attention weights, which
    MONAI creates but never uses, are removed.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        image_size: the spatial size, one number or one per axis, multiples of 16.
        spatial_dims: 2 or 3.
        feature_size: channels at the full resolution (32 in the Deconver paper, 16 in the UNETR paper).
        hidden_size: channels of the transformer, a multiple of ``num_heads``.
        mlp_dim: hidden channels of the MLPs.
        num_heads: number of attention heads.
        norm: name of the normalisation in the convolutional blocks.
        upsampling: upsampling of the four decoder blocks: ``"transposed"`` (as in the paper) or another kind, by name
            or with options (:func:`~deconvseg.nn.create_upsampling`). The layers that upsample the transformer's
            features for the skip connections are not changed.

    Shapes: input (B, in_channels, \\*image_size); output (B, out_channels, \\*image_size).

    Example:
        >>> import torch
        >>> from deconvseg.models import UNETR
        >>> network = UNETR(1, 2, 32, spatial_dims=2, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=3)
        >>> network(torch.rand(1, 1, 32, 32)).shape
        torch.Size([1, 2, 32, 32])

    """

    @accept_moved(MOVED_OF_DTC)
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        image_size: int | Sequence[int],
        spatial_dims: int = 3,
        feature_size: int = 32,
        hidden_size: int = 768,
        mlp_dim: int = 3072,
        num_heads: int = 12,
        norm: str = "instance",
        upsampling: Upsampling = "transposed",
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        check_channels(feature_size=feature_size, hidden_size=hidden_size, mlp_dim=mlp_dim, num_heads=num_heads)
        check_choice(norm, MONAI_NORMS, "norm")
        size = per_axis(image_size, spatial_dims, "image_size")
        if any(length % _PATCH for length in size):
            raise InputError(f"image_size={image_size!r}: give multiples of {_PATCH}")
        if hidden_size % num_heads:
            raise InputError(f"hidden_size={hidden_size!r}: give a multiple of num_heads={num_heads}")
        super().__init__(
            config,
            size_multiple=[_PATCH] * spatial_dims,
            fixed_size=size,
        )
        from monai.networks import nets

        self.body = nets.UNETR(
            in_channels,
            out_channels,
            size,
            feature_size=feature_size,
            hidden_size=hidden_size,
            mlp_dim=mlp_dim,
            num_heads=num_heads,
            norm_name=MONAI_NORMS[norm],
            spatial_dims=spatial_dims,
        )
        _drop_cross_attention(self.body)
        use_upsampling(self.body, _DECODER, upsampling)
        use_own_norms(self.body)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Yield vision transformers for the patch size; a requested width is that of the convolutions."""
        for name, (usual, hidden, heads) in _TRANSFORMERS.items():
            (features,) = grid.widths((usual,))
            sizes = {"hidden_size": hidden, "mlp_dim": 4 * hidden, "num_heads": heads}
            label = f"{name} transformer" if grid.width is None else f"{name} transformer, width {features}"
            yield label, {"image_size": list(patch), "feature_size": features, **sizes}


def _drop_cross_attention(body: nn.Module) -> None:
    """Remove the cross-attention layers, which are never used; which ones exist depends on MONAI's version."""
    for name, _ in list(body.named_modules()):
        if name.endswith((".cross_attn", ".norm_cross_attn")):
            body.set_submodule(name, nn.Identity())
