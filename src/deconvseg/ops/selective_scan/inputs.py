"""Inputs of a selective scan and their checks; errors name the shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from deconvseg.errors import InputError

# Number of steps between the states that the native kernels keep: kChunk in scan.h.
KEPT_EVERY = 256


class Inputs(NamedTuple):
    """Tensors of a scan: first those with a batch axis, then the parameters.

    ``u``, ``delta`` and ``gate`` are (B, D, L), ``b`` and ``c`` (B, G, N, L), ``a`` is (D, N), ``skip`` and
    ``delta_bias`` are (D,).
    """

    u: Tensor
    delta: Tensor
    b: Tensor
    c: Tensor
    gate: Tensor | None
    a: Tensor
    skip: Tensor | None
    delta_bias: Tensor | None

    def given(self) -> dict[str, Tensor]:
        """Return the tensors that are not None, by name."""
        return {name: tensor for name, tensor in zip(self._fields, self, strict=True) if tensor is not None}

    def convert(self, function: Callable[..., tuple[Tensor, ...]]) -> Inputs:
        """Apply a function to all tensors that are not None; it returns as many tensors."""
        given = self.given()
        return self._replace(**dict(zip(given, function(*given.values()), strict=True)))

    def shape_of_states(self) -> tuple[int, ...]:
        """Return the shape of the states that the native kernels keep for the gradients, (B, D, chunks, N)."""
        return (*self.u.shape[:2], -(-self.u.shape[2] // KEPT_EVERY), self.a.shape[1])

    def check(self) -> Inputs:
        """Raise :class:`InputError` for tensors that do not fit, are empty, or are not real floating-point.

        Returns the inputs, with ``b`` and ``c`` of shape (B, N, L) expanded to one group.
        """
        if self.u.ndim != 3 or 0 in self.u.shape[1:]:
            raise InputError(f"u of shape {tuple(self.u.shape)}: give (B, D, L), at least one channel and one step")
        _, channels, _ = whole = tuple(self.u.shape)
        if self.a.ndim != 2 or self.a.shape[0] != channels or self.a.shape[1] == 0:
            raise InputError(
                f"a of shape {tuple(self.a.shape)}: give ({channels}, N), at least one state for each channel of u"
            )
        given = self.given()
        expected = {"delta": whole, "gate": whole, "skip": (channels,), "delta_bias": (channels,)}
        for name in expected.keys() & given.keys():
            if tuple(given[name].shape) != expected[name]:
                raise InputError(
                    f"{name} of shape {tuple(given[name].shape)} does not fit u of shape {whole}: give {expected[name]}"
                )
        for name, tensor in given.items():
            if not tensor.is_floating_point():
                raise InputError(f"{name} is {tensor.dtype}: give real floating-point numbers, such as torch.float32")
        grouped = self._replace(b=self._by_group("b", self.b), c=self._by_group("c", self.c))
        if grouped.b.shape != grouped.c.shape:
            raise InputError(f"b has {grouped.b.shape[1]} groups and c has {grouped.c.shape[1]}: give both the same")
        return grouped

    def _by_group(self, name: str, tensor: Tensor) -> Tensor:
        batch, channels, steps = self.u.shape
        states = self.a.shape[1]
        grouped = tensor[:, None] if tensor.ndim == 3 else tensor
        if grouped.ndim != 4 or (grouped.shape[0], *grouped.shape[2:]) != (batch, states, steps):
            raise InputError(
                f"{name} of shape {tuple(tensor.shape)}: give {(batch, states, steps)}, "
                f"or ({batch}, G, {states}, {steps}) for G groups of channels"
            )
        if grouped.shape[1] == 0 or channels % grouped.shape[1]:
            raise InputError(f"{name} has {grouped.shape[1]} groups: choose a divisor of the {channels} channels of u")
        return grouped
