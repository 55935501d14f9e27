"""``torch.compile`` beside calls without it: equality, the seconds of the first call, then a patch in turn.

``python benchmarks/compile.py --network deconver --dims 3 --size 64 --json OUT`` compiles one network for inference;
``--train`` a step forward and backward; ``--prepared`` the network as ``predict`` prepares it. ``--config`` takes more
constructor arguments as JSON, ``--cold`` compiles with an empty cache of the compiler, as on a new computer.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from common import asked, machine, make_network_step, make_parser, ratios, relative_error, report, spread, time_in_turn
from torch import Tensor, nn

from deconvseg import create_model
from deconvseg.inference.tuning import tune

CPU = torch.device("cpu")


def make_network(options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    config = json.loads(options.config)
    network = create_model(
        options.network, in_channels=options.channels, out_channels=3, spatial_dims=options.dims, **config
    ).train(options.train)
    return tune(network, CPU) if options.prepared else network


def make_step(
    call: Callable[[Tensor], Tensor], network: nn.Module, options: argparse.Namespace
) -> Callable[[], Tensor]:
    image = torch.randn(
        (1, options.channels, *[options.size] * options.dims), generator=torch.Generator().manual_seed(1)
    )
    precision = torch.bfloat16 if options.bfloat16 else torch.float32
    return make_network_step(network, image, train=options.train, precision=precision, call=call)


def gradients(network: nn.Module) -> Tensor:
    found = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return torch.cat([torch.zeros(1), *found])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    network = make_network(options)
    step = make_step(network, network, options)
    expected, of_expected = step(), gradients(network)
    compiled = make_step(torch.compile(network, fullgraph=True, mode=options.mode), network, options)
    start = time.perf_counter()
    found = compiled()
    first = time.perf_counter() - start
    errors = {"logits": relative_error(found, expected)}
    if options.train:
        errors["gradients"] = relative_error(gradients(network), of_expected)
    seconds = time_in_turn({"eager": step, "compiled": compiled}, options.rounds, CPU)
    return {
        "benchmark": "compile",
        "machine": machine(CPU),
        "options": asked(options),
        "first_call_seconds": first,
        "relative_error": errors,
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "ratios": ratios(seconds, "compiled"),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--network", default="deconver", help="the name of a model")
    parser.add_argument("--config", default="{}", help="further arguments of its constructor, as JSON")
    parser.add_argument("--dims", type=int, default=3, choices=(2, 3))
    parser.add_argument("--size", type=int, default=64, help="length of the patch along each axis")
    parser.add_argument("--channels", type=int, default=1, help="channels of the image")
    parser.add_argument("--train", action="store_true", help="time a step forward and backward")
    parser.add_argument("--prepared", action="store_true", help="prepare the network for inference, as predict does")
    parser.add_argument("--bfloat16", action="store_true", help="under an autocast to bfloat16")
    parser.add_argument("--mode", default=None, help="mode of torch.compile, such as max-autotune")
    parser.add_argument("--cold", action="store_true", help="with an empty cache of the compiler")
    options = parser.parse_args()
    if not options.cold:
        report(measure(options), options.json)
        return
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        report(measure(options), options.json)


if __name__ == "__main__":
    main()
