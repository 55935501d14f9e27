"""The networks that nnU-Net's plans describe, built by dynamic-network-architectures from names and numbers alone."""

import inspect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from deconvseg.errors import InputError, check_choice
from deconvseg.models.fitting import Grid, Size
from deconvseg.models.network import WrappedNetwork, logits_of
from deconvseg.models.nnunet_resenc import drop_aliases, import_architectures
from deconvseg.models.parts import other_upsampling
from deconvseg.models.per_stage import check_ends
from deconvseg.models.registry import register_model
from deconvseg.nn.norm import use_own_norms
from deconvseg.nn.upsampling import Upsampling, choose_upsampling, upsample
from deconvseg.system import FOREIGN_ERRORS, first_line

ARCHITECTURES = ("PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet")

# The classes that arguments of an architecture may name: nothing else is looked up, and nothing is imported by name.
_LAYERS: Mapping[str, tuple[type[nn.Module], ...]] = MappingProxyType(
    {
        "conv_op": (nn.Conv2d, nn.Conv3d),
        "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.BatchNorm2d, nn.BatchNorm3d),
        "dropout_op": (nn.Dropout, nn.Dropout2d, nn.Dropout3d),
        "nonlin": (nn.LeakyReLU, nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.PReLU),
    }
)
_BLOCKS = ("BasicBlockD", "BottleneckD")
# Arguments that the network has of its own.
_OWN = ("self", "input_channels", "num_classes", "deep_supervision")


