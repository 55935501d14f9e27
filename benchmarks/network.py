"""A Deconver of the paper against the authors' repository and other networks: equality, then time and peak memory.

``python benchmarks/network.py --preset isles22 --official PATH --json OUT`` times one patch of inference; ``--train`` a
step forward and backward. PATH is a checkout of the authors' repository; without it that side is left out.

The networks of ``--against`` and ours are also run by the ``--engines`` OpenVINO and ONNX Runtime, where these are
installed, in every precision up to the one asked for. ``--precision bfloat16`` so times ours under autocast, after
``.bfloat16()`` and in float32, and each peer in bfloat16 (PyTorch's autocast, OpenVINO's default on processors that
have it) and in float32. ``dynunet`` is MONAI's network as it comes; ``nnunet`` is this package's form of it.

Each side runs in a process of its own (workers.py); they are timed in turn, and each round begins with another side.
Every side's logits are first compared with those of its network in float64. Nothing is timed if a side in float32 is
off by more than 1e-5 (ours and the authors') or 1e-4 (other engines), or if ours in half precision is off by more than
twice the error of plain PyTorch operators in the same precision.
"""

import argparse
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import exported
import torch
from common import asked, first_logits, machine, make_parser, ratios, relative_error, report, spread
from network_sides import PRECISIONS, Side, list_sides, make_image, make_network, make_step
from torch import Tensor
from workers import Worker, time_in_turn

from deconvseg.catalog import PRESETS
from deconvseg.models import list_models
from deconvseg.ops import explain, use_backend

# The largest relative error in float32 of PyTorch's sides, and of other engines, whose sums have other orders.
LARGEST_ERROR, LARGEST_ERROR_OF_ENGINES = 1e-5, 1e-4


def compare(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    sides = list_sides(options)
    device = torch.device(options.device)
    expected = expected_logits([side.network for side in sides], options)
    files = export_networks(sides, options, folder)
    workers = {
        side: Worker(make_step, side, options, files.get((side.network, side.engine)), device=device) for side in sides
    }
    try:
        first = {side: worker.first() for side, worker in workers.items()}
        errors = {
            side: relative_error(torch.from_numpy(logits), expected[side.network])
            for side, (logits, _) in first.items()
        }
        reference = Side("ours", precision=options.precision, how="reference")
        plain = errors[reference] if reference in errors else measure_error(reference, options, expected["ours"])
        check_equality(errors, plain)
        seconds = time_in_turn({side.name: worker for side, worker in workers.items()}, options.rounds)
    finally:
        for worker in workers.values():
            worker.close()
    with torch.inference_mode(not options.train):
        choices = explain(make_network("ours", options)).choices
    return {
        "backends": sorted({str(choice) for _, choice in choices}),
        "plain_error": plain,
        **summarise(sides, errors, seconds, [first[side][1] for side in sides]),
    }


def measure_error(side: Side, options: argparse.Namespace, expected: Tensor) -> float:
    worker = Worker(make_step, side, options, device=torch.device(options.device))
    try:
        return relative_error(torch.from_numpy(worker.first()[0]), expected)
    finally:
        worker.close()


def export_networks(sides: Sequence[Side], options: argparse.Namespace, folder: Path) -> dict[tuple[str, str], Path]:
    """Write the file of each network and engine other than PyTorch."""
    files: dict[tuple[str, str], Path] = {}
    for side in sides:
        key = side.network, side.engine
        if side.engine != "torch" and key not in files:
            place = folder / "-".join(key)
            place.mkdir()
            files[key] = exported.export(make_network(side.network, options), make_image(options), side.engine, place)
    return files


def expected_logits(names: Iterable[str], options: argparse.Namespace) -> dict[str, Tensor]:
    """The logits of each network in float64, by plain PyTorch operators; the authors' network has ours."""
    image = make_image(options).double()
    found: dict[str, Tensor] = {}
    for name in dict.fromkeys("ours" if name == "official" else name for name in names):
        with torch.inference_mode(), use_backend("reference"):
            found[name] = first_logits(make_network(name, options).double()(image)).cpu()
    return {**found, "official": found["ours"]}


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
