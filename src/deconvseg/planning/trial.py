"""The process that tries training steps out, so that their memory is measured alone and running out of it is no harm.

``python -m deconvseg.planning.trial`` reads requests from standard input and writes an answer to each, JSON lines both.
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

# The first step also prepares (compiled primitives, the optimiser's state); the fastest of the others is the step.
_STEPS = 3
# Data that a process reserves and never touches: the stacks of its threads, arenas of its allocator.
_UNTOUCHED = 128 * 2**20
# A step this slow tells enough by itself.
_LONG = 15.0


def main() -> None:
    """Answer requests until standard input ends."""
    answers = take_over_stdout()
    # What training has in memory beside its network.
    import lightning.pytorch  # noqa: F401

    keep_freed_memory()
    for line in sys.stdin:
        request = json.loads(line)
        # Each in a copy of this process: it begins without the memory that the one before has taken.
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
        # A copy does not have the libraries' files in memory until it uses them; a training does.
        files = psutil.Process().memory_info().rss - found["base"]
        found |= {key: found[key] + files for key in ("base", "inference", "memory")}
    return found


def explain_end(code: int) -> dict[str, Any]:
    """Return why a process ended without an answer, by its exit code (negative: a signal)."""
    return {"short" if lacked_memory(code) else "error": f"its process {ended(code)}"}


def _bound(limit: int) -> int:
    """Return the bytes of data beyond which allocations fail, before the process has more than ``limit`` in memory."""
    now = psutil.Process().memory_info()
    return int(now.data + max(0, limit - now.rss) + _UNTOUCHED)


def _try(request: Mapping[str, Any]) -> dict[str, Any]:
    """Measure a request; ``{"short": ...}`` where memory does not suffice, ``{"error": ...}`` where it fails."""
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
    """Take a few steps of training and one window of prediction; return seconds and bytes.

    The steps take the loss of the ``recipe``, with made-up labels.
    ``seconds`` of a step; ``base`` bytes of the process before it; ``inference`` and ``memory`` the most that it had
    with the prediction, and with the training. On a GPU they are those of its memory, and ``base`` is 0.
    """
    torch.set_num_threads(threads)
    cuda = device.startswith("cuda")
    if cuda:
        # This process has tried other candidates before, where it is not a copy for each.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    base = 0 if cuda else peak_memory()
    network = create_model(name, **config).to(device)
    image = torch.rand(batch, network.in_channels, *patch, device=device)
    half = torch.autocast("cuda", torch.bfloat16, enabled=cuda and torch.cuda.is_bf16_supported())
    with torch.inference_mode(), half:
        network.eval()(image[:1])
    inference = _peak(device)
    network.train()
    network.deep_supervision = network.deep_supervision_heads > 0
    optimiser = torch.optim.AdamW(network.parameters())
    outputs = network.out_channels
    single = [(output,) for output in range(1, outputs + 1)] if regions else None
    loss_of = Recipe.model_validate(recipe).training_loss(regions=single, ignore_id=None)
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


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _peak(device: str) -> int:
    return int(torch.cuda.max_memory_allocated(device)) if device.startswith("cuda") else peak_memory()


if __name__ == "__main__":
    main()