@register_model("nnunet_architecture")
class NNUNetArchitecture(WrappedNetwork):
    """Network of nnU-Net's plans: a class of the package dynamic-network-architectures, and its arguments.

    Unlike ``nnunet`` and ``nnunet_resenc`` it takes all arguments of that package, as trained models of nnU-Net have
    them. Each tensor has one name in the state dict, and heads of deep supervision are left out.

    Args:
        in_channels: channels of the image.
        out_channels: channels of the logits: classes or regions.
        spatial_dims: 2 or 3.
        architecture: ``"PlainConvUNet"``, ``"ResidualEncoderUNet"`` or ``"ResidualUNet"``.
        arguments: the arguments of that class (``arch_kwargs`` of the plans), in which layers are named as in the
            plans, ``"torch.nn.modules.conv.Conv3d"``. Convolutions, normalisations, dropout and activations of PyTorch
            are known, no other classes.
        upsampling: ``"transposed"`` (as in nnU-Net) or another kind, by name or with options
            (:func:`~deconvseg.nn.create_upsampling`).

    Shapes: input (B, in_channels, \\*S), every size a multiple of ``size_multiple``; output (B, out_channels, \\*S).

    Example:
        >>> import torch
        >>> from deconvseg.models import NNUNetArchitecture
        >>> arguments = {"n_stages": 2, "features_per_stage": [4, 8], "strides": [[1, 1], [2, 2]], "kernel_sizes": 3}
        >>> arguments |= {"conv_op": "torch.nn.modules.conv.Conv2d", "nonlin": "torch.nn.ReLU"}
        >>> arguments |= {"n_conv_per_stage": 1, "n_conv_per_stage_decoder": 1}
        >>> network = NNUNetArchitecture(1, 2, 2, "PlainConvUNet", arguments)  # doctest: +SKIP
        >>> network(torch.rand(1, 1, 8, 8)).shape  # doctest: +SKIP
        torch.Size([1, 2, 8, 8])

    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 3,
        architecture: Literal["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"] = "PlainConvUNet",
        arguments: Mapping[str, Any] = MappingProxyType({}),
        upsampling: Upsampling = "transposed",
    ) -> None:
        config = dict(locals())
        check_ends(in_channels, out_channels, spatial_dims)
        chosen = choose_upsampling(upsampling)
        built = build_architecture(architecture, arguments, in_channels, out_channels, spatial_dims)
        steps = built.encoder.strides
        super().__init__(config, size_multiple=[math.prod(_along(steps, axis)) for axis in range(spatial_dims)])
        drop_aliases(built)
        self.encoder: nn.Module = built.encoder
        transposed = built.decoder.transpconvs
        ups = chosen.per_stage(len(transposed))
        self.upsampling = nn.ModuleList(itertools.starmap(other_upsampling, zip(transposed, ups, strict=True)))
        self.decoder: nn.ModuleList = built.decoder.stages
        # Heads of deep supervision have no part in the logits.
        self.head: nn.Module = built.decoder.seg_layers[-1]
        use_own_norms(self)

    @classmethod
    def fitted(cls, grid: Grid, patch: Sequence[int]) -> Iterator[Size]:
        """Raise :class:`InputError`, because the sizes are those of nnU-Net's plans."""
        raise InputError("has the sizes of a plan of nnU-Net, so nothing is fitted: take 'nnunet' or 'nnunet_resenc'")

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of an image (B, in_channels, \\*S)."""
        self.check_input(x)
        x, *skips = reversed(self.encoder(x))
        for up, convs, skip in zip(self.upsampling, self.decoder, skips, strict=True):
            x = convs(torch.cat([upsample(up, x, skip), skip], dim=1))
        return logits_of(self.head, x)


def build_architecture(
    architecture: str, arguments: Mapping[str, Any], in_channels: int, out_channels: int, spatial_dims: int
) -> Any:
    """Return the module of dynamic-network-architectures with all of its names, initialised as nnU-Net does.

    Raises :class:`~deconvseg.errors.InputError` for an argument that the class lacks, for a layer that is not known,
    and for sizes that do not fit each other.
    """
    check_choice(architecture, ARCHITECTURES, "architecture")
    constructor = getattr(import_architectures(), architecture)
    known = [name for name in inspect.signature(constructor.__init__).parameters if name not in _OWN]
    for name in arguments:
        check_choice(name, known, f"{architecture}: argument")
    layers = {name: find_layer(name, value) for name, value in arguments.items()}
    convolution = layers.get("conv_op")
    if convolution is not (nn.Conv2d, nn.Conv3d)[spatial_dims - 2]:
        raise InputError(
            f"{architecture}: conv_op={arguments.get('conv_op')!r}: give torch.nn.modules.conv.Conv{spatial_dims}d for "
            f"{spatial_dims} axes"
        )
    try:
        built = constructor(input_channels=in_channels, num_classes=out_channels, **layers)
        if uneven := [stride for stride in built.encoder.strides if not _fits(stride, spatial_dims)]:
            raise ValueError(f"strides {uneven[0]} for {spatial_dims} axes")
    except FOREIGN_ERRORS as error:
        raise InputError(f"{architecture}: its arguments do not fit each other: {first_line(error)}") from error
    built.apply(built.initialize)
    return built


def find_layer(name: str, value: Any) -> Any:
    """Return the value of an argument of an architecture, the class where it is the name of one.

    Raises :class:`~deconvseg.errors.InputError` for a class that is not known.
    """
    if name == "block":
        from dynamic_network_architectures.building_blocks import residual

        found = str(value).rpartition(".")[2]
        check_choice(found, _BLOCKS, "block")
        return getattr(residual, found)
    if name not in _LAYERS or value is None:
        return value
    module, _, found = str(value).rpartition(".")
    known = {layer.__name__: layer for layer in _LAYERS[name]}
    if module != "torch.nn" and not module.startswith("torch.nn.modules."):
        raise InputError(f"{name}={value!r}: not a layer of torch.nn; known are {', '.join(known)}")
    check_choice(found, known, name)
    return known[found]


def _fits(stride: int | Sequence[int], spatial_dims: int) -> bool:
    return isinstance(stride, int) or len(stride) == spatial_dims


def _along(strides: Sequence[Any], axis: int) -> list[int]:
    """Return the strides of the stages along an axis."""
    return [stride if isinstance(stride, int) else int(stride[axis]) for stride in strides]
