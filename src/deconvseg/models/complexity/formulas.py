"""Cost of PyTorch's operations, under their usual names."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.cost import Cost, interpolation
from deconvseg.ops.torch_internals import OpOverload

_PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "scaled_mm", "mv", "addmv", "dot", "vdot", "addr", "addbmm"}
_REDUCTIONS = {
    *("sum", "nansum", "mean", "prod", "cumsum", "cumprod", "trace", "var", "var_mean", "std", "std_mean", "norm"),
    *("linalg_vector_norm", "amax", "amin", "aminmax", "max", "min", "argmax", "argmin", "all", "any", "count_nonzero"),
    *("adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d", "col2im"),
}
# Pointwise operations that PyTorch does not tag as such, or whose in-place versions it does not tag.
_POINTWISE = {
    *("abs", "eq", "ne", "ge", "gt", "le", "lt", "gelu", "mish", "threshold", "masked_fill", "hardswish", "glu"),
    *("log_sigmoid_forward", "floor_divide", "native_dropout"),
}
_POOLING = {
    *("max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("avg_pool1d", "avg_pool2d", "avg_pool3d"),
}
# Operations that create, copy or move elements without arithmetic.
_MOVES = {
    *(
        "empty",
        "empty_like",
        "empty_strided",
        "empty_permuted",
        "new_empty",
        "new_empty_strided",
        "zeros",
        "zeros_like",
    ),
    *("new_zeros", "ones", "ones_like", "new_ones", "full", "full_like", "new_full", "scalar_tensor", "eye", "arange"),
    *("linspace", "logspace", "range", "tril_indices", "triu_indices", "fill", "zero", "rand", "rand_like", "randn"),
    *("randn_like", "randint", "randint_like", "randperm", "random", "uniform", "normal", "bernoulli", "exponential"),
    *("clone", "copy", "to_copy", "lift", "set", "resize", "unsafe_view", "unsafe_split", "unsafe_split_with_sizes"),
    *("cat", "stack", "block_diag", "repeat", "repeat_interleave", "roll", "flip", "rot90", "tril", "triu"),
    *("diag_embed", "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"),
    *("replication_pad1d", "replication_pad2d", "replication_pad3d", "pixel_shuffle", "pixel_unshuffle"),
    *("channel_shuffle", "im2col", "max_unpool2d", "max_unpool3d", "index", "unsafe_index", "index_select"),
    *("index_put", "index_put_impl", "unsafe_index_put", "index_copy", "index_fill", "gather", "take", "embedding"),
    *("scatter", "slice_scatter", "select_scatter", "diagonal_scatter", "as_strided_scatter", "masked_select"),
    *("masked_scatter",),
}
# Orders of grid_sample's modes: bilinear (or trilinear), nearest, bicubic.
_ORDERS = (1, 0, 3)
_ORDER_NAMES = {0: "nearest", 1: "linear", 3: "cubic"}
_NAMES = {
    "attention": "attention",
    "layer_norm": "layer_norm",
    "softmax": "softmax",
    "prelu": "prelu",
    "grid_sampler": "grid_sample",
    "_pool": "pooling",
}
# Operations per element. Normalisation: mean, deviations, squares, sum. Softmax: maximum, difference, exponential, sum
# and quotient (which logsumexp does not have).
_NORMALISATION, _AFFINE, _SOFTMAX, _LOGSUMEXP = 4, 2, 5, 4


class Operation:
    """A call of an operation of PyTorch: its name, arguments and result."""

    def __init__(self, overload: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
        self.packet = overload._overloadpacket
        name = self.packet.__name__.strip("_")
        self.kind = name if overload.namespace == "aten" else f"{overload.namespace}::{name}"
        self.pointwise = torch.Tag.pointwise in overload.tags or self.kind in _POINTWISE
        self.is_view = overload.is_view or torch.Tag.inplace_view in overload.tags
        names = [argument.name for argument in overload._schema.arguments]
        self.arguments = {**dict(zip(names, args, strict=False)), **kwargs}
        self.args, self.kwargs, self.result = args, kwargs, result
        outputs = result if isinstance(result, list | tuple) else [result]
        self.elements = next((output.numel() for output in outputs if isinstance(output, Tensor)), 0)

    def given(self, name: str) -> bool:
        """Return whether an optional tensor was given."""
        return self.arguments.get(name) is not None


def name_of(operation: Operation) -> str:
    """Return the operation's name, the same for all its variants in PyTorch."""
    kind = operation.kind
    if kind == "convolution":
        return "transposed_convolution" if operation.arguments["transposed"] else "convolution"
    if kind in _PRODUCTS:
        return "matrix_product"
    if "batch_norm" in kind:
        # In evaluation, only instance normalisation uses the statistics of the input.
        return "instance_norm" if operation.arguments.get("training", "no_training" not in kind) else "batch_norm"
    if kind == "native_group_norm":
        return "instance_norm" if operation.arguments["group"] == operation.arguments["C"] else "group_norm"
    if kind.startswith("upsample_"):
        return f"{_ORDER_NAMES[_order(kind)]}_interpolation"
    for part, name in _NAMES.items():
        if part in kind:
            return name
    return kind


