"""The widths that a plan takes on a CPU: Deconver and our U-Net against MONAI's DynUNet of the same widths.

``python benchmarks/widths.py --dims 2 --size 256 --json OUT`` compares our logits with those of our reference, and then
times inference of one batch for each row of widths, sides in turn; ``--train`` a step forward and backward.
"""

import argparse
from typing import Any

import torch
from common import asked, machine, make_network_step, make_parser, ratios, relative_error, report, spread, time_in_turn
from monai.networks.nets import DynUNet
from torch import Tensor, nn

from deconvseg import create_model
from deconvseg.ops import explain, use_backend

# Widths double from stage to stage: five stages in 2D, four in 3D.
STAGES = {2: 5, 3: 4}
SIDES = ("deconver", "unet", "dynunet")


def widths_from(first: int, dims: int) -> list[int]:
    return [first * 2**stage for stage in range(STAGES[dims])]


def make_network(side: str, widths: list[int], options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    if side == "dynunet":
        strides = [1] + [2] * (len(widths) - 1)
        norm = ("INSTANCE", {"affine": True})
        network: nn.Module = DynUNet(
            options.dims, 1, 2, [3] * len(widths), strides, strides[1:], filters=widths, norm_name=norm
        )
    else:
        own: dict[str, Any] = {"kernel_size": options.kernel} if side == "deconver" else {}
        network = create_model(side, in_channels=1, out_channels=2, spatial_dims=options.dims, widths=widths, **own)
    return network.train(options.train)


def make_image(options: argparse.Namespace) -> Tensor:
    size = options.size * options.dims if len(options.size) == 1 else options.size
    return torch.randn((options.batch, 1, *size), generator=torch.Generator().manual_seed(1))


def check_equality(network: nn.Module, options: argparse.Namespace) -> float:
    """Relative difference of our logits from those of our reference; over 1e-5 is an error."""
    image = make_image(options)
    with torch.inference_mode():
        with use_backend("reference"):
            expected = network(image)
        error = relative_error(network(image), expected)
    if error > 1e-5:
        raise SystemExit(f"our logits differ from those of our reference by {error:.2g}: nothing is timed")
    return error


def compare(first: int, options: argparse.Namespace) -> dict[str, Any]:
    widths = widths_from(first, options.dims)
    networks = {side: make_network(side, widths, options) for side in SIDES}
    record: dict[str, Any] = {"widths": widths, "equality": check_equality(networks["deconver"], options)}
    record["backends"] = sorted({str(choice) for _, choice in explain(networks["deconver"]).choices})
    image, precision = make_image(options), getattr(torch, options.precision)
    steps = {
        side: make_network_step(network, image, train=options.train, precision=precision)
        for side, network in networks.items()
    }
    seconds = time_in_turn(steps, options.rounds, torch.device("cpu"))
    record["seconds"] = {side: spread(values) for side, values in seconds.items()}
    record["ratios"] = ratios(seconds, "deconver")
    return record


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    record = asked(options)
    record["machine"] = machine(torch.device("cpu"))
    record["rows"] = [compare(first, options) for first in options.first]
    report(record, options.json)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--dims", type=int, choices=STAGES, default=2)
    parser.add_argument("--first", type=int, nargs="+", default=[8, 16, 32], help="width of the first stage, by row")
    parser.add_argument("--size", type=int, nargs="+", default=[256], help="size of the image: one number, or by axis")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--kernel", type=int, default=3, help="size of the deconvolution's filters")
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
