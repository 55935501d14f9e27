"""The first screen of a report, and the suggested next steps."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deconvseg.evaluation.operating import OPERATING_POINTS
from deconvseg.reporting.class_tables import format_interval, format_number
from deconvseg.reporting.facts import format_duration
from deconvseg.reporting.records import EvaluationRecord, RunRecord

# The most classes with a card on the first screen; the others are in the table.
_MOST_CLASSES = 6
# With at most this many cases, the first screen lists all instead of the worst.
_MOST_LISTED = 5
# A mean over fewer cases is not reliable.
_FEW_CASES = 20
# If the best epoch is within this last share of the training, validation Dice had not levelled off.
_LAST_SHARE = 0.1


def tell_how_made(run: RunRecord) -> str:
    """Return a sentence about the network, its training data and the time of training."""
    name = run.plan.get("model", {}).get("name") or "A network"
    dims = run.plan.get("spatial_dims")
    dataset = run.plan.get("dataset")
    channels = [each.get("name", "") for each in run.plan.get("channels") or ()]
    text = f"{name}{f' in {dims}D' if dims else ''}"
    if dataset:
        text += f", trained on {dataset}"
    if channels:
        text += f" (image channels: {', '.join(channels)})"
    if count := len(run.splits.get("train", ())):
        text += f", {count} training case{'' if count == 1 else 's'}"
    if seconds := training_seconds(run):
        text += f", in {format_duration(seconds)}"
    return text + "."


def training_seconds(run: RunRecord) -> float:
    """Return the seconds of training, summed over folds; 0 if they are not recorded."""
    last = [rows[-1] for rows in (run.metrics, *run.folds) if rows]
    return sum(float(row["seconds"]) for row in last if row.get("seconds") is not None)


def summarise_evaluation(
    record: EvaluationRecord, described: Mapping[str, Any], colours: Mapping[str, str]
) -> dict[str, Any]:
    """Return what the first screen shows of an evaluation: number of cases, Dice by class, worst cases."""
    summary, leading = record.tree["summary"], record.metrics[0]
    counts, title = record.tree["counts"], described["title"]
    rows = [row for row in summary["classes"].values() if row["counted"]]
    sentence = f"{title}: {counts['evaluated']} case{'' if counts['evaluated'] == 1 else 's'}"
    if summary["mean"]:
        mean = summary["mean"][leading.key]
        sentence += f", mean {leading.title} {format_number(mean['mean'], leading.digits)}"
        if interval := format_interval(mean, leading.digits):
            sentence += f" (95 % CI {interval})"
    panels = described["panels"]
    if all_shown := len(panels) == counts["evaluated"] <= _MOST_LISTED:
        worst = panels
    else:
        worst = [panel for panel in panels if panel["rank"] == "Worst" or panel["rank"].endswith(" worst")][:3]
    problems = len(described["problems"])
    return {
        "anchor": described["anchor"],
        "sentence": sentence + ".",
        "seen": described["seen"],
        "classes": [
            {
                "name": row["name"],
                "colour": colours.get(row["name"], ""),
                "mean": format_number(row[leading.key]["mean"], leading.digits),
                "interval": format_interval(row[leading.key], leading.digits),
                "missed": f"{row['missed']} of {row['cases_with_truth']} missed",
            }
            for row in rows[:_MOST_CLASSES]
        ],
        "more": max(len(rows) - _MOST_CLASSES, 0),
        "worst_title": f"Cases, lowest {leading.title} first" if all_shown else "Worst cases",
        "worst": [{"name": panel["name"], "anchor": panel["anchor"], "dice": panel["values"][0]} for panel in worst],
        "problems": f"{problems} of {counts['cases']} cases could not be evaluated." if problems else "",
    }


def advise(
    run: RunRecord, evaluations: Sequence[EvaluationRecord], described: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """Return the next steps, each with its reason in these results and the name of a command, if any."""
    own = [record for record in evaluations if not record.foreign]
    return [
        *(step for each in described[:1] for step in _look_at(run, each)),
        *_train_longer(run),
        *_evaluate_held_out(run, own),
        *_cross_validate(run, own),
        {
            "what": "Predict new scans.",
            "why": "The masks are written on the grids of the scans.",
            "command": "predict",
        },
    ]


def _look_at(run: RunRecord, described: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Yield what to look at in an evaluation: its worst cases and the missed structures."""
    if described["panels"]:
        yield {
            "what": "Look at the worst cases.",
            "why": "Check whether the prediction or the true mask is wrong, or the image is unlike the others.",
            "link": f"{described['anchor']}-gallery",
        }
    if missed := described["counts"]["missed"]:
        of = described["counts"]["with_truth_masks"]
        step = {
            "what": f"{missed} of {of} structures were missed.",
            "why": "The column Missed of the table of cases names them.",
            "link": f"{described['anchor']}-cases",
        }
        if (run.path / OPERATING_POINTS).is_file():
            step["why"] += " A lower threshold finds more and causes more false alarms."
            step["command"] = "threshold"
        yield step


def _train_longer(run: RunRecord) -> Iterator[dict[str, str]]:
    if late := _still_rising(run.metrics):
        yield {
            "what": "Train longer.",
            "why": f"The best validation Dice came in epoch {late[0]} of {late[1]}; it may still have been rising.",
            "command": "train",
        }


def _evaluate_held_out(run: RunRecord, own: Sequence[EvaluationRecord]) -> Iterator[dict[str, str]]:
    held_out = len(run.splits.get("test", ()))
    if held_out and not any(record.tree.get("split") == "test" or record.tree.get("test") for record in own):
        yield {
            "what": f"Evaluate the {held_out} held-out case{'' if held_out == 1 else 's'}.",
            "why": "They took no part in this run; validation cases chose the best weights.",
            "command": "evaluate",
        }


def _cross_validate(run: RunRecord, own: Sequence[EvaluationRecord]) -> Iterator[dict[str, str]]:
    evaluated = max((record.tree["counts"]["evaluated"] for record in own), default=0)
    if 0 < evaluated < _FEW_CASES and not run.folds:
        yield {
            "what": "Cross-validate.",
            "why": f"{evaluated} case{'' if evaluated == 1 else 's'} say little about new cases; "
            "a cross-validation scores all cases, each by a network that was not trained on it.",
            "command": "crossval",
        }


def _still_rising(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Return the best epoch and the number of epochs if the best of several validations is among the last."""
    scored = [(row["val_dice"], row["epoch"] + 1) for row in rows if row.get("val_dice") is not None]
    if len(scored) < 3:
        return None
    _, best = max(scored)
    last = rows[-1]["epoch"] + 1
    return (best, last) if best > (1 - _LAST_SHARE) * last else None
