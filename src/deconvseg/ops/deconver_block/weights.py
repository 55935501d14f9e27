"""The named weights of a Deconver block."""

from typing import NamedTuple

from torch import Tensor


class Weights(NamedTuple):
    """Parameters of a block in the order of the computation, for C channels, ratio R and H hidden channels.

    Shapes: ``project_in`` (C, C), ``filters`` (C, R, \\*K), ``source`` (C * R, C), ``project_out`` (C, C * R),
    ``expand`` (H, C) and ``contract`` (C, H). Pointwise weights have trailing axes of size 1, as in PyTorch's
    convolutions. The native kernels read them in this order (Weights in shape.h).
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
