"""The Deconv Mixer and the Deconver block (Deconver, arXiv 2504.00302, sections III-D and III-E)."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.nn.conv import Conv2d, Conv3d
from deconvseg.nn.depthwise_source import DepthwiseSource
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.fusion import guard_calls, why_apart
from deconvseg.nn.mlp import pointwise_mlp
from deconvseg.nn.ndc import NDC
from deconvseg.nn.norm import InstanceNorm, create_norm
from deconvseg.ops.backends import Choice, chosen
from deconvseg.ops.deconver_block import Weights, choose_block, deconver_block
from deconvseg.ops.deconver_block.library import BLOCK
from deconvseg.ops.layout import in_order_of
from deconvseg.ops.overriding import is_symbolic
from deconvseg.ops.torch_internals import constant_to_compilers


class DeconvMixer(nn.Module):
    """Pointwise convolution, ReLU, nonnegative deconvolution, pointwise convolution (Eq. 6).

    ``mixing`` is what computes the source: ``"ndc"``, or for an ablation ``"depthwise"``
    (:class:`~deconvseg.nn.DepthwiseSource`, for which ``eps`` has no meaning). The other arguments are those of
    :class:`~deconvseg.nn.NDC`; without ``iterations`` the initial source passes through. Shapes: input and output
    (B, C, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.nn import DeconvMixer
        >>> DeconvMixer(8, kernel_size=3, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 8, 8, 8])

    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        ratio: float = 4,
        groups: int | None = None,
        iterations: int = 1,
        eps: float = 1e-8,
        *,
        spatial_dims: int | None = None,
        mixing: str = "ndc",
    ) -> None:
        super().__init__()
        check_choice(mixing, ("ndc", "depthwise"), "mixing")
        layer: NDC | DepthwiseSource
        if mixing == "ndc":
            layer = NDC(channels, kernel_size, ratio, groups, iterations, eps, spatial_dims=spatial_dims)
        elif groups in (None, channels):
            layer = DepthwiseSource(channels, kernel_size, ratio, iterations=iterations, spatial_dims=spatial_dims)
        else:
            raise InputError(f"groups={groups}: depthwise convolutions have one group per channel; leave it out")
        # The layer of an ablation keeps the name.
        self.ndc = cast(NDC, layer)
        conv = CONV[layer.initial_source.weight.ndim - 2]
        self.project_in = conv(channels, channels, kernel_size=1, bias=False)
        self.project_out = conv(self.ndc.source_channels, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix (B, C, \\*S) over its positions."""
        out: Tensor = self.project_out(self.ndc(torch.relu(self.project_in(x))))
        return out


class DeconverBlock(nn.Module):
    """A transformer-like block with a Deconv Mixer in place of attention (Eq. 4 and 5).

    ``mlp_ratio`` is the expansion factor α of the MLP and ``norm`` the name of the normalisation before each half;
    the other arguments are those of :class:`~deconvseg.nn.DeconvMixer`. Shapes: input and output (B, C, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.nn import DeconverBlock
        >>> DeconverBlock(8, kernel_size=3, spatial_dims=2)(torch.rand(1, 8, 8, 8)).shape
        torch.Size([1, 8, 8, 8])

    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | Sequence[int],
        ratio: float = 4,
        groups: int | None = None,
        iterations: int = 1,
        eps: float = 1e-8,
        *,
        mlp_ratio: float = 4,
        norm: str = "instance",
        spatial_dims: int | None = None,
        mixing: str = "ndc",
    ) -> None:
        super().__init__()
        own = (channels, kernel_size, ratio, groups, iterations, eps)
        mixer = DeconvMixer(*own, spatial_dims=spatial_dims, mixing=mixing)
        axes = mixer.project_in.weight.ndim - 2
        self.norm1 = create_norm(norm, channels, axes)
        self.mixer = mixer
        self.norm2 = create_norm(norm, channels, axes)
        self.mlp = pointwise_mlp(channels, mlp_ratio, axes)

    def forward(self, x: Tensor) -> Tensor:
        """Apply mixer and MLP, each with a residual connection, to (B, C, \\*S); the memory format is kept.

        On a CPU one native operator computes the whole block, unless hooks, replaced modules or replaced methods
        require separate calls of the layers; :meth:`explain_backend` gives the choice and its reason.
        """
        by_layers = is_symbolic(x) or x.device.type not in BLOCK.devices
        if not by_layers and self._why_layers() is None:
            weights, eps, norm_eps = self._weights(), self.mixer.ndc.eps, cast(InstanceNorm, self.norm1).eps
            backend = chosen(BLOCK, x, *weights)
            if backend != "reference":
                return in_order_of(x, deconver_block(x, weights, eps=eps, norm_eps=norm_eps, backend=backend))
        x = x + self.mixer(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def explain_backend(self) -> Choice:
        """Return the backend for inputs of the filters' device and type; ``reference`` stands for separate layers."""
        weight = self.mixer.project_in.weight
        image, reason = weight.new_empty(1, weight.shape[0], *[1] * (weight.ndim - 2)), self._why_layers()
        return choose_block(image, () if reason else self._weights(), reason)

    def _why_layers(self) -> str | None:
        if isinstance(self.mixer.ndc, DepthwiseSource):
            return f"its mixer has {type(self.mixer.ndc).__name__} in place of nonnegative deconvolution"
        guard_calls(self, _MODULES)
        return self._why_apart() or self._why_other_equations()

    @constant_to_compilers
    def _why_apart(self) -> str | None:
        return why_apart(self, _MODULES)

    def _why_other_equations(self) -> str | None:
        """Return why one operator cannot replace the expected modules with their current settings, or None."""
        ndc, convolutions = self.mixer.ndc, (self.mixer.project_out, self.mlp[0], self.mlp[2])
        if ndc.iterations != 1:
            return f"it takes one update, not {ndc.iterations}"
        if self.norm1.eps != self.norm2.eps or self.mlp[1].approximate != "none":
            return "the settings of its normalisations or of its GELU were changed"
        norms = cast(tuple[InstanceNorm, ...], (self.norm1, self.norm2))
        if any(norm.weight is not None or norm.bias is not None for norm in norms):
            return "a normalisation was given a weight or a bias"
        if ndc.groups != ndc.filters.shape[0]:
            return f"its deconvolution has {ndc.groups} groups of {ndc.filters.shape[0]} channels"
        biased = [conv.bias is not None for conv in (ndc.initial_source, *convolutions)]
        if self.mixer.project_in.bias is not None or not all(biased):
            return "biases were added or removed"
        return None

    def _weights(self) -> Weights:
        mixer, (expand, _, contract) = self.mixer, self.mlp
        layers = cast(tuple[Conv3d, ...], (mixer.ndc.initial_source, mixer.project_out, expand, contract))
        biased = [parameter for layer in layers for parameter in (layer.weight, cast(Tensor, layer.bias))]
        return Weights(mixer.project_in.weight, mixer.ndc.filters, *biased)


_CONVS = (Conv2d, Conv3d)
# Modules of a block that one operator can replace; the constructor makes exactly these.
_MODULES: dict[str, tuple[type, ...]] = {
    "norm1": (InstanceNorm,),
    "mixer": (DeconvMixer,),
    "mixer.ndc": (NDC,),
    "mixer.ndc.initial_source": _CONVS,
    "mixer.project_in": _CONVS,
    "mixer.project_out": _CONVS,
    "norm2": (InstanceNorm,),
    "mlp": (nn.Sequential,),
    "mlp.0": _CONVS,
    "mlp.1": (nn.GELU,),
    "mlp.2": _CONVS,
}
