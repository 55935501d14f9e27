"""The weights of a block, by name."""

from typing import NamedTuple

from torch import Tensor


class Weights(NamedTuple):
    """The parameters of a block in the order of the computation, for C channels, a ratio of R and H hidden channels.

    Projection in (C, C), filters (C, R, \\*K), source (C * R, C), projection out (C, C * R), expansion (H, C) and
    contraction (C, H) of the MLP; pointwise ones with axes of size 1 behind, as PyTorch's convolutions have them. The
    native kernels read them in this order: Weights in shape.h.
    """

    project_in: Tensor
    filters: Tensor
    source: Tensor
    source_bias: Tensor
    project_out: Tensor
    project_out_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    contract: Tensor
    contract_bias: Tensor
