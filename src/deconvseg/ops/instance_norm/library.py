"""Instance normalisation as an operator of ``torch.library``; it has no derivative, which the reference has."""

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST, is_dense
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend

NORM = define_operator("instance_norm", images=1, of_layers=True)
register_backend("instance_norm", "native", device="cpu", kernels="deconvseg.ops.instance_norm.native")


def _norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float, backend: str = ""
) -> Tensor:
    normalised: Tensor = NORM.kernels(backend, x, weight, bias).instance_norm(x, weight, bias, eps, negative_slope)
    return normalised


def _norm_(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float, backend: str = ""
) -> None:
    NORM.kernels(backend, x, weight, bias).instance_norm_(x, weight, bias, eps, negative_slope)


def _fake(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float, backend: str = ""
) -> Tensor:
    keeps = is_dense(x, last=True) and not is_dense(x, last=False)
    return torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim] if keeps else torch.contiguous_format)


_ARGUMENTS = 'Tensor? weight, Tensor? bias, float eps, float negative_slope, str backend=""'
define_in_torch("instance_norm", f"(Tensor x, {_ARGUMENTS}) -> Tensor", _norm, _fake)
define_in_torch("instance_norm_", f"(Tensor(a!) x, {_ARGUMENTS}) -> ()", _norm_, lambda *_: None)

instance_norm = torch.ops.deconvseg.instance_norm
instance_norm_ = torch.ops.deconvseg.instance_norm_
