"""Instance normalisation as a ``torch.library`` operator without a derivative; only the reference has one."""

from typing import Any

import torch
from torch import Tensor

from deconvseg.ops.layout import CHANNELS_LAST, is_dense
from deconvseg.ops.registry import define_in_torch, define_operator, register_backend

NORM = define_operator("instance_norm", 3, images=1, of_layers=True)
register_backend("instance_norm", "native", device="cpu", kernels="deconvseg.ops.instance_norm.native")


def _fake(x: Tensor, *rest: Any) -> Tensor:
    keeps = is_dense(x, last=True) and not is_dense(x, last=False)
    return torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim] if keeps else torch.contiguous_format)


_ARGUMENTS = "Tensor? weight, Tensor? bias, float eps, float negative_slope"
define_in_torch(
    NORM,
    "instance_norm",
    f"(Tensor x, {_ARGUMENTS}) -> Tensor",
    *(lambda kernels, *given: kernels.instance_norm(*given), _fake),
)
define_in_torch(
    NORM,
    "instance_norm_",
    f"(Tensor(a!) x, {_ARGUMENTS}) -> ()",
    *(lambda kernels, *given: kernels.instance_norm_(*given), lambda *_: None),
)

instance_norm = torch.ops.deconvseg.instance_norm
instance_norm_ = torch.ops.deconvseg.instance_norm_
