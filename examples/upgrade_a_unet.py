"""Put DTC beside every upsampling of somebody's U-Net, see what it costs, and see where it samples.

python examples/upgrade_a_unet.py [OUTPUT.png]
"""

import sys

import torch
from monai.networks.nets import BasicUNet

from deconvseg.models import complexity
from deconvseg.nn import upgrade_upsampling
from deconvseg.reporting import sampling_map


def main() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 64, 96)
    model = BasicUNet(spatial_dims=2, in_channels=1, out_channels=2).eval()  # a trained one, with its weights
    before, cost_before = model(image), complexity(model, image.shape)

    changes = upgrade_upsampling(model, {"kind": "dtc", "init": "zero"}, mode="beside")
    print(*changes, sep="\n")
    assert torch.equal(model(image), before), "nothing has changed yet"

    cost = complexity(model, image.shape)
    print(f"parameters: {cost_before.parameters:,} to {cost.parameters:,}")
    print(f"operations per pixel: {cost_before.flops_per_voxel:,.0f} to {cost.flops_per_voxel:,.0f}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    target = (image > image.mean()).long()[:, 0]
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(image), target).backward()
        optimizer.step()
    drawn = sampling_map(model, image[0])
    print(drawn)
    if len(sys.argv) > 1:
        drawn.figure().savefig(sys.argv[1])


if __name__ == "__main__":
    main()
