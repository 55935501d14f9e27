"""What the page of a run is made of: one list of sections, in the order of the page.

A section is a function of a :class:`Report` that gives any number of :class:`Section`, none where there is nothing to
show. To add one, write the function, a template in ``templates/`` for its content, and its place in ``SECTIONS``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from deconvseg.reporting.curves import draw_curves
from deconvseg.reporting.facts import describe_origin, describe_plan, describe_training, flatten, is_hash
from deconvseg.reporting.records import EvaluationRecord, RunRecord
from deconvseg.reporting.rendering import Section
from deconvseg.reporting.sections import describe_evaluation
from deconvseg.reporting.style import figure_uri


@dataclass(frozen=True)
class Report:
    """What a page about a run is made of; ``gaps`` says what was missing or unreadable, one line each."""

    run: RunRecord
    evaluations: Sequence[EvaluationRecord]
    gaps: Sequence[str]

    @cached_property
    def described(self) -> list[dict[str, Any]]:
        """What the page shows of each evaluation."""
        return [describe_evaluation(record) for record in self.evaluations]


def _evaluations(report: Report) -> Iterator[Section]:
    for number, described in enumerate(report.described, 1):
        yield Section(f"evaluation-{number}", described["title"], "evaluation", {"e": described})


def _training(report: Report) -> Iterator[Section]:
    if rows := report.run.metrics:
        curves = figure_uri(draw_curves(rows))
        yield Section("training", "Training", "training", {"training": describe_training(rows), "curves": curves})


def _plan(report: Report) -> Iterator[Section]:
    plan = report.run.plan
    if rows := describe_plan(plan):
        parts = {key: plan[key] for key in ("model", "recipe") if key in plan}
        content = {"plan": rows, "doubts": plan.get("warnings") or [], "details": list(flatten(parts))}
        yield Section("plan", "Plan", "plan", content)


def _origin(report: Report) -> Iterator[Section]:
    manifest = report.run.manifest
    content = {
        "command": manifest.get("command"),
        "origin": describe_origin(manifest),
        "config": list(flatten(report.run.config)),
        "hashes": [pair for pair in flatten(manifest) if is_hash(pair[1])],
    }
    if any(content.values()):
        yield Section("origin", "How it was made", "origin", content)


def _reading(report: Report) -> Iterator[Section]:
    if described := report.described:
        content = {
            "meanings": dict.fromkeys(text for each in described for text in each["meanings"]),
            "empty_masks": list({str(each["empty_masks"]): each["empty_masks"] for each in described}.values()),
        }
        yield Section("reading", "How to read the numbers", "reading", content)


SECTIONS: tuple[Callable[[Report], Iterator[Section]], ...] = (
    _evaluations,
    _training,
    _plan,
    _origin,
    _reading,
)
