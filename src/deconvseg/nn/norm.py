"""Normalisation layers, chosen by name."""

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.nn.fusion import why_special
from deconvseg.ops.instance_norm import instance_norm


class InstanceNorm(nn.Module):
    """Normalise each channel of each sample over its positions, without parameters.

    Supports (B, C, \\*S) of any size, including a single position (which becomes 0), and keeps the memory format.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)

    def reset_parameters(self) -> None:
        """Reset the scale to one and the shift to zero, if present."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, \\*S)."""
        return instance_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """Return the arguments, for ``print``."""
        return f"{self.channels}, eps={self.eps}"


class AffineInstanceNorm(InstanceNorm):
    """Instance normalisation with a learned scale and shift per channel, as in nnU-Net."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()


NORMS = ("instance", "batch", "instance_affine")
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def create_norm(kind: str, channels: int, spatial_dims: int) -> nn.Module:
    """Return the normalisation layer of this name; :class:`InputError` for an unknown name, with the known ones."""
    check_choice(kind, NORMS, "norm")
    if kind == "batch":
        norm = _BATCH_NORM[spatial_dims](channels)
        norm.register_forward_pre_hook(_refuse_single_values)
        return norm
    return InstanceNorm(channels) if kind == "instance" else AffineInstanceNorm(channels)


def use_own_norms(network: nn.Module) -> None:
    """Replace the normalisations of a network by :func:`own_norm` where possible; names and weights are kept."""
    for parent in network.modules():
        for name, norm in parent.named_children():
            own = own_norm(norm)
            if own is not None:
                setattr(parent, name, own)


def own_norm(norm: nn.Module) -> InstanceNorm | None:
    """Return an :class:`InstanceNorm` that shares the weights of PyTorch's instance or per-channel group normalisation.

    It is faster on a CPU and supports a single position, but not an image without a batch axis. Returns None for other
    layers, for subclasses, and for layers with a parametrisation, a hook or running statistics.
    """
    if why_special(norm, _FOREIGN_NORMS) is not None:
        return None
    if isinstance(norm, nn.GroupNorm):
        channels, by_channel = norm.num_channels, norm.num_groups == norm.num_channels
    else:
        assert isinstance(norm, nn.InstanceNorm2d | nn.InstanceNorm3d)
        channels, by_channel = norm.num_features, not norm.track_running_stats
    if not by_channel or (norm.weight is None) != (norm.bias is None):
        return None
    own = (InstanceNorm if norm.weight is None else AffineInstanceNorm)(channels, norm.eps)
    own.weight, own.bias, own.training = norm.weight, norm.bias, norm.training
    return own


_FOREIGN_NORMS = nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm


def _refuse_single_values(norm: nn.Module, inputs: tuple[Tensor]) -> None:
    """Raise :class:`InputError` with a remedy for a single value per channel, which PyTorch rejects in training."""
    (x,) = inputs
    if norm.training and x.numel() == x.shape[1]:
        raise InputError(
            f"batch normalisation in training has a single value per channel here, of shape {tuple(x.shape)}: give a "
            "larger batch_size or patch_size, or norm='instance' where the network takes that"
        )
