"""Warnings about scores that are less meaningful than they look, one line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from deconvseg.data import is_dataset, list_names, open_dataset
from deconvseg.errors import InputError
from deconvseg.evaluation.empty_masks import Policy
from deconvseg.evaluation.evaluation import CaseMetrics
from deconvseg.evaluation.storage import describe_aligned


def caution(cases: Sequence[CaseMetrics], known: Set[int], unmatched: Sequence[str], empty: Policy) -> Iterator[str]:
    """Yield the warnings that follow from the cases.

    ``known`` are the requested or declared label values, ``unmatched`` the predictions without a true mask; ``empty``
    is the policy for empty masks.
    """
    scored = known | {value for case in cases for value in case.metrics}
    if known and (others := sorted(scored - known)):
        yield f"label values that the dataset does not declare were evaluated too: {list_names(others)}"
    # A class that only predictions have would score 1 wherever it is correctly absent, and raise every mean.
    if others := sorted({value for case in cases for value in case.predicted_labels} - scored):
        yield f"label values that only predictions have are not scored as classes: {list_names(others)}"
    yield from describe_aligned(cases)
    if unmatched:
        yield f"predictions without a truth were left out: {list_names(unmatched)}; add true masks, or remove them"
    yield from _caution_of_copies(cases)
    yield from caution_of_emptiness(cases, empty)


def caution_of_dataset(truth: Path, *, ignore: bool, regions: bool) -> Iterator[str]:
    """Yield a warning if the masks belong to a dataset with declarations that the scores ignore.

    ``ignore`` and ``regions`` are true if an ignore label and regions are taken into account.
    """
    folder = truth if truth.is_dir() else truth.parent
    root = folder.parent
    if not (ignore or regions) or is_dataset(truth) or not is_dataset(root):
        return
    try:
        dataset = open_dataset(root)
    except InputError:
        # Only the folder was given, so an unreadable dataset around it is not an error.
        return
    if not any(case.label is not None and case.label.parent == folder for case in dataset.cases):
        return
    unknown = []
    if ignore and dataset.ignore_label is not None:
        unknown.append(f"the ignore label {dataset.ignore_label}")
    if regions and dataset.regions:
        unknown.append(f"the regions {list_names([region.name for region in dataset.regions])}")
    if unknown:
        yield (
            f"{root} declares {' and '.join(unknown)}, which its masks alone do not tell and these scores leave out of "
            f"account; give the dataset itself as the truth (`truth={str(root)!r}`)"
        )


def caution_of_region_files(unread: bool, prediction: Path) -> Iterator[str]:
    """Yield a warning if the files of regions of the predictions are not read, because labels are scored."""
    if unread:
        yield (
            f"{prediction}: each region has a file of its own, but the labels of the masks are scored, because the "
            "true masks declare no regions; give the run that predicted them (`run=RUN`)"
        )


def caution_of_emptiness(cases: Sequence[CaseMetrics], empty: Policy) -> Iterator[str]:
    """Yield a warning if all predictions, or all true masks, are empty."""
    rows = [row for case in cases for row in case.metrics.values()]
    true = sum(1 for row in rows if row["n_truth"])
    if cases and not true:
        scored = (
            "Dice has no value" if empty == "drop" else "a case scores 1 where nothing is predicted, and 0 elsewhere"
        )
        yield f"no true mask has any of the classes: {scored}"
    elif cases and not any(row["n_prediction"] for row in rows):
        right = 0 if empty == "drop" else sum(not case.has_truth(value) for case in cases for value in case.counted)
        healthy = f"; the mean counts {right} with nothing to find as right" if right else ""
        # The masks may contain other classes.
        blank = "is empty" if not any(case.predicted_labels for case in cases) else "lacks the scored classes"
        yield f"every prediction {blank}: {true} of {true} structures are missed{healthy}"


def _caution_of_copies(cases: Sequence[CaseMetrics]) -> Iterator[str]:
    same = [case.name for case in cases if _is_same_file(case)]
    if same:
        yield (
            f"{len(same)} of {len(cases)} predictions are the same file as their true mask ({list_names(same)}): masks "
            "are compared with themselves, and their scores say nothing; give the folder that predict wrote"
        )
        return
    rows = [row for case in cases for row in case.metrics.values()]
    if any(row["n_truth"] for row in rows) and not any(row["fp"] or row["fn"] for row in rows):
        yield (
            "every prediction is identical to its true mask, voxel by voxel: true masks may be compared with copies of "
            "themselves; check that these are the masks that predict wrote"
        )


def _is_same_file(case: CaseMetrics) -> bool:
    try:
        return case.truth_file.samefile(case.prediction_file)
    except OSError:
        # The file was deleted after it was read.
        return False
