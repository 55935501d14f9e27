"""The selective scan of Mamba (arXiv 2312.00752): a linear recurrence whose coefficients depend on its input."""

from torch import Tensor

from deconvseg.ops.backends import Choice, as_stored, choose, chosen, forced_backend, why_reference
from deconvseg.ops.cost import counted
from deconvseg.ops.overriding import overridable
from deconvseg.ops.precision import in_full_precision, without_autocast
from deconvseg.ops.selective_scan import chunked, cost, library, mamba, reference
from deconvseg.ops.selective_scan.inputs import Inputs
from deconvseg.ops.torch_internals import is_recorded

__all__ = ["choose_scan", "selective_scan"]


@overridable
@counted(cost.scan)
def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = False,
) -> Tensor:
    """Compute h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t and y_t = ⟨C_t, h_t⟩ along a sequence (Mamba, Eq. 2, discretised).

    ``u`` and ``delta`` are (B, D, L), ``a`` (D, N), ``b`` and ``c`` (B, N, L), or (B, G, N, L) for G groups of
    channels. Δ is ``delta`` plus ``delta_bias`` (D,), passed through softplus if ``softplus`` is set. ``skip`` (D,)
    adds skip · u to y, and ``gate`` (B, D, L) multiplies the sum by silu(gate). Returns (B, D, L) in the type of ``u``;
    half types and autocast regions compute in float32. No tensor of size B · D · L · N is created or saved for
    gradients, except under transforms, in exports and for second derivatives, which use plain operators.

    A kernel computes the result if one accepts the tensors (:func:`~deconvseg.ops.explain` shows the choice), otherwise
    plain PyTorch does, in chunks. Second derivatives always use plain PyTorch. ``use_backend("reference")`` forces a
    loop over single steps, which is slow. Raises :class:`~deconvseg.errors.InputError` if shapes or types do not fit,
    or if a forced backend cannot compute.

    Example:
        >>> import torch
        >>> from deconvseg.ops import selective_scan
        >>> u, ones = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.ones(1, 1, 4)
        >>> selective_scan(u, ones, torch.zeros(1, 1), ones, ones)  # with A = 0 a cumulative sum
        tensor([[[ 1.,  3.,  6., 10.]]])

    """
    inputs = Inputs(u, delta, b, c, gate, a, skip, delta_bias).check()
    with without_autocast(u.device.type):
        return _scan(inputs.convert(as_stored), softplus).to(u.dtype)


def choose_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    delta_bias: Tensor | None = None,
    softplus: bool = False,
) -> Choice:
    """Return the backend of :func:`selective_scan` for these arguments, without computing; same errors.

    On a GPU it may be ``mamba_ssm``, the kernels of another package; ``softplus`` does not affect the choice.
    """
    inputs = Inputs(u, delta, b, c, gate, a, skip, delta_bias).check().convert(as_stored)
    return choose(library.SCAN, *inputs)


def _scan(inputs: Inputs, softplus: bool) -> Tensor:
    backend = chosen(library.SCAN, *inputs)
    if backend == "mamba_ssm":
        return mamba.scan(inputs, softplus)
    if backend != "reference":
        return library.scan(inputs, softplus, backend)
    inputs = inputs.convert(in_full_precision)
    if forced_backend() == "reference":
        return reference.scan(inputs, softplus)
    # Transforms, exports and `make_fx` need plain operators, without recomputation.
    return chunked.scan(inputs, softplus, recompute=why_reference() is None and not is_recorded())
