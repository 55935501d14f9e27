"""Layers for inference on a CPU, with channels-last images.

They are PyTorch's layers with a faster computation of the same result, up to rounding. :func:`freeze` only changes the
class of a layer, so that its name, weights and settings stay accessible as before.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

from torch import Tensor, nn

from deconvseg.nn.conv import Conv2d, Conv3d, ConvTranspose2d, ConvTranspose3d
from deconvseg.nn.fusion import guard_calls, has_own_methods, is_watched, why_special
from deconvseg.nn.norm import AffineInstanceNorm, InstanceNorm, use_own_norms
from deconvseg.ops.backends import Choice
from deconvseg.ops.conv import onednn_conv
from deconvseg.ops.instance_norm import instance_norm, instance_norm_
from deconvseg.ops.layout import channels_last, with_innermost_strides
from deconvseg.ops.precision import layers_compute_in_bfloat16
from deconvseg.ops.torch_internals import ConvNd, constant_to_compilers
from deconvseg.ops.winograd import choose_packing, pack, winograd_conv


class _Frozen(ConvNd):
    """A convolution that converts its input to channels-last format and returns that format."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        plain: Callable[..., Tensor] = super()._conv_forward
        if input.ndim != weight.ndim:
            return plain(input, weight, bias)
        x, lowered = channels_last(input), layers_compute_in_bfloat16(input.device.type, (input, weight, bias))
        special = self.padding_mode != "zeros" or isinstance(self.padding, str) or lowered
        if special or is_watched() or not has_own_methods(type(self)):
            return plain(with_innermost_strides(x) if lowered else x, weight, bias)
        settings: dict[str, Any] = {"dilation": self.dilation, "groups": self.groups}
        zeros = tuple(int(pad) for pad in self.padding)
        return onednn_conv(x, weight, bias, stride=self.stride, padding=zeros, **settings)


class _Winograd(ConvNd):
    """A convolution that uses :func:`deconvseg.ops.winograd.winograd_conv`."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        own = has_own_methods(type(self))
        # The settings may have changed since the layer was frozen.
        if own and input.ndim == weight.ndim and _keeps_size(self):
            return winograd_conv(input, weight, bias)
        out: Tensor = super()._conv_forward(input, weight, bias)
        return out

    def explain_backend(self) -> Choice:
        """Return the backend for an image without a gradient."""
        return choose_packing(self.weight)


class FrozenConv2d(_Frozen, nn.Conv2d):
    """``torch.nn.Conv2d`` for channels-last inference."""


class FrozenConv3d(_Frozen, nn.Conv3d):
    """``torch.nn.Conv3d`` for channels-last inference."""


class WinogradConv2d(_Winograd, nn.Conv2d):
    """``torch.nn.Conv2d`` with kernel size 3 and stride 1, by Winograd's algorithm."""


class WinogradConv3d(_Winograd, nn.Conv3d):
    """``torch.nn.Conv3d`` with kernel size 3 (1 along at most one axis) and stride 1, by Winograd's algorithm."""


class FusedSequential(nn.Sequential):
    """Layers in sequence, with each instance normalisation fused with a following ReLU or leaky ReLU."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply all layers."""
        if is_watched():
            out: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return out
        guard_calls(self, [name for name, _ in self.named_children()])
        return _in_sequence(input, list(self), self._plan())

    @constant_to_compilers
    def _plan(self) -> "_Plan":
        return _plan(list(self))


