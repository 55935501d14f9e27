"""A Deconver of the paper against the authors' repository and other networks: equality, then time and peak memory.

``python benchmarks/network.py --preset isles22 --official PATH --json OUT`` times one patch of inference; ``--train`` a
step forward and backward. PATH is a checkout of the authors' repository; without it that side is left out.

The networks of ``--against`` and ours are also run by the ``--engines`` OpenVINO and ONNX Runtime, where these are
installed, in every precision up to the one asked for. ``--precision bfloat16`` so times ours under autocast, after
``.bfloat16()`` and in float32, and each peer in bfloat16 (PyTorch's autocast, OpenVINO's default on processors that
have it) and in float32. ``dynunet`` is MONAI's network as it comes; ``nnunet`` is this package's form of it.

Every side's logits are first compared with those of its network in float64. Nothing is timed if a side in float32 is
off by more than 1e-5 (ours and the authors') or 1e-4 (other engines), or if ours in half precision is off by more than
twice the error of plain PyTorch operators in the same precision.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import exported
import torch
from common import (
    asked,
    first_logits,
    machine,
    make_network_step,
    make_parser,
    peak_megabytes,
    ratios,
    relative_error,
    report,
    spread,
    time_in_turn,
)
from torch import Tensor, nn

from deconvseg import create_model
from deconvseg.catalog import PRESETS
from deconvseg.models import Deconver, list_models, load_official, preset_arguments
from deconvseg.ops import explain, use_backend

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# The largest relative error in float32 of PyTorch's sides, and of other engines, whose sums have other orders.
LARGEST_ERROR, LARGEST_ERROR_OF_ENGINES = 1e-5, 1e-4


@dataclass(frozen=True)
class Side:
    """A network in an engine and a precision; ``how`` tells autocast, ``.bfloat16()`` and our reference apart."""

    network: str
    engine: str = "torch"
    precision: str = "float32"
    how: str = ""

    @property
    def name(self) -> str:
        parts = [self.network, "" if self.engine == "torch" else self.engine, self.how, self.precision]
        return " ".join(part for part in parts if part)


def list_sides(options: argparse.Namespace) -> list[Side]:
    """Every side of a comparison, the one that the others are compared with first."""
    lower, train = options.precision, options.train
    precisions = [lower] if lower == "float32" else [lower, "float32"]
    sides = [Side("ours", precision=lower)]
    if len(precisions) == 2:
        sides += [] if train else [Side("ours", precision=lower, how="cast")]
        sides.append(Side("ours"))
    if options.reference:
        sides.append(Side("ours", precision=lower, how="reference"))
    peers = [*(["official"] if options.official else []), *options.against]
    sides += [Side(network, precision=precision) for network in peers for precision in precisions]
    for engine in options.engines:
        if engine == "torch" or train or options.device != "cpu":
            continue
        # ONNX Runtime has no kernels in half precision for CPUs.
        taken = precisions if engine == "openvino" else ["float32"]
        networks = ["ours", *options.exported]
        sides += [Side(network, engine, precision) for network in networks for precision in taken]
    return sides


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


def network_of_monai(preset: str) -> nn.Module:
    """MONAI's DynUNet with the paper's widths, and the weights of this package's form of it."""
    from monai.networks.nets import DynUNet

    settings = preset_arguments("nnunet", preset)
    stages = len(settings["widths"])
    strides = [1] + [2] * (stages - 1)
    network = DynUNet(
        settings["spatial_dims"],
        settings["in_channels"],
        settings["out_channels"],
        [3] * stages,
        strides,
        strides[1:],
        filters=settings["widths"],
        norm_name=("INSTANCE", {"affine": False}),
    )
    torch.manual_seed(0)
    source = create_model("nnunet", preset).state_dict()
    # DynUNet names some of its weights twice.
    network.load_state_dict(source, strict=False)
    return network


