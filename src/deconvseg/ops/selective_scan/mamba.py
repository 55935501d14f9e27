"""The selective scan on a GPU by the kernels of mamba-ssm, where it is installed; not run here, as there is no GPU."""

from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from deconvseg.ops.selective_scan.inputs import Inputs

_INTERFACE = "mamba_ssm.ops.selective_scan_interface"
# The most states that its kernels hold.
_MOST_STATES = 256


def decline(
    u: Tensor,
    delta: Tensor,
    b: Tensor,
    c: Tensor,
    gate: Tensor | None,
    a: Tensor,
    skip: Tensor | None,
    delta_bias: Tensor | None,
) -> str | None:
    """Say in one line why mamba-ssm cannot take these tensors, or None where it can."""
    if not u.is_cuda:
        return f"it needs tensors on cuda, not {u.device.type}"
    if missing := _unavailable():
        return missing
    if torch.compiler.is_compiling():
        return "compiled code needs operators that PyTorch can trace"
    return f"{a.shape[1]} states, and it holds up to {_MOST_STATES}" if a.shape[1] > _MOST_STATES else None


@cache
def _unavailable() -> str | None:
    try:
        import_module(_INTERFACE)
    except ModuleNotFoundError as error:
        if error.name == "mamba_ssm":
            return "mamba-ssm is not installed"
        return f"mamba-ssm cannot be imported: {error}"
    except (ImportError, OSError, RuntimeError) as error:  # built for another PyTorch or another CUDA
        return f"mamba-ssm cannot be imported: {error}"
    return None


def scan(inputs: Inputs, softplus: bool) -> Tensor:
    """Scan as ``reference.scan`` does; what varies over time in the type of ``u``, the parameters in float32."""
    function = import_module(_INTERFACE).selective_scan_fn
    u, gate, skip, bias = inputs.u, inputs.gate, inputs.skip, inputs.delta_bias
    scanned: Tensor = function(
        u,
        inputs.delta.to(u.dtype),
        inputs.a.float(),
        inputs.b.to(u.dtype),
        inputs.c.to(u.dtype),
        D=None if skip is None else skip.float(),
        z=None if gate is None else gate.to(u.dtype),
        delta_bias=None if bias is None else bias.float(),
        delta_softplus=softplus,
    )
    return scanned