def _fused_block(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of a class in ``_BLOCKS`` that fuses its layers as :class:`FusedSequential` does."""
    names, plain = _BLOCKS[_full_name(kind)], kind.forward

    def forward(self: Any, inp: Tensor) -> Tensor:
        if is_watched():
            out: Tensor = plain(self, inp)
            return out
        guard_calls(self, names)
        return _in_sequence(inp, [getattr(self, name) for name in names], self._plan())

    @constant_to_compilers
    def plan(self: nn.Module) -> _Plan:
        return _plan([getattr(self, name) for name in names])

    def reduce(self: nn.Module) -> tuple[object, ...]:
        return _new_block, (kind,), vars(self)  # the class is found by the one that it fuses

    if kind not in _fused:
        plan.__name__ = "_plan"
        members = {"forward": forward, "_plan": plan, "__reduce__": reduce}
        _fused[kind] = type(f"Fused{kind.__name__}", (kind,), members)
    return _fused[kind]


def _new_block(kind: type[nn.Module]) -> nn.Module:
    fused = _fused_block(kind)
    return fused.__new__(fused)


def _in_sequence(x: Tensor, layers: Sequence[nn.Module], plan: "_Plan") -> Tensor:
    for index, (role, rectified) in enumerate(plan):
        layer = layers[index]
        if role == "called":
            x = layer(x)
        elif role != "applied":
            assert isinstance(layer, InstanceNorm)
            # The output of a convolution has no other reader, so it is normalised in place.
            normalise = instance_norm_ if role == "private" else instance_norm
            slope = _slope(layers[index + 1]) if rectified else None
            x = normalise(x, layer.weight, layer.bias, eps=layer.eps, negative_slope=slope)
    return x


_Plan: TypeAlias = tuple[tuple[str, bool], ...]


def _plan(layers: Sequence[nn.Module]) -> _Plan:
    """Return for each layer of a sequence how it is computed, and whether the rectifier after it is applied with it.

    A layer is ``called``; ``normalised`` by the operator, in place where the image is ``private``; or ``applied`` with
    the normalisation before it.
    """
    plan: list[tuple[str, bool]] = []
    private = applied = False
    for layer, follower in zip(layers, [*layers[1:], None], strict=True):
        if applied:
            plan.append(("applied", False))
            private = applied = False
            continue
        if why_special(layer, _NORMS) is None:
            applied = follower is not None and why_special(follower, _RECTIFIERS) is None
            plan.append(("private" if private else "normalised", applied))
        else:
            plan.append(("called", False))
        private = _convolves(layer)
    return tuple(plan)


def _convolves(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution, or a plain sequence that ends with one."""
    kind = type(layer)
    if kind in _CONVOLUTIONS:
        return why_special(layer, _CONVOLUTIONS) is None
    if not isinstance(layer, nn.Sequential) or kind.forward not in (nn.Sequential.forward, FusedSequential.forward):
        return False
    return len(layer) > 0 and why_special(layer, (kind,)) is None and _convolves(layer[-1])


_RECTIFIERS = nn.LeakyReLU, nn.ReLU
_NORMS = InstanceNorm, AffineInstanceNorm
_CONVOLUTIONS = FrozenConv2d, FrozenConv3d, WinogradConv2d, WinogradConv3d, Conv2d, Conv3d
# Blocks of other libraries that call these layers in this order and nothing else, by the full name of their class.
_BLOCKS = {
    "monai.networks.blocks.dynunet_block.UnetBasicBlock": ("conv1", "norm1", "lrelu", "conv2", "norm2", "lrelu"),
}
_fused: dict[type[nn.Module], type[nn.Module]] = {}
_Kinds: TypeAlias = Mapping[type[nn.Module], type[nn.Module]]
# Exact classes only, because a subclass may compute something else.
_WINOGRAD: _Kinds = {
    nn.Conv2d: WinogradConv2d,
    nn.Conv3d: WinogradConv3d,
    Conv2d: WinogradConv2d,
    Conv3d: WinogradConv3d,
}
_OTHERS: _Kinds = {
    nn.Conv2d: FrozenConv2d,
    nn.Conv3d: FrozenConv3d,
    nn.ConvTranspose2d: ConvTranspose2d,
    nn.ConvTranspose3d: ConvTranspose3d,
}
# Attributes that a subclass of `nn.Sequential` may define and still be a plain sequence.
_SEQUENCE_ALONE = {"__module__", "__doc__", "__init__", "__annotations__", "__firstlineno__", "__static_attributes__"}


def freeze(network: nn.Module) -> None:
    """Speed up the convolutions, instance normalisations and sequences of a network for inference on a CPU, in place.

    Weights may still change; their transforms are then updated.
    Subclasses of the supported layers, and layers with a parametrisation or a hook, are not changed.
    """
    use_own_norms(network)
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Conv3d) and fits_winograd(layer):
            _change_class(layer, _WINOGRAD)
            pack(layer.weight, cast(_Winograd, layer).explain_backend().backend)
        elif why_special(layer, tuple(_OTHERS)) is None:
            _change_class(layer, _OTHERS)
            if isinstance(layer, FrozenConv2d | FrozenConv3d):
                layer.weight.data = channels_last(layer.weight.data)
        elif isinstance(layer, nn.Sequential) and _normalises(layer):
            layer.__class__ = FusedSequential
        elif _full_name(type(layer)) in _BLOCKS and why_special(layer, (type(layer),)) is None:
            layer.__class__ = _fused_block(type(layer))


def fits_winograd(layer: nn.Module) -> bool:
    """Return whether a layer is a zero-padded convolution of stride 1 that the Winograd kernels support."""
    if why_special(layer, tuple(_WINOGRAD)) is not None:
        return False
    assert isinstance(layer, nn.Conv2d | nn.Conv3d)
    return _keeps_size(layer) and choose_packing(layer.weight).backend != "reference"


def _keeps_size(layer: ConvNd) -> bool:
    once = set(layer.stride) == set(layer.dilation) == {layer.groups} == {1} and layer.padding_mode == "zeros"
    return once and layer.padding in ("same", tuple(length // 2 for length in layer.kernel_size))


def _change_class(layer: nn.Module, kinds: _Kinds) -> None:
    layer.__class__ = kinds[type(layer)]


def _full_name(kind: type[nn.Module]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _normalises(layer: nn.Sequential) -> bool:
    """Return whether a layer is a plain sequence with an instance normalisation."""
    kind = type(layer)
    alone = kind is nn.Sequential or (kind.__bases__ == (nn.Sequential,) and vars(kind).keys() <= _SEQUENCE_ALONE)
    return alone and why_special(layer, (kind,)) is None and any(why_special(each, _NORMS) is None for each in layer)


def _slope(layer: nn.Module) -> float:
    """Return the negative slope of a ReLU or leaky ReLU."""
    return layer.negative_slope if isinstance(layer, nn.LeakyReLU) else 0.0
