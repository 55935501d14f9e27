"""The masks that other processes are expected to make, and those that exist after one has died."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deconvseg.data import Case
from deconvseg.inference.keeping import retire
from deconvseg.inference.mask_formats import MaskFormat
from deconvseg.inference.masks import EMPTY
from deconvseg.inference.placing import mask_paths
from deconvseg.inference.records import Prediction, Records
from deconvseg.planning import Plan
from deconvseg.runs import file_sha256


class ExpectedMasks:
    """The masks of some cases in a folder, before they are made."""

    def __init__(self, plan: Plan, cases: Sequence[Case], output: Path, bids: bool, masks: MaskFormat) -> None:
        self.output = output
        self.paths = mask_paths(plan, cases, output, bids, masks)
        self._before = {name: _stamp(path) for name, path in self.paths.items()}

    def made(self, names: Sequence[str]) -> Prediction:
        """Return those of the cases whose masks were made and recorded since."""
        done, records = Prediction(), Records(self.output)
        for name in names:
            path = self.paths[name]
            record = records[path]
            if record is None or _stamp(path) in (None, self._before[name]) or file_sha256(path) != record.sha256:
                continue
            done.written.append(path)
            done.threshold = record.threshold
            if record.doubt is not None:
                done.doubts[name] = record.doubt
            if record.warnings:
                done.remarks[name] = list(record.warnings)
            if EMPTY in record.warnings:
                done.empty.append(path)
        return done

    def fail(self, name: str, problem: str) -> Prediction:
        """Return the problem of a case without a mask; its earlier mask is renamed."""
        earlier = retire(self.paths[name])
        moved = "" if earlier is None else f"; its earlier mask is now {earlier}"
        return Prediction(problems=[f"{name}: {problem}{moved}"])


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return a value that changes when a file is replaced; None without a file."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns
