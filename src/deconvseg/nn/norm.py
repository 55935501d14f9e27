"""Normalisation layers, chosen by name."""

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.nn.fusion import why_special
from deconvseg.ops.instance_norm import instance_norm


class InstanceNorm(nn.Module):
    """Normalise each channel of each sample over its positions, without parameters.

    Works on (B, C, \\*S) of any size, a single position included (which becomes 0), and keeps the memory format.
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
        """Start with a scale of one and a shift of zero, where there are any."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, \\*S)."""
        return instance_norm(x, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """Arguments, for ``print``."""
        return f"{self.channels}, eps={self.eps}"


class AffineInstanceNorm(InstanceNorm):
    """Instance normalisation, then a scale and a shift for each channel, as nnU-Net has it."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__(channels, eps)
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()


NORMS = ("instance", "batch", "instance_affine")
_BATCH_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def create_norm(kind: str, channels: int, spatial_dims: int) -> nn.Module:
    """Make the normalisation layer of that name; an unknown name is an error that lists the known ones."""
    check_choice(kind, NORMS, "norm")
    if kind == "batch":
        norm = _BATCH_NORM[spatial_dims](channels)
        norm.register_forward_pre_hook(_refuse_single_values)
        return norm
    return InstanceNorm(channels) if kind == "instance" else AffineInstanceNorm(channels)


def use_own_norms(network: nn.Module) -> None:
    """Put :func:`own_norm` in place of every normalisation in a network that has one; names and weights stay."""
    for parent in network.modules():
        for name, norm in parent.named_children():
            own = own_norm(norm)
            if own is not None:
                setattr(parent, name, own)


def own_norm(norm: nn.Module) -> InstanceNorm | None:
    """Return ours with the very weights of PyTorch's instance normalisation, or of a group normalisation by channel.

    It is faster on a CPU and takes a single position too, but no image without a batch. None for any other layer, and
    for one that only resembles these: a subclass, or one with a parametrisation, a hook or running statistics.
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
    """Say what to change where PyTorch says that there is one value per channel: its deviation from itself is 0."""
    (x,) = inputs
    if norm.training and x.numel() == x.shape[1]:
        raise InputError(
            f"batch normalisation in training has a single value per channel here, of shape {tuple(x.shape)}: give a "
            "larger batch_size or patch_size, or norm='instance' where the network takes that"
        )
