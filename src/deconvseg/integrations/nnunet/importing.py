"""Runs made of trained models of nnU-Net v2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from deconvseg.data import file_sha256
from deconvseg.errors import InputError
from deconvseg.integrations.importing.checkpoints import read_checkpoint, tensors_of, without_prefix
from deconvseg.integrations.importing.runs import Trained, write_folds, write_run
from deconvseg.integrations.nnunet.architectures import Architecture, architecture_of
from deconvseg.integrations.nnunet.results import Fold, Results
from deconvseg.integrations.nnunet.translating import is_flat, labels_of, translate
from deconvseg.options import takes
from deconvseg.options.importing import NNUNetImportOptions
from deconvseg.planning import Plan
from deconvseg.progress import choose_console, each
from deconvseg.runs import Run
from deconvseg.text import number_of

_WITHOUT_NETWORK = "the weights fit the network of plans.json, which is taken for that of the trainer"


class _Trainer(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    configuration: str


class _Logging(BaseModel):
    """What a training recorded, a number per epoch."""

    train_losses: list[float] = []
    val_losses: list[float] = []
    lrs: list[float] = []
    mean_fg_dice: list[float] = []


class _Head(BaseModel):
    """The entries of a checkpoint beside its weights."""

    model_config = ConfigDict(extra="ignore", strict=True)

    network_weights: Any
    init_args: _Trainer
    trainer_name: str
    current_epoch: int
    # Checkpoints of early versions say nothing about mirroring, and nnU-Net then predicts without it.
    inference_allowed_mirroring_axes: Sequence[Annotated[int, Field(ge=0, le=2)]] | None = None
    logging: _Logging | None = None


@dataclass(frozen=True)
class Checkpoint:
    """What is taken of a checkpoint of nnU-Net."""

    weights: Mapping[str, Tensor]
    configuration: str
    trainer: str
    epoch: int
    mirrored: tuple[int, ...]
    logging: _Logging

    @classmethod
    def read(cls, path: Path) -> Checkpoint:
        """Read a checkpoint; :class:`~deconvseg.errors.InputError` names what is missing or of another kind."""
        tree = read_checkpoint(path)
        try:
            head = _Head.model_validate(tree)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            what = ".".join(map(str, first["loc"])) or f"a {type(tree).__name__}"
            found = f"it has no {what!r}" if first["type"] == "missing" else f"{what}: {first['msg']}"
            raise InputError(f"{path}: not a checkpoint of nnU-Net v2: {found}; give its results") from error
        return cls(
            without_prefix(tensors_of(head.network_weights, f"{path}: network_weights"), "module."),
            head.init_args.configuration,
            head.trainer_name,
            head.current_epoch,
            tuple(head.inference_allowed_mirroring_axes or ()),
            head.logging or _Logging(),
        )


@takes(NNUNetImportOptions)
def import_nnunet(asked: NNUNetImportOptions) -> tuple[Run, ...]:
    """Make a run of a trained model of nnU-Net v2, whose masks are those of ``nnUNetv2_predict``.

    All numbered folds with a final checkpoint are taken, or the given ``folds`` (``"all"``: the one of all cases). One
    fold becomes a run, several a folder that :func:`deconvseg.predict` takes as the mean of their logits, as nnU-Net
    does.

    Plans are JSON, and checkpoints are read without objects that run code; no class or function is loaded by its name.
    nnU-Net's post-processing, which its prediction does not apply either, is left out. nnU-Net itself is not needed;
    dynamic-network-architectures builds the network (``pip install 'deconvseg[nnunet]'``).

    Raises :class:`~deconvseg.errors.InputError` for a damaged checkpoint, missing folds, plans that name code of their
    own, cascades, and an ``output`` that holds something else.

    Example:
        >>> from deconvseg.integrations import import_nnunet
        >>> runs = import_nnunet("nnUNetTrainer__nnUNetPlans__3d_fullres", "imported")  # doctest: +SKIP

    """
    folder, console = Path(asked.results), choose_console(asked.console)
    opened = Results.open(folder, asked.folds)
    into = Path(folder.absolute().name if asked.output is None else asked.output)
    several = len(opened.folds) > 1
    Run(into).check_free()
    if into.resolve().is_relative_to(folder.resolve()) or (several and into.exists() and any(into.iterdir())):
        raise InputError(f"{into}: is not empty, or in the results; choose another folder for the run (`output`)")
    read = [
        Checkpoint.read(fold.final)
        for fold in each(opened.folds, "reading checkpoints", console, lambda fold: f"fold {fold.name}")
    ]
    # The first fold decides, as in nnU-Net.
    plan, architecture = _plan_of(opened, read[0])
    trained = [_trained(opened, *pair, architecture) for pair in zip(opened.folds, read, strict=True)]
    places = [into / f"fold_{number}" if several else into for number in range(len(trained))]
    runs = tuple(write_run(place, plan, one) for place, one in zip(places, trained, strict=True))
    if several:
        write_folds(into, plan, trained)
    for line in _notes(opened, runs):
        console.say(line)
    return runs


def _plan_of(results: Results, checkpoint: Checkpoint) -> tuple[Plan, Architecture]:
    where = str(results.folder / "plans.json")
    configuration = results.configuration(checkpoint.configuration)
    labels = labels_of(results)
    outputs = len(labels["labels"]["values"] if labels["regions"] is None else labels["regions"])
    dims = 2 if is_flat(results) else 3
    channels = len(results.labels.channel_names)
    architecture = architecture_of(configuration, channels, outputs, dims, where)
    plan = translate(results, checkpoint.configuration, checkpoint.mirrored, architecture.model, checkpoint.epoch)
    return plan, architecture


def _trained(results: Results, fold: Fold, checkpoint: Checkpoint, architecture: Architecture) -> Trained:
    """Return the weights of a fold, the best ones too if it has them, and where they come from."""
    best = None
    if fold.best is not None:
        best = architecture.weights(Checkpoint.read(fold.best).weights, str(fold.best))
    parts = _cases(results, fold)
    origin = {
        "fold": int(fold.name) if fold.name.isdecimal() else None,
        "epochs": checkpoint.epoch,
        "imported": {
            "from": "nnU-Net v2",
            "results": results.folder.absolute().name,
            "fold": fold.name,
            "trainer": checkpoint.trainer,
            "plans": results.plans.plans_name,
            "configuration": checkpoint.configuration,
            "checkpoint": fold.final.name,
            "checkpoint_sha256": file_sha256(fold.final),
            "mirrored_axes": list(checkpoint.mirrored),
        },
    }
    weights = architecture.weights(checkpoint.weights, f"{fold.final} (trainer {checkpoint.trainer})")
    return Trained(weights, best, origin, _metrics(checkpoint), parts["train"], parts["val"])


def _cases(results: Results, fold: Fold) -> dict[str, list[str]]:
    """Return the cases of a fold, as far as the masks of the validations tell them."""
    others = {case for other in results.folds if other != fold for case in other.validated}
    return {"train": sorted(others - set(fold.validated)), "val": fold.validated}


def _metrics(checkpoint: Checkpoint) -> list[dict[str, float | int | None]]:
    """Return the losses and learning rates of the epochs; nnU-Net's Dice of patches is called ``patch_dice``."""
    log = checkpoint.logging
    rows: list[dict[str, float | int | None]] = []
    values = zip(log.train_losses, log.val_losses, log.lrs, log.mean_fg_dice, strict=False)
    for epoch, (train, val, rate, dice) in enumerate(values):
        if epoch == checkpoint.epoch:
            break
        row = {"train_loss": train, "val_loss": val, "learning_rate": rate, "patch_dice": dice}
        rows.append({"epoch": epoch, **row, "val_dice": None})
    return rows


def _notes(results: Results, runs: Sequence[Run]) -> list[str]:
    """Return what a reader should know about an import."""
    origin = runs[0].config["imported"]
    names = ", ".join(fold.name for fold in results.folds)
    lines = [
        f"{number_of(len(runs), 'fold')} ({names}) of {origin['trainer']}, {origin['configuration']}, "
        f"{origin['plans']}: {runs[0].plan.dataset}"
    ]
    if origin["trainer"] != "nnUNetTrainer":
        lines.append(f"trainer {origin['trainer']}: {_WITHOUT_NETWORK}")
    found = sorted(path for path in results.folder.glob("crossval_results_folds_*/postprocessing.*"))
    if found:
        lines.append(
            f"{found[0].parent.name}: its post-processing is left out, as nnUNetv2_predict does; a pickle is not read"
        )
    return lines
