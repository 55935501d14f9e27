"""What the machine at hand can do."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from deconvseg.errors import InputError


def choose_device(name: str = "auto") -> str:
    """Return ``cpu``, ``cuda`` (or ``cuda:N``) or ``mps``; ``auto`` takes the fastest one that is there."""
    import torch

    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name == "auto":
        return available[0]
    kind, _, index = name.partition(":")
    if kind not in available or (
        index and not (kind == "cuda" and index.isdigit() and int(index) < torch.cuda.device_count())
    ):
        raise InputError(f"--device {name}: not available here; choose one of auto, {', '.join(available)}")
    return name


def measure_step(name: str, config: Mapping[str, Any], patch: Sequence[int], batch: int, device: str) -> float | None:
    """Return the seconds of one training step (forward, backward) of a network; None where memory does not suffice."""
    import torch

    from deconvseg.models import create_model

    with torch.random.fork_rng(devices=[]):
        network = create_model(name, **config).to(device)
    image = torch.rand(batch, config["in_channels"], *patch, device=device)
    seconds = float("inf")
    try:
        for _ in range(2):
            start = time.perf_counter()
            network(image).square().mean().backward()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds = min(seconds, time.perf_counter() - start)
    except torch.OutOfMemoryError:
        return None
    return seconds
