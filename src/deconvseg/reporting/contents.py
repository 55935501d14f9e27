"""The sections of a run's page, listed in the order of the page.

A section is a function that takes a :class:`Report` and yields any number of :class:`Section`, none if it has nothing
to show. To add one, write the function and a template for its content in ``templates/``, and add it to ``SECTIONS``.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from deconvseg.data import class_colours
from deconvseg.reporting.curves import draw_curves
from deconvseg.reporting.facts import (
    describe_origin,
    describe_plan,
    describe_precision,
    describe_training,
    flatten,
    format_duration,
    is_hash,
)
from deconvseg.reporting.gallery import WORST, Album, Showing
from deconvseg.reporting.operating import doubt_sections, threshold_sections
from deconvseg.reporting.overview import advise, summarise_evaluation, tell_how_made, training_seconds
from deconvseg.reporting.records import EvaluationRecord, RunRecord
from deconvseg.reporting.rendering import Section
from deconvseg.reporting.sections import describe_evaluation
from deconvseg.reporting.style import figure_uri
from deconvseg.reporting.testing import tested_sections


@dataclass(frozen=True)
class Report:
    """The content of a run's page; ``gaps`` lists what was missing or unreadable, one line each."""

    run: RunRecord
    evaluations: Sequence[EvaluationRecord]
    gaps: Sequence[str]
    worst: int = WORST
    album: Album = field(default_factory=Album)

    @cached_property
    def colours(self) -> dict[str, str]:
        """The colour of each class by name: the classes of the run, then those that only evaluations have."""
        names = [name for record in self.evaluations for name in record.tree["labels"].values()]
        more = class_colours([*self.run.class_names, *(name for name in names if name not in self.run.colours)])
        return more | self.run.colours

    @cached_property
    def described(self) -> list[dict[str, Any]]:
        """The section of each evaluation."""
        return [
            describe_evaluation(record, self._show(number, record)) for number, record in enumerate(self.evaluations, 1)
        ]

    def _show(self, number: int, record: EvaluationRecord) -> Showing:
        channels = [each.get("name", "") for each in self.run.plan.get("channels") or ()]
        # Masks of another run may come from images with a different order of channels.
        own = record.path.resolve().is_relative_to(self.run.path.resolve())
        anchor = f"evaluation-{number}"
        return Showing(anchor, self.colours, channels if own else (), self.worst, self.album)


def _overview(report: Report) -> Iterator[Section]:
    run = report.run
    pairs = zip(report.evaluations, report.described, strict=True)
    facts = [
        ("Training cases", len(run.splits.get("train", ()))),
        ("Validation cases", len(run.splits.get("val", ()))),
        ("Held-out test cases", len(run.splits.get("test", ()))),
        ("Training time", format_duration(seconds) if (seconds := training_seconds(run)) else 0),
    ]
    content = {
        "made": tell_how_made(run),
        "evaluations": [summarise_evaluation(*pair, report.colours) for pair in pairs],
        "facts": [(name, value) for name, value in facts if value],
    }
    yield Section("overview", "In brief", "overview", content)


def _next_steps(report: Report) -> Iterator[Section]:
    steps = advise(report.run, report.evaluations, report.described)
    yield Section("next", "What to do next", "next_steps", {"steps": steps, "run": report.run.path.absolute().name})


def _evaluations(report: Report) -> Iterator[Section]:
    for described in report.described:
        anchor = described["anchor"]
        parts = [("gallery", "pictures")] if described["panels"] else []
        parts += [("cases", "all cases")] if described["cases"] else []
        links = tuple((f"{anchor}-{part}", name) for part, name in parts)
        yield Section(anchor, described["title"], "evaluation", {"e": described}, links)


def _tests(report: Report) -> Iterator[Section]:
    yield from tested_sections(report.evaluations, report.colours)


def _thresholds(report: Report) -> Iterator[Section]:
    yield from threshold_sections(report.run.path)
    yield from doubt_sections(report.run.path, report.evaluations)


def _training(report: Report) -> Iterator[Section]:
    if rows := report.run.metrics:
        curves = figure_uri(draw_curves(rows, report.colours))
        facts = {**describe_training(rows), **describe_precision(report.run.path)}
        yield Section("training", "Training", "training", {"training": facts, "curves": curves})


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
    _overview,
    _evaluations,
    _tests,
    _thresholds,
    _next_steps,
    _training,
    _plan,
    _origin,
    _reading,
)
