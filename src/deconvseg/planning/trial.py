"""Process that runs training steps, so that their memory is measured separately and running out of it is harmless.

``python -m deconvseg.planning.trial`` reads requests from standard input and writes an answer to each, both as JSON
lines.
"""

import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import psutil
import torch

from deconvseg.errors import DeconvsegError
from deconvseg.models import create_model
from deconvseg.planning.precisions import lowered_precision
from deconvseg.planning.recipes import Recipe
from deconvseg.system import (
    FOREIGN_ERRORS,
    end_with_parent,
    ended,
    first_line,
    is_out_of_memory,
    keep_freed_memory,
    lacked_memory,
    peak_memory,
    take_over_stdout,
)

# The first step includes preparation (compiled primitives, optimiser state); the fastest of the others counts.
_STEPS = 3
# Memory that a process reserves but does not use: thread stacks and allocator arenas.
_UNTOUCHED = 128 * 2**20
# If a step takes this long, no further steps are measured.
_LONG = 15.0


def main() -> None:
    """Answer requests until standard input ends."""
    answers = take_over_stdout()
    # Training has these libraries in memory too.
    import lightning.pytorch  # noqa: F401

    keep_freed_memory()
    for line in sys.stdin:
        request = json.loads(line)
        # Each request runs in a fork of this process, which starts without the memory of earlier requests.
        apart = request["device"] == "cpu" and platform.system() == "Linux"
        answers.write(json.dumps(_try_apart(request) if apart else _try(request)) + "\n")
        answers.flush()


def _try_apart(request: Mapping[str, Any]) -> dict[str, Any]:
    import resource

    bound = None if request["memory"] is None else _bound(request["memory"])
    reading, writing = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        end_with_parent(parent)
        if bound is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (bound, resource.getrlimit(resource.RLIMIT_DATA)[1]))
        with os.fdopen(writing, "w", encoding="utf-8") as answer:
            answer.write(json.dumps(_try(request)))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if not text:
        return explain_end(os.waitstatus_to_exitcode(status))
    found: dict[str, Any] = json.loads(text)
    if "base" in found:
        # A fork does not have the files of libraries in memory until it uses them; a training does.
        files = psutil.Process().memory_info().rss - found["base"]
        found |= {key: found[key] + files for key in ("base", "inference", "memory")}
    return found


def explain_end(code: int) -> dict[str, Any]:
    """Return the answer for a process that ended without one, by its exit code (negative: a signal)."""
    return {"short" if lacked_memory(code) else "error": f"its process {ended(code)}"}


def _bound(limit: int) -> int:
    """Return the limit of data bytes for allocations, so that the process uses at most ``limit`` bytes of memory."""
    now = psutil.Process().memory_info()
    return int(now.data + max(0, limit - now.rss) + _UNTOUCHED)


def _try(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a request; ``{"short": ...}`` if memory does not suffice, ``{"error": ...}`` if it fails."""
    try:
        return measure(**{key: value for key, value in request.items() if key != "memory"})
    except (DeconvsegError, MemoryError, *FOREIGN_ERRORS) as error:
        if is_out_of_memory(error):
            return {"short": first_line(error)}
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {first_line(error)}"}


def measure(
    name: str,
    config: Mapping[str, Any],
    patch: Sequence[int],
    batch: int,
    device: str,
    regions: bool,
    threads: int,
    recipe: Mapping[str, Any],
) -> dict[str, Any]:
    """Run a few training steps and predict one window; return seconds and bytes.

    The steps use the loss of the ``recipe`` and random labels. The result has ``seconds`` of a step, ``base`` bytes of
    the process before it, and the peaks ``inference`` with the prediction and ``memory`` with the training. On a GPU
    the bytes are those of its memory, and ``base`` is 0.
    """
    torch.set_num_threads(threads)
    cuda = device.startswith("cuda")
    if cuda:
        # Without a fork per candidate, this process has measured other candidates before.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    base = 0 if cuda else peak_memory()
    network = create_model(name, **config).to(device)
    image = torch.rand(batch, network.in_channels, *patch, device=device)
    asked = Recipe.model_validate(recipe)
    half = _lowered(asked.precision, device)
    with torch.inference_mode(), half:
        network.eval()(image[:1])
    inference = _peak(device)
    network.train()
    network.deep_supervision = network.deep_supervision_heads > 0
    optimiser = _optimiser(asked, network)
    outputs = network.out_channels
    single = [(output,) for output in range(1, outputs + 1)] if regions else None
    loss_of = asked.training_loss(regions=single, ignore_id=None)
    labels = torch.randint(outputs + 1 if regions else outputs, (batch, *patch), device=device)
    seconds: list[float] = []
    while len(seconds) < _STEPS and (not seconds or seconds[0] < _LONG):
        start = time.perf_counter()
        optimiser.zero_grad()
        with half:
            loss = loss_of(network(image), labels)
        loss.backward()
        optimiser.step()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return {
        "seconds": min(seconds[1:] or seconds),
        "base": base,
        "inference": inference,
        "memory": _peak(device),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }


def _lowered(precision: str, device: str) -> torch.autocast:
    """Return the autocast of a recipe's precision."""
    lowered = lowered_precision(precision, device)
    dtype = torch.float16 if lowered == "16" else torch.bfloat16
    return torch.autocast(device.partition(":")[0], dtype, enabled=lowered != "32")


def _optimiser(recipe: Recipe, network: torch.nn.Module) -> torch.optim.Optimizer:
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(network.parameters(), momentum=recipe.momentum)
    return torch.optim.AdamW(network.parameters())


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _peak(device: str) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else peak_memory()


if __name__ == "__main__":
    main()
