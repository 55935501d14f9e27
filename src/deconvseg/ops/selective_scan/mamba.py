"""The selective scan on a GPU by the kernels of mamba-ssm, if installed; tested only with a stand-in, not on a GPU."""

from functools import cache
from importlib import import_module

import torch
from torch import Tensor

from deconvseg.ops.selective_scan.inputs import Inputs

_INTERFACE = "mamba_ssm.ops.selective_scan_interface"
# Largest number of states that its kernels support.
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
    """Return why mamba-ssm cannot take these tensors, in one line, or None."""
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
    except (ImportError, OSError, RuntimeError) as error:  # built for another version of PyTorch or CUDA
        return f"mamba-ssm cannot be imported: {error}"
    return None


def scan(inputs: Inputs, softplus: bool) -> Tensor:
    """Return the same as ``reference.scan``; sequences are converted to the type of ``u``, parameters to float32."""
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
