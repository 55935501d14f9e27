"""A Deconver block in plain PyTorch: Eq. 4 to 7 of Deconver (arXiv 2504.00302), one deconvolution group per channel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.ndc import reference as ndc

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def block(x: Tensor, weights: Sequence[Tensor], eps: float, norm_eps: float) -> Tensor:
    """Z = mixer(norm(X)) + X, Y = MLP(norm(Z)) + Z; the order of the parameters is that of the computation."""
    project_in, filters, source, source_bias, project_out, project_out_bias, *mlp = weights
    expand, expand_bias, contract, contract_bias = mlp
    channels = x.shape[1]
    conv = _CONV[x.ndim - 2]
    image = torch.relu(conv(torch.group_norm(x, channels, None, None, norm_eps), project_in))
    first = torch.relu(conv(image, source, source_bias))
    updated = ndc.update(image, first, torch.relu(filters), channels, eps)
    z = x + conv(updated, project_out, project_out_bias)
    hidden = F.gelu(conv(torch.group_norm(z, channels, None, None, norm_eps), expand, expand_bias))
    return z + conv(hidden, contract, contract_bias)
