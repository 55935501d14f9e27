"""The selective scan by each backend: equality with the reference, then time and peak memory.

``python benchmarks/selective_scan.py --channels 96 --steps 262144 --json OUT``; ``--forward`` leaves the gradients out.
The reference loops over the steps in Python, so it is timed on the first ``--reference-steps`` of them and its time
multiplied, because what it costs is proportional to them.
"""

import argparse
from collections.abc import Callable

import torch
from common import asked, machine, make_parser, peak_megabytes, ratios, relative_error, report, spread, time_in_turn
from torch import Tensor

from deconvseg.ops import explain, selective_scan, use_backend
from deconvseg.ops.selective_scan import chunked
from deconvseg.ops.selective_scan.inputs import Inputs

SIDES = ("native", "chunked", "reference")


def make_problem(options: argparse.Namespace, steps: int) -> Inputs:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    whole = (options.batch, options.channels, options.steps)
    projection = (options.batch, 1, options.states, options.steps)
    u, delta, gate, b, c = (
        random(*shape)[..., :steps].contiguous() for shape in (whole, whole, whole, projection, projection)
    )
    a = -torch.arange(1.0, options.states + 1).repeat(options.channels, 1)  # as Mamba begins
    return Inputs(u, delta - 3, b, c, gate, a, random(options.channels), random(options.channels) / 4)


def scan(side: str, inputs: Inputs) -> Tensor:
    if side == "chunked":
        return chunked.scan(inputs, True)
    u, delta, b, c, gate, a, skip, bias = inputs
    with use_backend(side):
        return selective_scan(u, delta, a, b, c, skip=skip, gate=gate, delta_bias=bias, softplus=True)


def make_step(side: str, options: argparse.Namespace, steps: int) -> Callable[[], list[Tensor]]:
    """The scan and, unless forward alone was asked for, the gradients of all its inputs."""
    torch.set_num_threads(options.threads)
    inputs = make_problem(options, steps)

    def step() -> list[Tensor]:
        if options.forward:
            with torch.inference_mode():
                return [scan(side, inputs)]
        leaves = inputs.convert(lambda *tensors: tuple(tensor.requires_grad_() for tensor in tensors))
        result = scan(side, leaves)
        return [result, *torch.autograd.grad(result.square().mean(), list(leaves.given().values()))]

    return step


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    few = min(options.reference_steps, options.steps)
    found = {side: make_step(side, options, few)() for side in SIDES}
    errors = {
        side: [relative_error(one, two) for one, two in zip(found[side], found["reference"], strict=True)]
        for side in SIDES[:2]
    }
    if max(map(max, errors.values())) > 1e-4:
        raise SystemExit(f"the results differ by {errors}: nothing is timed")
    steps = {side: few if side == "reference" else options.steps for side in SIDES}
    seconds = time_in_turn(
        {side: make_step(side, options, steps[side]) for side in SIDES}, options.rounds, torch.device("cpu")
    )
    seconds["reference"] = [value * options.steps / few for value in seconds["reference"]]
    u, delta, b, c, _, a, *_ = make_problem(options, few)
    report(
        {
            **asked(options),
            "machine": machine(torch.device("cpu")),
            "choice": str(explain(selective_scan, u, delta, a, b, c)),
            "relative_errors": errors,
            "reference": f"timed on {few} steps, its seconds multiplied by {options.steps / few:g}",
            "sides": {
                side: {
                    "seconds": spread(seconds[side]),
                    "peak_megabytes": peak_megabytes(make_step, side, options, steps[side], device=torch.device("cpu")),
                }
                for side in SIDES
            },
            "ratios": ratios(seconds, "native"),
        },
        options.json,
    )


def parse() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--channels", type=int, default=96)
    parser.add_argument("--steps", type=int, default=64**3)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--forward", action="store_true", help="no gradients")
    parser.add_argument("--reference-steps", type=int, default=1024, help="steps on which the reference is timed")
    return parser.parse_args()


if __name__ == "__main__":
    main()
