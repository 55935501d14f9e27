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
    "a threshold that was chosen on these cases scores better on them than on new ones: judge it on test cases, which "
    "chose nothing"
)


@options.takes(ThresholdOptions)
def threshold(
    reset: Annotated[bool, typer.Option("--reset", help="Remove the chosen threshold.")] = False,
    json: options.Json = False,
    **asked: Any,
) -> None:
    """Show Dice, sensitivity and precision against the threshold, and choose the one that predict takes.

    The figures are of a run's validation cases; of a cross-validation, of each case by the fold that did not see it.
    """
    from deconvseg.errors import InputError
    from deconvseg.evaluation import read_operating_points
    from deconvseg.evaluation.threshold import choose_threshold, needed_operating_points, reset_threshold
    from deconvseg.runs import Run, read_threshold

    run = Path(asked["run"])
    choosing = any(value is not None for name, value in asked.items() if name != "run")
    if reset and choosing:
        raise InputError("`reset` forgets what was chosen; leave it or the choice out")
    Run.open(run)
    if reset:
        forgotten = reset_threshold(run)
        echo(f"{run}: {'the chosen threshold is forgotten' if forgotten else 'no threshold was chosen'}")
    chosen = choose_threshold(**asked) if choosing else read_threshold(run)
    # A number can be chosen without figures.
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
        where = "validation cases" if points.source == "validation" else "cases, each by the fold that did not see it"
        for structure in points.structures:
            _print_structure(points, structure, chosen, f"{structure.name}: {points.cases} {where}")
        echo("Dice: mean over cases. Sensitivity and precision: voxels of all cases together.")
        if any(structure.many_lesions for structure in points.structures):
            echo("found: of the true lesions. les. prec.: found / (found + false). false/case: lesions.")
        for text in points.left_out:
            warn(f"not in these figures: {text}")
    if chosen is None:
        echo(f"{run}: no threshold is chosen; predict takes the largest probability")
    else:
        echo(f"{run}: predict takes the threshold {format_threshold(chosen.threshold)} ({chosen.how})")


def _print_structure(
    points: "OperatingPoints", structure: "StructurePoints", chosen: "ChosenThreshold | None", title: str
) -> None:
    from deconvseg.evaluation import table_rows

    own = None if chosen is None else chosen.of(structure.name, at_half=structure.at_half)
    heads = ["threshold", "Dice", "sens.", "prec."]
    keys = ["dice", "sensitivity", "precision"]
    if structure.many_lesions:
        heads += ["found", "les. prec.", "false/case"]
        keys += ["lesion_sensitivity", "lesion_precision", "false_per_case"]
    rows = []
    for row in table_rows(points, structure, [] if own is None else [own]):
        marks = [
            word
            for word, told in (("best", row["best"]), ("chosen", own is not None and row["threshold"] == own))
            if told
        ]
        name = "default" if row["threshold"] is None else f"{row['threshold']:g}"
        cells = ["–" if row[key] is None else f"{row[key]:.3f}" for key in keys]
        rows.append([name, *cells, ", ".join(marks)])
    print_table(title, [*heads, ""], rows)
