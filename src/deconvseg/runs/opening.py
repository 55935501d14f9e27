"""Open finished runs and cross-validations, and load their networks."""

from os import PathLike
from typing import TYPE_CHECKING

from deconvseg.data import read_json
from deconvseg.errors import InputError, check_choice
from deconvseg.runs.folder import FOLDS, Run
from deconvseg.runs.locating import locate
from deconvseg.runs.origin import describe_run
from deconvseg.runs.weight_files import WeightsChoice, file_of
from deconvseg.system import choose_device

if TYPE_CHECKING:
    from deconvseg.models import Network


def load_network(run: str | PathLike[str], which: WeightsChoice = "best", *, device: str = "auto") -> "Network":
    """Return the trained network of a run, in evaluation mode: a module from images to logits.

    ``run`` is a folder, a packed run, ``hf://ORG/NAME`` or ``pretrained:NAME`` (:func:`deconvseg.runs.locate`).

    ``which`` selects the weights: "best" by validation Dice (the final ones of a run without validation), or "final",
    which :func:`deconvseg.predict` uses unless the recipe chooses the best ones. ``device`` is auto, cpu, cuda, cuda:N
    or mps. The input (B, C, *S) must be on the grid of the run's plan and normalised by it, with S a multiple of
    ``network.size_multiple``; the logits are (B, K, *S). Raises :class:`~deconvseg.errors.InputError` if there is no
    run, and for missing or damaged weights.

    Example:
        >>> import torch
        >>> import deconvseg
        >>> network = deconvseg.load_network("RUN", device="cpu")
        >>> with torch.no_grad():
        ...     logits = network(torch.zeros(1, network.in_channels, 64, 64))
        >>> logits.shape
        torch.Size([1, 2, 64, 64])

    """
    check_choice(which, ("best", "final"), "which")
    return Run.open(locate(run)).network(which, choose_device(device))


def open_runs(path: str | PathLike[str]) -> tuple[Run, ...]:
    """Open a run, or the folds of a cross-validation; :class:`InputError` if one is not finished.

    ``path`` is a folder, or another model that :func:`locate` finds.

    Example:
        >>> from deconvseg.runs import open_runs
        >>> [run.plan.dataset for run in open_runs("RUN")]
        ['discs']

    """
    path = locate(path)
    if not (path / FOLDS).is_file():
        return (Run.open(path),)
    folds = [Run(path / f"fold_{fold}") for fold in range(len(read_json(path / FOLDS)))]
    missing = [run.path.name for run in folds if not ((run.path / "plan.json").is_file() and run.finished)]
    if missing:
        raise InputError(
            f"{path}: {', '.join(missing)} of {len(folds)} folds did not finish; continue with "
            f"the cross-validation (`resume=True`), or give the finished folds one by one ({path / 'fold_K'})"
        )
    return tuple(folds)


def record_weights(run: Run) -> dict[str, str | None]:
    """Return the choice of the weights that a run is evaluated with ("final" or "best"), their file and SHA-256.

    Raises :class:`~deconvseg.errors.InputError` if the recipe chooses the best weights and the run has none.

    Example:
        >>> from deconvseg.runs import Run, record_weights
        >>> recorded = record_weights(Run.open("RUN"))
        >>> recorded["choice"], recorded["file"]
        ('final', 'weights.safetensors')

    """
    which = run.choose_weights()
    return {"choice": which, "file": file_of(which), "sha256": describe_run(run, which)["weights_sha256"]}


def weights_of(path: str | PathLike[str], which: WeightsChoice | None = None) -> tuple[str | None, ...]:
    """Return the SHA-256 of the weights of a run, or of each fold of a cross-validation.

    ``which`` are the "final" or the "best" ones, by default those that the recipe chooses.

    Example:
        >>> from deconvseg.runs import weights_of
        >>> [len(digest) for digest in weights_of("RUN")]
        [64]

    """
    return tuple(describe_run(run, which)["weights_sha256"] for run in open_runs(path))
