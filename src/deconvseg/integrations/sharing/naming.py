"""Names of cases, which may identify patients, taken out of what leaves the computer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from deconvseg.data import case_stem
from deconvseg.options import CrossvalOptions, TrainOptions, declared_options
from deconvseg.planning import Plan
from deconvseg.runs import Run

_LEFT_OUT = "…"


class CaseNames:
    """The names of all cases of a run, which are replaced in free texts by an ellipsis.

    Such texts are commands, patterns, warnings and reasons. Numbers, versions, labels and keys are no free texts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # Longer names first: one may begin with another.
        known = sorted({name for name in names if name}, key=lambda name: (-len(name), name))
        parts = [_pattern_of(name) for name in known]
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)") if parts else None

    @classmethod
    def of(cls, run: Run) -> CaseNames:
        """Return the names in a run's splits, the excluded ones, and those of its data files."""
        names = [name for part in splits_of(run).values() for name in part]
        names += run.plan.excluded
        for file in run.manifest.get("data", {}):
            name = str(file).rpartition("/")[2]
            names += [name, case_stem(name)]
        return cls(names)

    def remove(self, text: str) -> str:
        """Return a text without the names."""
        return text if self._pattern is None else self._pattern.sub(_LEFT_OUT, text)

    def remove_from_command(self, command: str) -> str:
        """Return a command without the names; options that take numbers keep them."""
        parts = _numbered_options().split(command)
        return "".join(part if place % 2 else self.remove(part) for place, part in enumerate(parts))

    def remove_from_patterns(self, patterns: Any) -> Any:
        """Return the patterns of files, which are one text or several, without the names."""
        if isinstance(patterns, str):
            return self.remove(patterns)
        if isinstance(patterns, Mapping):
            return {key: self.remove_from_patterns(value) for key, value in patterns.items()}
        return [self.remove_from_patterns(value) for value in patterns] if isinstance(patterns, list) else patterns

    def remove_from_plan(self, plan: Plan) -> Plan:
        """Return a plan without names of cases; the excluded cases are left out."""
        return plan.model_copy(
            update={
                "excluded": {},
                "warnings": tuple(self.remove(text) for text in plan.warnings),
                "reasons": {key: self.remove(text) for key, text in plan.reasons.items() if key != "excluded"},
                "chosen": {key: value for key, value in plan.chosen.items() if key != "excluded"},
            }
        )


def splits_of(run: Run) -> Mapping[str, Any]:
    """Return the splits of a run; none if the file was removed, without which a run predicts too."""
    return run.splits if (run.path / "splits.json").exists() else {}


def _pattern_of(name: str) -> str:
    """Return the regular expression of a name; a name of digits is not a part of a decimal number."""
    return rf"(?<!\d\.){name}(?!\.\d)" if name.isdecimal() else re.escape(name)


@cache
def _numbered_options() -> re.Pattern[str]:
    """Return the regular expression, with one group, of a training's option with its number."""
    flags = {
        flag
        for kind in (TrainOptions, CrossvalOptions)
        for name, option, _ in declared_options(kind)
        if "number" in option.kind.wanted
        for flag in option.names or (name.replace("_", "-"),)
    }
    return re.compile(rf"((?<!\S)--(?:{'|'.join(sorted(flags))})[ =]\d[\w.+-]*(?!\S))")