def make_network(name: str, options: argparse.Namespace) -> nn.Module:
    if name == "ours":
        network = network_of_ours(options.preset, options.kernel)
    elif name == "official":
        network = network_of_the_authors(options.official, options.preset, options.kernel)
    elif name == "dynunet":
        network = network_of_monai(options.preset)
    else:
        torch.manual_seed(0)
        network = create_model(name, options.preset)
    return network.to(options.device).train(options.train)


def make_step(
    side: Side, options: argparse.Namespace, file: Path | None = None, network: nn.Module | None = None
) -> Callable[[], Tensor]:
    """One patch of inference, or one step of training, of a side; ``file`` is the exported network of an engine."""
    torch.set_num_threads(options.threads)
    image = make_image(options)
    if side.engine == "openvino":
        assert file is not None, "OpenVINO runs files"
        default = exported.default_precision() == side.precision
        return exported.run_openvino(file, image, options.threads, None if default else side.precision)
    if side.engine == "onnxruntime":
        assert file is not None, "ONNX Runtime runs files"
        return exported.run_onnxruntime(file, image, options.threads)
    network = make_network(side.network, options) if network is None else network
    precision = PRECISIONS[side.precision]
    if side.how == "cast":
        network, image = deepcopy(network).to(precision), image.to(precision)
    step = make_network_step(
        network, image, train=options.train, precision=torch.float32 if side.how == "cast" else precision
    )
    if side.how != "reference":
        return step

    def step_by_reference() -> Tensor:
        with use_backend("reference"):
            return step()

    return step_by_reference


def make_image(options: argparse.Namespace) -> Tensor:
    preset = PRESETS[options.preset]
    size = (options.size,) * len(preset.patch_size) if options.size else preset.patch_size
    generator = torch.Generator().manual_seed(1)
    image = torch.randn((options.batch, preset.ends["in_channels"], *size), generator=generator)
    return image.to(options.device)


def share_weights(networks: dict[str, nn.Module]) -> None:
    """Give ours the weights of the authors' network, so that their logits can be compared."""
    if "official" in networks:
        ours = networks["ours"]
        assert isinstance(ours, Deconver), "the authors' repository has nothing else"
        load_official(ours, networks["official"].state_dict())


def expected_logits(networks: dict[str, nn.Module], options: argparse.Namespace) -> dict[str, Tensor]:
    """The logits of each network in float64, by plain PyTorch operators; the authors' network has ours."""
    image = make_image(options).double()
    found: dict[str, Tensor] = {}
    for name, network in networks.items():
        if name != "official":
            with torch.inference_mode(), use_backend("reference"):
                found[name] = first_logits(deepcopy(network).double()(image))
    if "official" in networks:
        found["official"] = found["ours"]
    return found


def check_equality(errors: dict[Side, float], half: float) -> None:
    """Refuse sides that compute something else; ``half`` is the error of our reference in half precision."""
    for side, error in errors.items():
        if side.precision == "float32":
            most = LARGEST_ERROR if side.engine == "torch" else LARGEST_ERROR_OF_ENGINES
        elif side.network == "ours" and side.engine == "torch":
            most = 2 * half
        else:
            most = 0.1
        if not error <= most:
            raise SystemExit(f"{side.name}: its logits are off by {error:.2g}, more than {most:.2g}: nothing is timed")


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    sides = list_sides(options)
    device = torch.device(options.device)
    networks = {name: make_network(name, options) for name in dict.fromkeys(side.network for side in sides)}
    share_weights(networks)
    files: dict[tuple[str, str], Path] = {}
    for side in sides:
        if side.engine != "torch" and (side.network, side.engine) not in files:
            place = folder / f"{side.network}-{side.engine}"
            place.mkdir()
            files[side.network, side.engine] = exported.export(
                networks[side.network], make_image(options), side.engine, place
            )
    steps = {
        side: make_step(side, options, files.get((side.network, side.engine)), networks[side.network]) for side in sides
    }
    expected = expected_logits(networks, options)
    errors = {side: relative_error(step(), expected[side.network]) for side, step in steps.items()}
    reference = Side("ours", precision=options.precision, how="reference")
    plain = relative_error(make_step(reference, options, None, networks["ours"])(), expected["ours"])
    check_equality(errors, plain)
    del expected
    seconds = time_in_turn({side.name: step for side, step in steps.items()}, options.rounds, device)
    backends = sorted({str(choice) for _, choice in explain(networks["ours"]).choices})
    del steps, networks
    return {
        "backends": backends,
        "plain_error": plain,
        **summarise(sides, errors, seconds, [_peak(side, options, files) for side in sides]),
    }


