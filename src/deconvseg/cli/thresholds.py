"""``deconvseg threshold``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deconvseg.cli import options
from deconvseg.cli.console import echo, print_json, print_table, warn
from deconvseg.options import ThresholdOptions

if TYPE_CHECKING:
    from deconvseg.evaluation import OperatingPoints
    from deconvseg.evaluation.operating import StructurePoints
    from deconvseg.runs import ChosenThreshold

_OPTIMISTIC = (
    "a threshold chosen on these cases scores better on them than on new cases: judge it on test cases, which "
    "chose nothing"
)


@options.takes(ThresholdOptions)
def threshold(
    reset: Annotated[bool, typer.Option("--reset", help="Remove the chosen threshold.")] = False,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Show Dice, sensitivity and precision by threshold, and choose the threshold of predict.

    The figures are for the validation cases of a run, or the out-of-fold predictions of a cross-validation.
    """
    from deconvseg.errors import InputError
    from deconvseg.evaluation import read_operating_points
    from deconvseg.evaluation.threshold import choose_threshold, needed_operating_points, reset_threshold
    from deconvseg.runs import Run, read_threshold

    run = Path(asked["run"])
    choosing = any(value is not None for name, value in asked.items() if name != "run")
    if reset and choosing:
        raise InputError("`reset` removes the chosen threshold; give either `reset` or a choice")
    Run.open(run)
    if reset:
        forgotten = reset_threshold(run)
        echo(f"{run}: {'the chosen threshold is removed' if forgotten else 'no threshold was chosen'}")
    chosen = choose_threshold(**asked) if choosing else read_threshold(run)
    # A given number needs no figures.
    known = choosing or reset or chosen is not None
    points = read_operating_points(run) if known else needed_operating_points(run)
    if json:
        print_json({"chosen": chosen and chosen.model_dump(), "points": points and points.model_dump(mode="json")})
    else:
        _print(run, points, chosen)
    if choosing and points is not None:
        warn(_OPTIMISTIC)


def _print(run: Path, points: "OperatingPoints | None", chosen: "ChosenThreshold | None") -> None:
    from deconvseg.runs import format_threshold

    if points is not None:
        where = "validation cases" if points.source == "validation" else "cases (out-of-fold predictions)"
        for structure in points.structures:
            _print_structure(points, structure, chosen, f"{structure.name}: {points.cases} {where}")
        echo("Dice: mean over cases. Sensitivity and precision: over the voxels of all cases.")
        if any(structure.many_lesions for structure in points.structures):
            echo("found: share of true lesions. les. prec.: found / (found + false). false/case: false lesions.")
            echo("Lesions are counted at every 0.05; the other thresholds have – in these columns.")
            echo("Each separate piece of a mask counts as a lesion, a speck of one voxel too: a noisy mask has many.")
        for text in points.left_out:
            warn(f"not in these figures: {text}")
    if chosen is None:
        echo(f"{run}: no threshold is chosen; predict takes the class with the largest probability")
    else:
        echo(f"{run}: predict uses the threshold {format_threshold(chosen.threshold)} ({chosen.how})")


def _print_structure(
    points: "OperatingPoints", structure: "StructurePoints", chosen: "ChosenThreshold | None", title: str
) -> None:
    from deconvseg.evaluation import mark_row, table_rows

    own = None if chosen is None else chosen.of(structure.name, at_half=structure.at_half)
    heads = ["threshold", "Dice", "sens.", "prec."]
    keys = ["dice", "sensitivity", "precision"]
    if structure.many_lesions:
        heads += ["found", "les. prec.", "false/case"]
        keys += ["lesion_sensitivity", "lesion_precision", "false_per_case"]
    rows = []
    for row in table_rows(points, structure, [] if own is None else [own]):
        name = "default" if row["threshold"] is None else f"{row['threshold']:g}"
        cells = ["–" if row[key] is None else f"{row[key]:.3f}" for key in keys]
        rows.append([name, *cells, mark_row(row)])
    print_table(title, [*heads, ""], rows)
