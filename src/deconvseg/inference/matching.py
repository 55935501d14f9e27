"""Checks that models can be averaged and computed as requested, and that post-processing belongs to their masks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from deconvseg.data import list_names
from deconvseg.errors import InputError
from deconvseg.inference.engine import Engine
from deconvseg.inference.engine_registry import TORCH
from deconvseg.inference.postprocessing import Postprocessing
from deconvseg.planning import Plan, channel_order
from deconvseg.runs import Precision, Run


def check_model(model: object) -> None:
    """Refuse a model that is neither a run nor a network or an engine with its plan."""
    pair = model if isinstance(model, tuple) else (model,)
    if isinstance(model, Run) or (
        len(pair) == 2 and isinstance(pair[0], nn.Module | Engine) and isinstance(pair[1], Plan)
    ):
        return
    given = " and a ".join(type(part).__name__ for part in pair)
    raise InputError(
        f"models: give runs, or pairs of a network or an engine (inference.Engine) and its plan, not a {given}"
    )


def check_alike(names: Sequence[str], plans: Sequence[Plan]) -> None:
    """Refuse networks whose classes or channels differ from those of the first one."""
    first = plans[0]
    given = [channel.name for channel in first.channels]
    for name, plan in zip(names, plans, strict=True):
        if (plan.labels, plan.regions) != (first.labels, first.regions):
            raise InputError(
                f"{name}: its classes {plan.output_names} differ from those of {names[0]}, {first.output_names}; "
                "average only runs that were trained on the same labels"
            )
        for key, own, other in (
            ("crop_margin", _margin(plan), _margin(first)),
            ("axes.orientation", plan.axes.orientation, first.axes.orientation),
            ("axes.order", _order(plan), _order(first)),
            ("inference.average", plan.inference.average, first.inference.average),
        ):
            if own != other:
                raise InputError(
                    f"{name}: its plan has the {key} {own}, but that of {names[0]} has {other}; average only runs with "
                    "the same one, or predict them one by one"
                )
        wanted = [channel.name for channel in plan.channels]
        if len(wanted) > 1 and channel_order(given, wanted) != tuple(range(len(given))):
            raise InputError(
                f"{name}: its channels {', '.join(wanted)} differ from those of {names[0]}, {', '.join(given)}; "
                "average only runs that were trained on the same channels"
            )


def _margin(plan: Plan) -> str:
    return "null (not at all)" if plan.crop_margin is None else str(plan.crop_margin)


def _order(plan: Plan) -> str:
    return "null (as in the image)" if plan.axes.order is None else str(list(plan.axes.order))


def check_steps(postprocessing: Postprocessing, plan: Plan) -> None:
    """Refuse post-processing of labels that the masks do not have."""
    for step in postprocessing.steps:
        foreign = {*step.labels, step.written_as, *step.enclosing.values()} - {0, *plan.labels.values}
        if foreign:
            raise InputError(
                f"post-processing of {step.structure}: names the labels {list_names(sorted(foreign))}, but the masks "
                f"have {list_names(plan.labels.values)}; it belongs to another run: predict without it"
            )


def check_engine(
    engine: str, precision: Precision, device: torch.device, models: Sequence[Run | tuple[nn.Module | Engine, Plan]]
) -> None:
    """Refuse an engine or a precision that no model would take, and an engine on another device than the CPU."""
    if engine != TORCH and device.type != "cpu":
        raise InputError(f"`device='{device}'`: the engine {engine} runs on the CPU; omit one of both")
    if any(isinstance(model, Run) or isinstance(model[0], nn.Module) for model in models):
        return
    if precision == "bf16":
        raise InputError("`precision='bf16'`: an engine computes in a precision of its own; omit it")
    if engine != TORCH:
        raise InputError(f"`engine={engine!r}`: the models are engines already; omit it")