def _peak(side: Side, options: argparse.Namespace, files: dict[tuple[str, str], Path]) -> float:
    file = files.get((side.network, side.engine))
    return peak_megabytes(make_step, side, options, file, device=torch.device(options.device))


def summarise(
    sides: Sequence[Side], errors: dict[Side, float], seconds: dict[str, list[float]], peaks: Sequence[float]
) -> dict[str, Any]:
    """Times, memory and errors of each side, the others' over ours, and how much faster than each network's best."""
    ours = sides[0].name
    records = {
        side.name: {
            **asdict(side),
            "error": errors[side],
            "seconds": spread(seconds[side.name]),
            "peak_megabytes": peak,
        }
        for side, peak in zip(sides, peaks, strict=True)
    }
    best = {}
    for network in dict.fromkeys(side.network for side in sides if side.network != "ours"):
        names = [side.name for side in sides if side.network == network]
        fastest = min(names, key=lambda name: spread(seconds[name])["median"])
        best[network] = {"side": fastest, **ratios({ours: seconds[ours], "best": seconds[fastest]}, ours)}
    return {
        "sides": records,
        "ratios": ratios(seconds, ours),
        "best": best,
        "memory_ratios": {
            f"{ours} / {name}": peaks[0] / record["peak_megabytes"] for name, record in records.items() if name != ours
        },
    }


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    record: dict[str, Any] = asked(options, "official")
    record["machine"] = {**machine(torch.device(options.device)), **exported.versions()}
    with tempfile.TemporaryDirectory() as folder:
        record |= compare(options, Path(folder))
    report(record, options.json)
    print(tabulate(record["sides"]))


def tabulate(sides: dict[str, Any]) -> str:
    lines = [f"{'side':40} {'median':>9} {'smallest':>9} {'memory':>9} {'error':>9}"]
    for name, side in sides.items():
        times, memory = side["seconds"], side["peak_megabytes"]
        lines.append(f"{name:40} {times['median']:7.3f} s {times['min']:7.3f} s {memory:6.0f} MB {side['error']:9.2g}")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="isles22")
    parser.add_argument("--kernel", type=int, default=3, help="size of the deconvolution's filters")
    parser.add_argument("--size", type=int, help="patch size on every axis (default: the preset's)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--train", action="store_true", help="forward and backward instead of inference")
    parser.add_argument("--official", help="checkout of the authors' repository")
    parser.add_argument("--against", nargs="*", default=["dynunet", "nnunet"], choices=["dynunet", *list_models()])
    parser.add_argument("--engines", nargs="*", default=None, choices=exported.PACKAGES, help="default: the installed")
    parser.add_argument("--exported", nargs="*", default=["dynunet"], help="networks for other engines, beside ours")
    parser.add_argument("--reference", action="store_true", help="time our own reference too")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=PRECISIONS)
    options = parser.parse_args()
    if options.engines is None:
        options.engines = [engine for engine in exported.PACKAGES if not exported.missing(engine)]
    options.exported = [name for name in options.exported if name in options.against]
    for engine in options.engines:
        if names := exported.missing(engine):
            parser.error(f"--engines {engine}: not installed: {', '.join(names)}")
    return options


if __name__ == "__main__":
    main()
