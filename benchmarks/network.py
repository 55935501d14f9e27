"""A Deconver of the paper against the authors' repository and other networks: equality, then time and peak memory.

``python benchmarks/network.py --preset isles22 --official PATH --json OUT`` times one patch of inference; ``--train`` a
step forward and backward. PATH is a checkout of the authors' repository; without it that side is left out.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from common import machine, peak_megabytes, ratios, relative_error, report, spread, time_in_turn
from torch import Tensor, nn

from deconvseg import create_model
from deconvseg.catalog import PRESETS
from deconvseg.models import Deconver, list_models, load_official, preset_arguments
from deconvseg.ops import explain, use_backend

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def network_of_ours(preset: str, kernel: int) -> nn.Module:
    torch.manual_seed(0)
    return create_model("deconver", preset, kernel_size=kernel)


def network_of_the_authors(checkout: str, preset: str, kernel: int) -> nn.Module:
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    from deconver import Deconver

    settings = preset_arguments("deconver", preset)
    dims, widths = settings["spatial_dims"], settings["widths"]
    torch.manual_seed(0)
    return Deconver(
        settings["in_channels"],
        settings["out_channels"],
        spatial_dims=dims,
        encoder_width=widths,
        encoder_depth=(1,) * len(widths),
        decoder_depth=(1,) * (len(widths) - 1),
        strides=(1,) + (2,) * (len(widths) - 1),
        norm={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims],
        kernel_size=(kernel,) * dims,
        ratio=4,
        groups=-1,
        eps=1e-8,
    )


def make_network(side: str, options: argparse.Namespace) -> nn.Module:
    if side in ("native", "triton", "reference", "ours"):
        network = network_of_ours(options.preset, options.kernel)
    elif side == "official":
        network = network_of_the_authors(options.official, options.preset, options.kernel)
    else:
        network = create_model(side, options.preset)
    return network.to(options.device).train(options.train)


def make_step(side: str, options: argparse.Namespace, network: nn.Module | None = None) -> Callable[[], Tensor]:
    """One patch of inference, or one step of training, of a side."""
    torch.set_num_threads(options.threads)
    network = make_network(side, options) if network is None else network
    image = make_image(options)
    precision = PRECISIONS[options.precision]

    def step() -> Tensor:
        lower = torch.autocast(options.device, dtype=precision, enabled=precision != torch.float32)
        with use_backend("reference") if side == "reference" else nullcontext(), lower:
            if not options.train:
                with torch.inference_mode():
                    return _first(network(image))
            network.zero_grad(set_to_none=True)
            logits = _first(network(image))
            loss = logits.float().square().mean()
        loss.backward()
        return logits.detach()

    return step


def _first(logits: Any) -> Tensor:
    return logits[0] if isinstance(logits, list | tuple) else logits


def make_image(options: argparse.Namespace) -> Tensor:
    preset = PRESETS[options.preset]
    size = (options.size,) * len(preset.patch_size) if options.size else preset.patch_size
    generator = torch.Generator().manual_seed(1)
    image = torch.randn((options.batch, preset.ends["in_channels"], *size), generator=generator)
    return image.to(options.device)


def check_equality(networks: dict[str, nn.Module], options: argparse.Namespace) -> dict[str, float]:
    """Relative differences of our logits from the authors' and from our reference; over 1e-5 is an error in float32."""
    image = make_image(options)
    found: dict[str, float] = {}
    with torch.inference_mode():
        if "official" in networks:
            ours = networks["ours"]
            assert isinstance(ours, Deconver), "the authors' repository has nothing else"
            load_official(ours, networks["official"].state_dict())
            found["official"] = relative_error(networks["ours"](image), networks["official"](image))
        with use_backend("reference"):
            expected = networks["ours"](image)
        found["reference"] = relative_error(networks["ours"](image), expected)
    for name, error in found.items():
        if error > 1e-5:
            raise SystemExit(f"our logits differ from those of {name} by {error:.2g}: nothing is timed")
    return found


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    sides = ["ours", *(["official"] if options.official else []), *options.against]
    networks = {side: make_network(side, options) for side in sides}
    record: dict[str, Any] = {key: value for key, value in vars(options).items() if key not in ("official", "json")}
    record["machine"] = machine(torch.device(options.device))
    record["backends"] = sorted({str(choice) for _, choice in explain(networks["ours"]).choices})
    record["equality"] = check_equality(networks, options)
    steps = {side: make_step(side, options, networks[side]) for side in sides}
    if options.reference:
        steps["reference"] = make_step("reference", options, networks["ours"])
    seconds = time_in_turn(steps, options.rounds, torch.device(options.device))
    del steps, networks
    record["sides"] = {
        side: {
            "seconds": spread(values),
            "peak_megabytes": peak_megabytes(make_step, side, options, device=torch.device(options.device)),
        }
        for side, values in seconds.items()
    }
    record["ratios"] = ratios(seconds, "ours")
    ours = record["sides"]["ours"]["peak_megabytes"]
    record["memory_ratios"] = {
        f"ours / {side}": ours / values["peak_megabytes"] for side, values in record["sides"].items() if side != "ours"
    }
    report(record, options.json)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="isles22")
    parser.add_argument("--kernel", type=int, default=3, help="size of the deconvolution's filters")
    parser.add_argument("--size", type=int, help="patch size on every axis (default: the preset's)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--official", help="checkout of the authors' repository")
    parser.add_argument("--against", nargs="*", default=["nnunet"], choices=list_models())
    parser.add_argument("--reference", action="store_true", help="time our own reference too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the record, which is also printed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
