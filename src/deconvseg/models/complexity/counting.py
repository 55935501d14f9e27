"""Counts of the operations in a forward pass."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deconvseg.errors import DeconvsegError
from deconvseg.models.complexity.formulas import Operation, cost_of, does_work, is_biased, name_of
from deconvseg.ops.cost import Cost, is_heard
from deconvseg.ops.torch_internals import EagerMode


@dataclass(frozen=True)
class Tally:
    """The calls of one kind of operation, summed.

    ``macs`` and ``elementwise`` are those of :class:`~deconvseg.ops.cost.Cost`; ``elements`` is the number of output
    elements, and ``biased`` the number of those with an added bias or the scale of a normalisation.
    """

    calls: int = 0
    macs: int = 0
    elementwise: int = 0
    elements: int = 0
    biased: int = 0

    def with_call(self, cost: Cost, elements: int, biased: bool) -> "Tally":
        """Return the tally with one more call."""
        return Tally(
            self.calls + 1,
            self.macs + cost.macs,
            self.elementwise + cost.elementwise,
            self.elements + elements,
            self.biased + biased * elements,
        )


class Counter(EagerMode):  # type: ignore[no-untyped-call]
    """Tallies the operations called inside a ``with`` block by name; operators of this package count as a whole.

    These report to it by :func:`~deconvseg.ops.cost.told_to`. ``uncounted`` has the names of operations that compute
    something but have no formula.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tallies: dict[str, Tally] = {}
        self.uncounted: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call an operation and count it."""
        if torch.is_inference_mode_enabled():
            raise DeconvsegError(
                "the network enters torch.inference_mode, where operations cannot be counted: count the part that "
                "is called inside, or use torch.no_grad instead"
            )
        options = kwargs or {}
        result = func(*args, **options)
        if is_heard(self):
            operation = Operation(func, args, options, result)
            cost = cost_of(operation)
            if cost is not None:
                self._add(name_of(operation), cost, operation.elements, is_biased(operation))
            elif does_work(operation):
                self.uncounted.add(name_of(operation))
        return result

    def record(self, operator: str, cost: Cost, result: object) -> None:
        """Count a call of one of this package's operators."""
        self._add(operator, cost, result.numel() if isinstance(result, Tensor) else 0, biased=False)

    def _add(self, name: str, cost: Cost, elements: int, biased: bool) -> None:
        self.tallies[name] = self.tallies.get(name, Tally()).with_call(cost, elements, biased)
