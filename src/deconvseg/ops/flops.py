"""FLOPs of this package's operators for PyTorch's ``FlopCounterMode``.

That mode counts only convolutions and matrix products, as twice their multiply-accumulates. A kernel and its gradients
have the count of the plain PyTorch code that they replace. PyTorch's count for the weight gradient of a grouped
convolution is too large by a factor of the number of groups. Interpolation, normalisation and scans contain no such
product and count as 0; :mod:`deconvseg.models.complexity` counts them.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.deconver_block.weights import Weights
from deconvseg.ops.ndc import cost
from deconvseg.ops.torch_internals import FLOP_COUNTER

_FREE = ("instance_norm", "instance_norm_", "selective_scan", "deformable_upsample")
_FREE_BACKWARD = ("selective_scan_backward", "deformable_upsample_backward")


def register_flops() -> None:
    """Register the formulas once PyTorch's counter is imported; importing it here would import Triton."""
    if FLOP_COUNTER in sys.modules:
        _register(sys.modules[FLOP_COUNTER])
    elif not any(isinstance(finder, _Registering) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Registering())


class _Registering(importlib.abc.MetaPathFinder):
    """An import hook that registers the formulas after the import of PyTorch's counter."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of PyTorch's counter; None for any other module."""
        if name != FLOP_COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register(module)

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def _register(counter: ModuleType) -> None:
    formulas = {
        **dict.fromkeys((*_FREE, *_FREE_BACKWARD), _nothing),
        "conv": _conv,
        "onednn_conv": _conv,
        "join": _join,
        "conv_transpose": _conv_transpose,
        "conv_transpose_add_": _add_conv_transpose,
        "conv_weight_gradient": _conv_weight_gradient,
        "winograd_conv": _winograd_conv,
        "ndc_update": _update,
        "ndc_update_backward": _update_backward,
        "deconver_block": _block,
        "deconver_block_backward": _block_backward,
    }
    for name, formula in formulas.items():
        packet = getattr(torch.ops.deconvseg, name)
        if packet not in counter.flop_registry:
            counter.register_flop_formula(packet, get_raw=True)(formula)


def _nothing(*args: Any, **kwargs: Any) -> int:
    return 0


def _conv(x: Tensor, weight: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return 2 * out_val.shape[0] * math.prod(out_val.shape[2:]) * weight.numel()


def _conv_transpose(x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    return 2 * x.shape[0] * math.prod(x.shape[2:]) * weight.numel()


def _join(skip: Tensor, x: Tensor, of_skip: Tensor, spread: Tensor, *args: Any, out_val: Tensor, **kwargs: Any) -> int:
    return _conv(skip, of_skip, out_val=out_val) + _conv_transpose(x, spread)


def _add_conv_transpose(out: Tensor, x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    return _conv_transpose(x, weight)


def _conv_weight_gradient(low: Tensor, high: Tensor, kernel: Sequence[int], *args: Any, **kwargs: Any) -> int:
    return 2 * low.numel() * high.shape[1] * math.prod(kernel)


def _winograd_conv(x: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
    """Return the FLOPs of the direct convolution, not of the cheaper Winograd algorithm."""
    products: int = 2 * x.numel() * weight.shape[0] * math.prod(weight.shape[2:])
    return products


def _update(x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float, *args: Any, **kwargs: Any) -> int:
    return 2 * cost.update(x, source, filters, groups=groups, eps=eps).macs


def _update_backward(
    grad: Tensor, x: Tensor, source: Tensor, filters: Tensor, groups: int, eps: float, *args: Any, **kwargs: Any
) -> int:
    sources = source.shape[1]
    # X ∗ V⁻ and (S ∗ V) ∗ V⁻ have the channels of S; S ∗ V has those of X.
    to_source = _of_gradients(x.shape, (sources, x.shape[1] // groups, *filters.shape[2:]), groups)
    return 2 * to_source + _of_gradients(source.shape, filters.shape, groups)


def _block(x: Tensor, *rest: Any, **kwargs: Any) -> int:
    weights = Weights(*rest[: len(Weights._fields)])
    positions = x.shape[0] * math.prod(x.shape[2:])
    pointwise: int = sum(weight.numel() for weight in _pointwise(weights))
    return 2 * positions * (pointwise + 3 * weights.filters.numel())


def _block_backward(grad: Tensor, x: Tensor, between: Tensor, *rest: Any, **kwargs: Any) -> int:
    weights = Weights(*rest[: len(Weights._fields)])
    batch, channels, *size = x.shape
    layers = [((batch, weight.shape[1], *size), weight.shape) for weight in _pointwise(weights)]
    sources = x.new_empty((batch, weights.source.shape[0], *size), device="meta")
    pointwise = sum(_of_gradients(image, weight, 1) for image, weight in layers)
    return pointwise + _update_backward(sources, x, sources, weights.filters, channels, 0.0)


def _pointwise(weights: Weights) -> tuple[Tensor, ...]:
    return weights.project_in, weights.source, weights.project_out, weights.expand, weights.contract


def _of_gradients(image: Sequence[int], weight: Sequence[int], groups: int) -> int:
    """Return the FLOPs of both gradients of a size-preserving convolution, as PyTorch counts them."""
    ones, image, weight = [1] * (len(image) - 2), list(image), list(weight)
    written = [image[0], weight[0], *image[2:]]
    settings = (ones, [length // 2 for length in weight[2:]], ones, False, [0] * len(ones), groups)
    formula: Callable[..., int] = sys.modules[FLOP_COUNTER].flop_registry[torch.ops.aten.convolution_backward]
    return formula(written, image, weight, None, *settings, [True, True, False], out_val=(image, weight, None))
