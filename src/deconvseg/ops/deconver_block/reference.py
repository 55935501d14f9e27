"""A Deconver block in plain PyTorch: Eq. 4 to 7 of Deconver (arXiv 2504.00302), one deconvolution group per channel."""

import torch
import torch.nn.functional as F
from torch import Tensor

from deconvseg.ops.deconver_block.weights import Weights
from deconvseg.ops.ndc import reference as ndc

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def block(x: Tensor, weights: Weights, eps: float, norm_eps: float) -> Tensor:
    """Return Y = MLP(norm(Z)) + Z with Z = mixer(norm(X)) + X."""
    channels = x.shape[1]
    conv = _CONV[x.ndim - 2]
    image = torch.relu(conv(torch.group_norm(x, channels, None, None, norm_eps), weights.project_in))
    first = torch.relu(conv(image, weights.source, weights.source_bias))
    updated = ndc.update(image, first, torch.relu(weights.filters), channels, eps)
    z = x + conv(updated, weights.project_out, weights.project_out_bias)
    normal = torch.group_norm(z, channels, None, None, norm_eps)
    hidden = F.gelu(conv(normal, weights.expand, weights.expand_bias))
    return z + conv(hidden, weights.contract, weights.contract_bias)
