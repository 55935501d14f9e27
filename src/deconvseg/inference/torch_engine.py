"""The engine of PyTorch."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from deconvseg.errors import DeconvsegError
from deconvseg.inference.engine import Engine
from deconvseg.models import Network
from deconvseg.models.complexity.measure import activation_bytes
from deconvseg.runs import Precision

_log = logging.getLogger("deconvseg")

# More windows at a time are not faster on a CPU, and take more memory.
_BATCH = {"cpu": 1}
_BATCH_ON_ACCELERATORS = 4


class TorchEngine(Engine):
    """A PyTorch module on ``device``, in its current mode, for windows with ``channels`` channels.

    The accepted sizes are known only for a :class:`~deconvseg.models.Network`. With the ``precision`` "bf16" it
    computes under an autocast to bfloat16: layers multiply and store in bfloat16, and norms, sums and the weights stay
    float32. With "32" it computes in the type of its weights, or as the caller's autocast says.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from deconvseg.inference import TorchEngine
        >>> engine = TorchEngine(nn.Conv2d(1, 2, 3, padding=1), channels=1, device=torch.device("cpu"))
        >>> engine.logits(torch.rand(4, 1, 32, 32)).shape
        torch.Size([4, 2, 32, 32])

    """

    def __init__(self, network: nn.Module, *, channels: int, device: torch.device, precision: Precision = "32") -> None:
        self.network = network
        self.channels = channels
        self.device = device
        self.precision = precision
        self.batch_size = _BATCH.get(device.type, _BATCH_ON_ACCELERATORS)
        if isinstance(network, Network):
            self.size_multiple, self.fixed_size = network.size_multiple, network.fixed_size
        self._bytes: dict[tuple[int, ...], int] = {}

    def logits(self, batch: Tensor) -> Tensor:
        """Return the logits at full resolution, also for a network that returns a list."""
        with self.lowered():
            output: Tensor | Sequence[Tensor] = self.network(batch)
        return output if isinstance(output, Tensor) else output[0]

    def lowered(self) -> AbstractContextManager[object]:
        """Return the autocast to bfloat16, or a context without effect."""
        return computing_in(self.precision, self.device)

    def bytes(self, window: Sequence[int], batch: int) -> int:
        """Estimate the activations, once per size; 0, logged once, for a network that cannot be traced."""
        shape = (batch, self.channels, *window)
        if shape not in self._bytes:
            try:
                self._bytes[shape] = activation_bytes(self.network, shape)
            except DeconvsegError as reason:
                _log.warning("the estimate of memory leaves out the network's activations: %s", reason)
                self._bytes[shape] = 0
        return self._bytes[shape]

    def fingerprint(self) -> Iterator[builtins.bytes]:
        """Yield the names and the values of the state dict's tensors, and the precision if it is not float32."""
        if self.precision != "32":
            yield self.precision.encode()
        for name, value in self.network.state_dict().items():
            if isinstance(value, Tensor):
                yield name.encode()
                yield value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def computing_in(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return the autocast of a precision, or for float32 a context without effect."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def as_engine(
    network: nn.Module | Engine, *, channels: int, device: torch.device, precision: Precision = "32"
) -> Engine:
    """Return an engine unchanged, and a :class:`TorchEngine` in a precision for a network.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from deconvseg.inference import as_engine
        >>> engine = as_engine(nn.Conv2d(1, 2, 3, padding=1), channels=1, device=torch.device("cpu"))
        >>> as_engine(engine, channels=1, device=torch.device("cpu")) is engine
        True

    """
    if not isinstance(network, nn.Module):
        return network
    return TorchEngine(network, channels=channels, device=device, precision=precision)
