"""The whole way from a dataset to a finished run folder."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

from deconvseg.data import Case, Dataset, Splits, open_dataset, prepare_cases, resolve_splits
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import evaluate
from deconvseg.inference import Predictor, predict_cases
from deconvseg.models import create_model
from deconvseg.planning import Plan, choose_device, make_plan, read_plan
from deconvseg.reporting import plot_curves, write_report
from deconvseg.runs import Run, file_sha256
from deconvseg.training.fit import fit

_Path = str | PathLike[str]


class Console(Protocol):
    """What the training tells while it works; the command line fills it in with Rich."""

    def say(self, text: str) -> None:
        """Tell that something was done or decided."""

    def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
        """Go through items, showing how far it is."""

    def meter(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """Give a function that shows a text and a fraction."""


class Silent:
    """A console that tells nothing."""

    def say(self, text: str) -> None:
        """Tell nothing."""

    def track(self, items: Sequence[Any], text: str) -> Iterable[Any]:
        """Go through the items."""
        return items

    def meter(self) -> AbstractContextManager[Callable[[str, float], None]]:
        """Give a function that shows nothing."""
        return nullcontext(lambda text, fraction: None)


@dataclass(frozen=True)
class _Request:
    """What the user asked for, as it is kept in ``config.json``; on ``--resume`` it must be the same again."""

    dataset: str
    foreground: bool
    splits: str | None
    fold: int | str
    seed: int
    device: str
    precision: str
    workers: int | None
    max_seconds: float | None
    pretrained: str | None


def train(
    dataset: _Path,
    output: _Path,
    *,
    model: str = "deconver",
    preset: str | None = None,
    plan: Plan | _Path | None = None,
    recipe: str = "default",
    splits: _Path | None = None,
    fold: int | str = 0,
    foreground: bool = False,
    epochs: int | None = None,
    max_seconds: float | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int | None = None,
    pretrained: _Path | None = None,
    values: Mapping[str, Any] | None = None,
    seed: int = 0,
    resume: bool = False,
    console: Console | None = None,
) -> Run:
    """Train a network on a dataset and return the finished run.

    Plans (unless ``plan`` is given), prepares, trains, predicts the validation cases, evaluates them and writes the
    report, all in the folder ``output``. ``fold`` is the validation fold, or ``"all"`` to train on every training
    case; ``values`` replaces dotted paths of the plan (``{"recipe.learning_rate": 1e-4}``); ``max_seconds`` bounds
    training with its validations. With ``resume`` the run in ``output`` goes on after its last completed epoch; without
    ``max_seconds`` its weights are then, on a CPU, those of an uninterrupted run, bit for bit.
    """
    console = console or Silent()
    request = _Request(
        dataset=str(Path(dataset).resolve()),
        foreground=foreground,
        splits=None if splits is None else str(Path(splits).resolve()),
        fold=fold,
        seed=seed,
        device=choose_device(device),
        precision=precision,
        workers=workers,
        max_seconds=max_seconds,
        pretrained=None if pretrained is None else str(Path(pretrained).resolve()),
    )
    data = open_dataset(dataset, foreground=foreground)
    parts = resolve_splits(data, splits, fold=fold, seed=seed)
    if resume:
        run = _reopen(output, request, plan=plan, epochs=epochs, values=values)
    else:
        checked = _plan(data, parts, plan, model, preset, recipe, request, epochs, values, console)
        run = Run.create(output, checked, vars(request), splits=vars(parts))
        run.update_manifest(data=_data_hashes(data.select([*parts.train, *parts.val])))
    _fit(run, data, parts, request, resume, console)
    _validate(run, data, parts, request, console)
    plot_curves(run.metrics, run.path / "progress.png")
    report = write_report(run.path)
    shutil.rmtree(run.cache, ignore_errors=True)
    run.finish(
        [
            "plan.json",
            "config.json",
            "splits.json",
            "metrics.jsonl",
            "metrics.csv",
            "progress.png",
            "report.html",
        ]
    )
    console.say(f"report: {report}")
    return run


def _plan(
    data: Dataset,
    parts: Splits,
    plan: Plan | _Path | None,
    model: str,
    preset: str | None,
    recipe: str,
    request: _Request,
    epochs: int | None,
    values: Mapping[str, Any] | None,
    console: Console,
) -> Plan:
    if plan is None:
        console.say("planning: reading the training cases, timing this machine")
        plan = make_plan(
            data,
            parts,
            model=model,
            preset=preset,
            recipe=recipe,
            device=request.device,
            seconds=request.max_seconds,
            progress=partial(console.track, text="fingerprint"),
        )
    elif not isinstance(plan, Plan):
        plan = read_plan(plan)
    changes = dict(values or {})
    if epochs is not None:
        changes["recipe.epochs"] = epochs
    plan = plan.with_values(changes)
    console.say(
        f"plan: {plan.model.name}, widths {plan.model.config.get('widths')}, patch {plan.patch_size}, "
        f"batch {plan.batch_size}, spacing {plan.spacing}, classes {', '.join(plan.output_names)}"
    )
    return plan


def _reopen(
    output: _Path,
    request: _Request,
    *,
    plan: Plan | _Path | None,
    epochs: int | None,
    values: Mapping[str, Any] | None,
) -> Run:
    """Open the run to continue; what was asked for then must be what is asked for now."""
    run = Run.open(output)
    if not run.resume_file.is_file():
        raise InputError(
            f"{run.resume_file}: no completed epoch to resume from; train again without --resume, elsewhere"
        )
    old = run.config
    changed = [f"{key} {old.get(key)!r} → {value!r}" for key, value in vars(request).items() if old.get(key) != value]
    if plan is not None or values:
        changed.append("plan")
    if epochs is not None and epochs != run.plan.recipe.epochs:
        changed.append(f"epochs {run.plan.recipe.epochs} → {epochs}")
    if changed:
        raise InputError(
            f"--resume: the run in {run.path} was started otherwise ({'; '.join(changed)}); repeat its options"
        )
    return run


def _fit(run: Run, data: Dataset, parts: Splits, request: _Request, resume: bool, console: Console) -> None:
    plan = run.plan
    cases = {
        part: prepare_cases(
            data.select(names),
            run.cache,
            spacing=plan.spacing,
            normalisations=plan.normalisations,
            encoding=plan.labels.to_encoding(),
            progress=partial(console.track, text=f"preparing {part} cases"),
        )
        for part, names in (("train", parts.train), ("val", parts.val))
    }
    _seed(request.seed)
    network = create_model(plan.model.name, **plan.model.config)
    if request.pretrained is not None and not resume:
        console.say(load_pretrained(network, Run.open(request.pretrained)))
    parameters = sum(p.numel() for p in network.parameters())
    console.say(
        f"training {parameters / 1e6:.2f} M parameters on {request.device}: "
        f"{len(parts.train)} cases, {len(parts.val)} to validate"
    )
    with console.meter() as meter:
        fit(
            run,
            network,
            cases["train"],
            cases["val"],
            seed=request.seed,
            device=request.device,
            precision=request.precision,
            workers=request.workers,
            max_seconds=request.max_seconds,
            resume=resume,
            report=meter,
        )


def _validate(run: Run, data: Dataset, parts: Splits, request: _Request, console: Console) -> None:
    """Predict the validation cases with the final weights and evaluate them."""
    if not parts.val:
        return
    shutil.rmtree(run.validation, ignore_errors=True)
    cases = data.select(parts.val).cases
    prediction = predict_cases(
        Predictor([run], device=request.device),
        cases,
        run.validation,
        load=data.load_image,
        progress=partial(console.track, text="predicting validation cases"),
    )
    result = evaluate(
        request.dataset,
        run.validation,
        run.validation / "metrics.json",
        foreground=request.foreground,
        splits=run.path / "splits.json",
        split="val",
        images={case.name: case.images for case in cases},
    )
    console.say(f"validation: mean Dice {result.mean_dice:.3f} over {len(parts.val)} cases")
    if problems := [*prediction.problems, *map(str, result.problems)]:
        raise DeconvsegError(f"{len(problems)} validation cases failed, first: {problems[0]}")


def load_pretrained(network: Any, run: Run) -> str:
    """Copy into the network the weights of another run that have the same names and shapes; return what was done."""
    own, other = network.state_dict(), run.load_weights()
    fitting = {name: tensor for name, tensor in other.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise InputError(f"--pretrained {run.path}: none of its {len(other)} tensors fits the planned network")
    network.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    return f"pretrained: {len(fitting)} of {len(own)} tensors from {run.path}" + (
        f"; new: {', '.join(fresh[:4])}" if fresh else ""
    )


def _seed(seed: int) -> None:
    import torch

    torch.manual_seed(seed)


def _data_hashes(dataset: Dataset) -> dict[str, str]:
    """Return the SHA-256 of every file that the run learns from."""

    def files(case: Case) -> list[Path]:
        return [*case.images, *([case.label] if case.label else [])]

    return {str(path): file_sha256(path) for case in dataset.cases for path in files(case)}
