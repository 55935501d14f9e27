"""Names of cases, which may identify patients, taken out of what leaves the computer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from deconvseg.planning import Plan
from deconvseg.runs import Run

_LEFT_OUT = "…"


class CaseNames:
    """The names of all cases of a run, which are replaced in texts by an ellipsis."""

    def __init__(self, names: Iterable[str]) -> None:
        # Longer names first: one may begin with another.
        parts = sorted({re.escape(name) for name in names if name}, key=lambda part: (-len(part), part))
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(parts)})(?!\w)") if parts else None

    @classmethod
    def of(cls, run: Run) -> CaseNames:
        """Return the names in a run's splits, the excluded ones, and those of its data files."""
        names = [name for part in splits_of(run).values() for name in part]
        names += run.plan.excluded
        for file in run.manifest.get("data", {}):
            names += _names_of_file(str(file))
        return cls(names)

    def remove(self, text: str) -> str:
        """Return a text without the names."""
        return text if self._pattern is None else self._pattern.sub(_LEFT_OUT, text)

    def remove_all(self, tree: Any) -> Any:
        """Return JSON values without the names in any text."""
        if isinstance(tree, str):
            return self.remove(tree)
        if isinstance(tree, Mapping):
            return {self.remove(str(key)): self.remove_all(value) for key, value in tree.items()}
        return [self.remove_all(value) for value in tree] if isinstance(tree, list | tuple) else tree

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


def _names_of_file(file: str) -> list[str]:
    """Return the name of a file without its folder, and that without its suffix."""
    name = file.rpartition("/")[2]
    return [name, name.partition(".")[0]]
