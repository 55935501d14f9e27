"""Table of the backends that run, for a whole model or for one call."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from deconvseg.errors import InputError
from deconvseg.ops.backends import Choice, ExplainsBackend
from deconvseg.ops.conv import choose_conv, choose_conv_transpose, choose_onednn, conv, conv_transpose, onednn_conv
from deconvseg.ops.deconver_block import choose_block, deconver_block
from deconvseg.ops.deformable_upsample import choose_upsample, deformable_upsample
from deconvseg.ops.instance_norm import choose_norm, instance_norm
from deconvseg.ops.ndc import choose_update, ndc_update
from deconvseg.ops.registry import OPERATORS
from deconvseg.ops.selective_scan import choose_scan, selective_scan
from deconvseg.ops.winograd import choose_winograd, winograd_conv

_CHOOSERS: dict[Callable[..., Tensor], Callable[..., Choice]] = {
    ndc_update: choose_update,
    deformable_upsample: choose_upsample,
    selective_scan: choose_scan,
    instance_norm: choose_norm,
    conv: choose_conv,
    conv_transpose: choose_conv_transpose,
    onednn_conv: choose_onednn,
    winograd_conv: choose_winograd,
    deconver_block: choose_block,
}


@dataclass(frozen=True)
class Explanation:
    """Chosen backends: ``choices`` pairs each module's name (empty for a call) with its choice; prints as a table."""

    choices: tuple[tuple[str, Choice], ...]

    def __str__(self) -> str:
        if not self.choices:
            return "no module in here has backends: plain PyTorch runs"
        modules: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for name, choice in self.choices:
            why_not = "; ".join(f"{backend}: {reason}" for backend, reason in choice.declined.items())
            modules[choice.operator, choice.computed, why_not].append(name)
        rows: list[tuple[str, ...]] = [("operator", "backend", "why not another", "modules")]
        for (operator, backend, why_not), names in modules.items():
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            rows.append((operator, backend, why_not, names[0] + others))
        if not any(name for name, _ in self.choices):
            rows = [row[:-1] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)


def explain(subject: nn.Module | Callable[..., Tensor], *inputs: object, **options: object) -> Explanation:
    """Return which backend runs and why the others do not; ``print`` shows the result as a table.

    ``explain(model)`` lists the submodules that have backends, for inputs with the device and type of their parameters.
    Layers that one operator computes together (a Deconver block) are listed as that operator alone.
    ``explain(ndc_update, x, source, filters, groups=4)`` chooses for that call without computing it; the same works for
    every other function with backends, such as ``deformable_upsample`` and ``selective_scan``. Raises
    :class:`~deconvseg.errors.InputError` for any other subject, for inputs that the function rejects, and if a forced
    backend cannot compute.

    Example:
        >>> import torch
        >>> from deconvseg.ops import explain, ndc_update
        >>> x, filters = torch.rand(1, 8, 8, 8), torch.rand(8, 1, 3, 3)
        >>> print(explain(ndc_update, x, x, filters, groups=8))
        operator    backend    why not another
        ndc_update  ...

    """
    if isinstance(subject, nn.Module) and not inputs and not options:
        return Explanation(tuple(_choices(subject)))
    if not callable(subject) or subject not in _CHOOSERS:
        known = ", ".join(function.__name__ for function in _CHOOSERS)
        raise InputError(f"cannot explain {subject!r:.80}: give a module alone, or one of {known} with its arguments")
    return Explanation((("", _CHOOSERS[subject](*inputs, **options)),))


def _choices(model: nn.Module) -> Iterator[tuple[str, Choice]]:
    whole: list[str] = []
    for name, module in model.named_modules():
        if not isinstance(module, ExplainsBackend) or any(name.startswith(parent) for parent in whole):
            continue
        choice = module.explain_backend()
        yield name, choice
        # An operator of layers replaces the calls of the layers in the module.
        operator = OPERATORS.get(choice.operator)
        if operator is not None and operator.of_layers and choice.backend != "reference":
            whole.append(f"{name}." if name else "")
