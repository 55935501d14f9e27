"""Instance normalisation as an operator of ``torch.library``; it has no derivative, which the reference has."""

import torch
from torch import Tensor

from deconvseg.ops.instance_norm import native
from deconvseg.ops.layout import CHANNELS_LAST, is_dense

# Defined by their schemas: ``torch.library.custom_op`` would import PyTorch's compiler at the first call.
_ARGUMENTS = "Tensor? weight, Tensor? bias, float eps, float negative_slope"
torch.library.define("deconvseg::instance_norm", f"(Tensor x, {_ARGUMENTS}) -> Tensor")
torch.library.define("deconvseg::instance_norm_", f"(Tensor(a!) x, {_ARGUMENTS}) -> ()")
torch.library.impl("deconvseg::instance_norm", "CPU")(native.instance_norm)
torch.library.impl("deconvseg::instance_norm_", "CPU")(native.instance_norm_)

instance_norm = torch.ops.deconvseg.instance_norm
instance_norm_ = torch.ops.deconvseg.instance_norm_


def _fake(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, negative_slope: float) -> Tensor:
    keeps = is_dense(x, last=True) and not is_dense(x, last=False)
    return torch.empty_like(x, memory_format=CHANNELS_LAST[x.ndim] if keeps else torch.contiguous_format)


torch.library.register_fake("deconvseg::instance_norm", _fake)
torch.library.register_fake("deconvseg::instance_norm_", lambda x, weight, bias, eps, negative_slope: None)
