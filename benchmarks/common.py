"""What the benchmarks share: timing sides in turn, peak memory in a process of its own, and the record as JSON."""

import argparse
import gc
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Step = Callable[[], object]


def make_parser(description: str | None, rounds: int | None = 5) -> argparse.ArgumentParser:
    """The options that every benchmark has; without ``rounds``, nothing is repeated."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path, help="file for the record, which is also printed")
    return parser


def asked(options: argparse.Namespace, *left_out: str) -> dict[str, Any]:
    """The options for the record, without those that say where files are."""
    return {name: value for name, value in vars(options).items() if name not in ("json", *left_out)}


def make_network_step(
    network: nn.Module,
    image: Tensor,
    *,
    train: bool,
    precision: torch.dtype = torch.float32,
    call: Callable[[Tensor], Any] | None = None,
) -> Callable[[], Tensor]:
    """Inference, or a step forward and backward, of a network under an autocast to ``precision``; it returns logits.

    ``call`` computes the network if it is not called itself, such as its compiled form.
    """
    call = network if call is None else call

    def step() -> Tensor:
        with torch.autocast(image.device.type, precision, enabled=precision != torch.float32):
            if not train:
                with torch.inference_mode():
                    return first_logits(call(image))
            network.zero_grad(set_to_none=True)
            logits = first_logits(call(image))
            loss = logits.float().square().mean()
        loss.backward()
        return logits.detach()

    return step


def first_logits(outputs: Any) -> Tensor:
    """The logits of the full size, of networks that return those of several sizes too."""
    return outputs[0] if isinstance(outputs, list | tuple) else outputs


def time_in_turn(sides: Mapping[str, Step], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every side in every round, one after the other in each round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, step in sides.items():
            gc.collect()
            wait_for(device)
            start = time.perf_counter()
            step()
            wait_for(device)
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratios(seconds: Mapping[str, list[float]], ours: str) -> dict[str, dict[str, float]]:
    """How many times longer the others took, round by round: a slow moment of the machine meets both sides."""
    others = (name for name in seconds if name != ours)
    return {
        f"{name} / {ours}": spread([a / b for a, b in zip(seconds[name], seconds[ours], strict=True)])
        for name in others
    }


def peak_megabytes(make: Callable[..., Step], *arguments: object, device: torch.device) -> float:
    """Peak memory over what is loaded, of the second of two steps, in a process where nothing else has run."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (make, arguments, str(device)))


def _peak(make: Callable[..., Step], arguments: tuple[object, ...], device: str) -> float:
    step = make(*arguments)
    gc.collect()
    if device.startswith("cuda"):
        allocated = torch.cuda.memory_allocated()
        step()
        torch.cuda.reset_peak_memory_stats()
        step()
        return (torch.cuda.max_memory_allocated() - allocated) / 1e6
    loaded = memory_megabytes("VmRSS")
    step()
    gc.collect()
    reset_peak()
    step()
    return memory_megabytes("VmHWM") - loaded


def memory_megabytes(field: str) -> float:
    """What ``/proc`` says of this process: ``VmRSS`` now, ``VmHWM`` at its peak, which other systems give for both."""
    path = Path("/proc/self/status")
    if not path.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    line = next(line for line in path.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


def reset_peak() -> None:
    """Let the peak begin anew, where the system can."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def machine(device: torch.device) -> dict[str, Any]:
    from deconvseg import __version__
    from deconvseg.ops.native import instruction_set, unavailable

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        processor = names[0] if names else processor
    return {
        "deconvseg": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "native": instruction_set() or unavailable(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }


def report(record: dict[str, Any], path: Path | None) -> None:
    text = json.dumps(record, indent=2)
    print(text)
    if path is not None:
        path.write_text(text + "\n")


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize()
