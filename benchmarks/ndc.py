"""One NDC update, forward and backward, by each backend: equality with the reference, then time and peak memory.

``python benchmarks/ndc.py --channels 64 --size 64 64 64 --kernel 3 --json OUT``; ``--device cuda`` on a GPU.
"""

import argparse
from collections.abc import Callable

import torch
from common import asked, machine, make_parser, peak_megabytes, ratios, relative_error, report, spread, time_in_turn
from torch import Tensor

from deconvseg.ops import explain, ndc_update, use_backend

LAST = {2: torch.channels_last, 3: torch.channels_last_3d}


def make_problem(options: argparse.Namespace) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    channels, sources = options.channels, options.channels * options.ratio
    per_group = sources // (options.groups or channels)
    shapes = [(options.batch, n, *options.size) for n in (channels, sources)]
    shapes.append((channels, per_group, *[options.kernel] * len(options.size)))
    tensors = [torch.rand(shape, generator=generator).to(options.device) for shape in shapes]
    if options.channels_last:
        tensors[:2] = [tensor.contiguous(memory_format=LAST[len(options.size)]) for tensor in tensors[:2]]
    return tensors


def make_step(backend: str, options: argparse.Namespace) -> Callable[[], list[Tensor]]:
    """The update and, unless forward alone was asked for, the gradients of all its inputs."""
    torch.set_num_threads(options.threads)
    tensors = make_problem(options)
    groups = options.groups or options.channels

    def step() -> list[Tensor]:
        with use_backend(backend):
            if options.forward:
                with torch.inference_mode():
                    return [ndc_update(*tensors, groups=groups)]
            inputs = [tensor.requires_grad_() for tensor in tensors]
            result = ndc_update(*inputs, groups=groups)
            return [result, *torch.autograd.grad(result.square().mean(), inputs)]

    return step


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    ours = "triton" if device.type == "cuda" else "native"
    problem = make_problem(options)
    steps = {name: make_step(name, options) for name in (ours, "reference")}
    found, expected = (step() for step in steps.values())
    errors = [relative_error(one, two) for one, two in zip(found, expected, strict=True)]
    if max(errors) > 1e-5:
        raise SystemExit(f"the results differ by {errors}: nothing is timed")
    seconds = time_in_turn(steps, options.rounds, device)
    operations = 2 * 3 * options.ratio * options.kernel ** len(options.size) * problem[0].numel()
    report(
        {
            **asked(options),
            "machine": machine(device),
            "choice": str(explain(ndc_update, *problem, groups=options.groups or options.channels)),
            "relative_errors": errors,
            "sides": {
                name: {
                    "seconds": spread(values),
                    "peak_megabytes": peak_megabytes(make_step, name, options, device=device),
                    **({"gflops": operations / min(values) / 1e9} if options.forward and not options.groups else {}),
                }
                for name, values in seconds.items()
            },
            "ratios": ratios(seconds, ours),
        },
        options.json,
    )


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--size", type=int, nargs="+", default=[64, 64, 64])
    parser.add_argument("--kernel", type=int, default=3)
    parser.add_argument("--ratio", type=int, default=4)
    parser.add_argument("--groups", type=int, help="number of groups (default: as many as channels)")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--forward", action="store_true", help="no gradients")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
