"""Use the two inventions as layers in a network of your own, and check what they promise.

python examples/one_layer.py
"""

import torch
from torch import nn

from deconvseg import ops
from deconvseg.nn import DTC, NDC


class TinySegmenter(nn.Module):
    """Down by two with NDC as its mixer, up by two with a deformable transposed convolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 16, kernel_size=2, stride=2)
        self.ndc = NDC(16, kernel_size=3, ratio=2, spatial_dims=2)
        self.up = DTC(32, 16, scale=2, spatial_dims=2, receptive_field=4)
        self.head = nn.Conv2d(16, classes, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.down(image))  # NDC takes nonnegative features
        return self.head(self.up(self.ndc(features)))


def main() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, 32, 48)
    logits = TinySegmenter(classes=3)(image)
    print("logits:", tuple(logits.shape))

    # The solver behind the layer, on its own: the reconstruction error never rises (Theorem 1).
    x, filters = torch.rand(1, 4, 24, 24), torch.rand(4, 2, 3, 3)
    _, errors = ops.ndc_solve(x, filters, groups=4, iterations=20)
    print("error: first", float(errors[0, 0]), "last", float(errors[-1, 0]))
    assert (errors.diff(dim=0) <= 0).all()


if __name__ == "__main__":
    main()
