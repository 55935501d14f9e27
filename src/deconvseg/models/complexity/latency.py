"""Run time of networks."""

import time
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

from deconvseg.nn.observing import reference_tensor


def measure_seconds(model: nn.Module, input_shape: Sequence[int], *, device: str = "cpu", runs: int = 3) -> float:
    """Return the median seconds of an evaluation-mode forward pass on noise (B, C, \\*S), after a warm-up run.

    The noise has the parameters' type. The model is moved to the device and remains there, in evaluation mode.
    """
    model.to(device).eval()
    generator = torch.Generator().manual_seed(0)
    reference = reference_tensor(model)
    image = torch.rand(tuple(input_shape), generator=generator)
    image = image.to(device, None if reference is None else reference.dtype)
    seconds = []
    with torch.inference_mode():
        for _ in range(1 + runs):
            start = time.perf_counter()
            model(image)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            elif device == "mps":
                torch.mps.synchronize()
            seconds.append(time.perf_counter() - start)
    return median(seconds[1:])