def is_biased(operation: Operation) -> bool:
    """Return whether the operation adds a bias, or is a normalisation with a scale."""
    if operation.kind in ("addmm", "baddbmm", "addmv", "addr", "addbmm"):
        return True
    return operation.given("bias") or ("norm" in operation.kind and operation.given("weight"))


def cost_of(operation: Operation) -> Cost | None:
    """Return the cost of an operation, or None if it has no formula."""
    formula_of_flops = _flop_formulas().get(operation.packet)
    if formula_of_flops:
        flops = formula_of_flops(*operation.args, **operation.kwargs, out_val=operation.result)
        return Cost(flops // 2, operation.elements if is_biased(operation) else 0)
    for belongs, formula in _FORMULAS:
        if belongs(operation.kind):
            return formula(operation)
    if operation.pointwise and operation.kind not in _MOVES:
        return Cost(0, operation.elements)
    return None


def does_work(operation: Operation) -> bool:
    """Return whether an operation does more than create, move or view elements."""
    return operation.elements > 0 and not operation.is_view and operation.kind not in _MOVES


@cache
def _flop_formulas() -> Mapping[Any, Callable[..., int]]:
    """Return PyTorch's own formulas; imported on first use, because they import Triton."""
    from torch.utils.flop_counter import flop_registry

    return flop_registry


def _normalise(operation: Operation) -> Cost:
    each = _NORMALISATION + (_AFFINE if operation.given("weight") else 0)
    return Cost(0, each * operation.elements)


def _order(kind: str) -> int:
    return 0 if "nearest" in kind else 3 if "bicubic" in kind else 1


def _interpolate(operation: Operation) -> Cost:
    return interpolation(operation.elements, operation.arguments["self"].ndim - 2, _order(operation.kind))


def _sample(operation: Operation) -> Cost:
    axes = operation.arguments["input"].ndim - 2
    return interpolation(operation.elements, axes, _ORDERS[operation.arguments["interpolation_mode"]])


def _pool(operation: Operation) -> Cost:
    axes, kernel = operation.arguments["self"].ndim - 2, operation.arguments["kernel_size"]
    window = math.prod(kernel) if len(kernel) == axes else kernel[0] ** axes
    return Cost(0, window * operation.elements)


def _product(operation: Operation) -> Cost:
    """Return the cost of vector products and of addbmm, for which PyTorch has no formula."""
    given = operation.arguments
    if operation.kind == "addr":
        macs = operation.elements
    elif operation.kind == "addbmm":
        macs = given["batch1"].numel() * given["batch2"].shape[-1]
    else:
        macs = given["mat" if operation.kind == "addmv" else "self"].numel()
    return Cost(macs, operation.elements if is_biased(operation) else 0)


def _multiply_three(operation: Operation) -> Cost:
    """Return the cost of a sum of products of three factors with shapes expanded by ``expand`` (a bilinear layer)."""
    shapes = []
    for place in "123":
        shape = [*operation.arguments[f"i{place}"].shape]
        for axis in sorted(operation.arguments[f"expand{place}"]):
            shape.insert(axis, 1)
        shapes.append(shape)
    products = math.prod(torch.broadcast_shapes(*shapes))  # type: ignore[no-untyped-call]
    return Cost(products, products)


def _distances(operation: Operation) -> Cost:
    """Return the cost of the pairwise distances of all vectors."""
    differences = operation.elements * operation.arguments["x1"].shape[-1]
    return Cost(differences, differences + operation.elements)


_FORMULAS: tuple[tuple[Callable[[str], bool], Callable[[Operation], Cost]], ...] = (
    (lambda kind: kind in _PRODUCTS, _product),
    (lambda kind: kind == "trilinear", _multiply_three),
    (lambda kind: kind in ("cdist_forward", "euclidean_dist"), _distances),
    (lambda kind: kind.startswith("upsample_"), _interpolate),
    (lambda kind: kind.startswith("grid_sampler"), _sample),
    (lambda kind: kind in _POOLING, _pool),
    (lambda kind: "_norm" in kind and kind not in _REDUCTIONS, _normalise),
    (lambda kind: "softmax" in kind, lambda call: Cost(0, _SOFTMAX * call.elements)),
    (lambda kind: kind == "logsumexp", lambda call: Cost(0, _LOGSUMEXP * call.args[0].numel())),
    (lambda kind: kind in _REDUCTIONS, lambda call: Cost(0, call.args[0].numel())),
    (lambda kind: "prelu" in kind, lambda call: Cost(0, call.elements)),
)
