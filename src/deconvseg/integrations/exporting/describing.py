"""The contract of a prediction: what `Predictor` decides, as the numbers that a reader needs."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from deconvseg._version import __version__
from deconvseg.data import Axes, Resampling, is_rgb
from deconvseg.errors import InputError
from deconvseg.inference import Predictor, Rule
from deconvseg.integrations.exporting.contract import (
    Bound,
    Contract,
    Decision,
    ExportedModel,
    ExportedNetwork,
    GridContract,
    ImageContract,
    Label,
    Structure,
    WindowsContract,
)
from deconvseg.planning import InferencePlan, Plan
from deconvseg.runs import Run, describe_run
from deconvseg.system import package_version

if TYPE_CHECKING:
    from deconvseg.runs import WeightsChoice

_ONE_INPUT = ("spatial_dims", "channels", "spacing", "resize", "crop_margin", "normalise_first", "patch_size")


def check_one_input(names: Sequence[str], predictor: Predictor) -> None:
    """Refuse networks that do not see the same windows, which one program has only one of."""
    first = predictor.plan
    for name, plan in zip(names, predictor.plans, strict=True):
        check_describable(name, plan)
    for name, plan, overlap, mirrored in zip(
        names, predictor.plans, predictor.overlaps, predictor.mirrored_axes, strict=True
    ):
        differing = next((key for key in _ONE_INPUT if getattr(plan, key) != getattr(first, key)), None)
        if differing is None and (overlap, mirrored) != (predictor.overlaps[0], predictor.mirrored_axes[0]):
            differing = "overlap" if overlap != predictor.overlaps[0] else "recipe.augmentation.flip_axes"
        if differing is not None:
            raise InputError(
                f"{name}: its plan has another {differing} than that of {names[0]}, so one model cannot hold both; "
                "export them one by one"
            )


def check_describable(name: str, plan: Plan) -> None:
    """Refuse a plan with choices of an imported model that a contract does not hold."""
    own = {"axes": Axes(), "resampling": Resampling(), "inference": InferencePlan()}
    differing = next((key for key, usual in own.items() if getattr(plan, key) != usual), None)
    kinds = {channel.normalisation for channel in plan.channels} & {"zscore_inside", "minmax"}
    if kinds:
        differing = f"normalisation {min(kinds)}"
    if differing is not None:
        raise InputError(
            f"{name}: its plan has {differing} of its own (an imported model has), which the contract of an export "
            "cannot hold; predict with the run"
        )


def make_contract(predictor: Predictor, model: ExportedModel, networks: Sequence[ExportedNetwork] = ()) -> Contract:
    """Return the contract of a prediction by one or several networks, without parity."""
    plan = predictor.plan
    return Contract(
        model=model,
        networks=tuple(networks),
        image=ImageContract(
            dims=plan.spatial_dims,
            axes="RAS" if plan.spatial_dims == 3 else "row, column",
            channels=plan.channels,
            grey_to_rgb=plan.spatial_dims == 2 and is_rgb([channel.name for channel in plan.channels]),
        ),
        preprocessing=GridContract(
            crop_margin=plan.crop_margin,
            spacing=plan.spacing,
            resize=plan.resize,
            normalise_first=plan.normalise_first,
        ),
        windows=WindowsContract(
            size=predictor.windows[0],
            overlap=predictor.overlaps[0],
            mirrored_axes=predictor.mirrored_axes[0],
            crop_to_nonzero=predictor.crop,
        ),
        decision=_decision(predictor.rule, alone=model.networks == 1),
        labels=_labels(plan),
        structures=tuple(
            Structure(name=part.name, values=part.labels, written_as=part.written_as) for part in plan.structures
        ),
        postprocessing=predictor.postprocessing.steps,
        versions=_versions("nncf" if model.precision == "int8" else None),
    )


def describe_network(run: Run, which: WeightsChoice) -> ExportedNetwork:
    """Return the description of a run's network with its final or its best weights."""
    described = describe_run(run, which)
    model = run.plan.model
    return ExportedNetwork(
        run=described["name"],
        name=model.name,
        config=model.config,
        weights=which,
        sha256=described["weights_sha256"],
        epochs=len(run.metrics),
    )


def _decision(rule: Rule, *, alone: bool) -> Decision:
    plan, kind, given = rule.plan, rule.kind, rule.threshold
    bounds = rule.bounds(logits=alone)
    single = kind in ("margin", "foreground")
    return Decision(
        kind=kind,
        activation="softmax" if plan.regions is None else "sigmoid",
        on="logits" if alone and kind not in ("foreground", "classes") else "probabilities",
        above=next(iter(bounds.values())) if single else None,
        bounds=() if single else tuple(_bound(plan, place, above) for place, above in bounds.items()),
        threshold=dict(given) if isinstance(given, Mapping) else given,
    )


def _bound(plan: Plan, place: int, above: float) -> Bound:
    if plan.regions is None:
        return Bound(name=plan.labels.names[place], map=place, id=place, above=above)
    return Bound(name=plan.regions[place].name, map=place, id=plan.regions[place].paints, above=above)


def _labels(plan: Plan) -> tuple[Label, ...]:
    colours = plan.class_colours
    entries = zip(plan.labels.values, plan.labels.names, strict=True)
    return tuple(
        Label(id=n, value=value, name=name, colour=colours.get(name)) for n, (value, name) in enumerate(entries)
    )


def _versions(further: str | None) -> dict[str, str]:
    names = ("torch", "onnx", "onnxscript", "openvino", *([further] if further else []))
    found = {name: package_version(name) for name in names}
    known = {name: version for name, version in found.items() if version is not None}
    return {"deconvseg": __version__, "python": platform.python_version(), **known}
