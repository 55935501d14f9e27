"""The precision of later predictions, measured on the validation cases at the end of a training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from deconvseg.data import Case, Dataset, read_label_map
from deconvseg.evaluation import Evaluation, dice, evaluate
from deconvseg.inference import Predictor, predict_cases
from deconvseg.ops.precision import why_bfloat16_is_slow
from deconvseg.options import TrainOptions
from deconvseg.progress import Console, Quiet
from deconvseg.runs import LARGEST_LOSS, MeasuredPrecision, Precision, Run, name_precision, weights_of
from deconvseg.system import choose_device, processor_name, write_text
from deconvseg.text import dump_json, number_of
from deconvseg.training.loading import spread
from deconvseg.units import format_time

# The largest share of the training's time for this measurement.
_SHARE = 0.05
# A mean over fewer cases does not show a loss of 0.0005.
_FEWEST = 10
# The cases whose time says how many fit, after a first one that also prepares.
_TIMED_CASES = 3
# Windows are timed at least twice; small ones, whose times vary more, until the seconds or rounds are over.
_ROUNDS = (2, 10)
_TIMED_SECONDS = 1.0
_BOTH: tuple[Precision, Precision] = ("32", "bf16")


def measure_precision(
    run: Run, data: Dataset, cases: Sequence[Case], options: TrainOptions, console: Console
) -> MeasuredPrecision:
    """Compare bfloat16 with float32 on validation cases whose masks in float32 exist; return and write the choice.

    The comparison takes about 5 % of the time of the training: as many cases as fit, spread evenly over all of them. If
    fewer than 10 fit, there are fewer, or bfloat16 is not faster on the device, float32 is chosen and the reason says
    so.
    """
    device = choose_device(options.device)
    blank = MeasuredPrecision(
        choice="32",
        why="",
        device=device.partition(":")[0],
        processor=processor_name(),
        weights=weights_of(run.path),
    )
    why = _why_unmeasured(device, len(cases))
    found = _measure(run, data, cases, options, console, blank) if why is None else _unmeasured(blank, why)
    found.write(run.path)
    console.say(f"predict computes in {name_precision(found.choice)}: {found.why}")
    return found


def _why_unmeasured(device: str, cases: int) -> str | None:
    if why := why_bfloat16_is_slow(device):
        return why
    if cases < _FEWEST:
        return (
            f"{number_of(cases, 'validation case')} cannot show a loss of {LARGEST_LOSS:g} of the mean Dice "
            f"({_FEWEST} are needed)"
        )
    return None


def _unmeasured(blank: MeasuredPrecision, why: str) -> MeasuredPrecision:
    return blank.model_copy(update={"why": f"bfloat16 was not measured: {why}"})


def _measure(
    run: Run, data: Dataset, cases: Sequence[Case], options: TrainOptions, console: Console, blank: MeasuredPrecision
) -> MeasuredPrecision:
    """Return the measurement with the choice; without one if a case fails or too few fit into the time."""
    budget = _SHARE * (run.metrics[-1]["seconds"] if run.metrics else 0.0)
    start = time.monotonic()
    lowered = Predictor([run], device=choose_device(options.device), precision="bf16")
    times = _time_windows(run, Predictor([run], device=choose_device(options.device)), lowered)
    timed = blank.model_copy(update={"seconds": times})
    if times["bf16"] >= times["32"]:
        why = f"bfloat16 is not faster ({times['bf16']:.3g} s a window, float32 {times['32']:.3g} s)"
        return timed.model_copy(update={"why": why})
    with TemporaryDirectory(prefix="deconvseg-") as scratch:
        comparison = _Comparison(run, data, options, console, lowered, Path(scratch))
        first = spread(cases, 1 + _TIMED_CASES)
        comparison.predict(first[:1])
        # A single case may take longer than all of them should.
        each = comparison.predict(first[1:]) / _TIMED_CASES if time.monotonic() - start < budget else budget
        left = budget - (time.monotonic() - start)
        more = max(0, min(len(cases) - len(first), int(left / max(each, 1e-6))))
        if len(first) + more < _FEWEST:
            return _unmeasured(
                timed,
                f"fewer than {_FEWEST} of {len(cases)} cases fit into {format_time(budget)} ({_SHARE:.0%} of the "
                "training's time)",
            )
        known = {case.name for case in first}
        comparison.predict(spread([case for case in cases if case.name not in known], more))
        return comparison.choose(timed)


def _time_windows(run: Run, full: Predictor, lowered: Predictor) -> dict[Precision, float]:
    """Return the fastest of a few windows in each precision, in turn."""
    window = torch.rand(1, len(run.plan.channels), *run.plan.patch_size, device=full.device)
    engines = dict(zip(_BOTH, (full.engines[0], lowered.engines[0]), strict=True))
    times: dict[Precision, list[float]] = {precision: [] for precision in _BOTH}
    with torch.inference_mode():
        start_of_all = time.perf_counter()
        for done in range(1 + _ROUNDS[1]):
            if done > _ROUNDS[0] and time.perf_counter() - start_of_all > _TIMED_SECONDS:
                break
            for precision, engine in engines.items():
                start = time.perf_counter()
                # Copied, because an engine may write into its batch; a sum waits for the device.
                float(engine.logits(window.clone()).sum())
                times[precision].append(time.perf_counter() - start)
    # The first of each also prepares.
    return {precision: min(found[1:]) for precision, found in times.items()}


@dataclass
class _Comparison:
    """The masks of validation cases in bfloat16, written into ``folder``, beside those of the run in float32."""

    run: Run
    data: Dataset
    options: TrainOptions
    console: Console
    lowered: Predictor
    folder: Path
    cases: list[str] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)

    @property
    def masks(self) -> Path:
        return self.folder / "masks"

    def predict(self, cases: Sequence[Case]) -> float:
        """Predict cases in bfloat16 and return the seconds that it took."""
        start = time.monotonic()
        done = predict_cases(
            self.lowered,
            cases,
            self.masks,
            load=self.data.load_image,
            save_regions=self.run.plan.scored_by_region,
            console=Quiet(self.console),
        )
        self.cases += [case.name for case in cases]
        self.written += done.written
        return time.monotonic() - start

    def choose(self, timed: MeasuredPrecision) -> MeasuredPrecision:
        """Return the measurement with the choice by the masks of the predicted cases in both precisions."""
        splits = self.folder / "splits.json"
        write_text(splits, dump_json({"val": self.cases}))
        found = {precision: self._evaluate(where, splits) for precision, where in self._folders.items()}
        if failed := len(self.cases) - min(len(each.cases) for each in found.values()):
            return _unmeasured(timed, f"{number_of(failed, 'validation case')} could not be compared")
        scores = {precision: each.mean_dice for precision, each in found.items()}
        return _choose(timed, scores, len(self.cases), self._agreement())

    @property
    def _folders(self) -> dict[Precision, Path]:
        return {"32": self.run.validation, "bf16": self.masks}

    def _evaluate(self, masks: Path, splits: Path) -> Evaluation:
        return evaluate(
            self.options.dataset,
            masks,
            run=self.run.path,
            splits=splits,
            split="val",
            metrics="dice",
            image=self.options.image,
            mask=self.options.mask,
            labels=self.options.labels,
            exclude=self.options.exclude,
            console=Quiet(self.console),
        )

    def _agreement(self) -> float | None:
        """Return the mean Dice of the masks in both precisions over their cases and classes; None if all are empty."""
        found: list[float] = []
        background = self.run.plan.labels.values[0]
        for path in self.written:
            full, lowered = (read_label_map(folder / path.name).pixels for folder in self._folders.values())
            values = set(np.unique(full).tolist()) | set(np.unique(lowered).tolist())
            found += [dice(full == value, lowered == value) for value in values if value != background]
        return float(np.mean(found)) if found else None


def _choose(
    timed: MeasuredPrecision, scores: dict[Precision, float], cases: int, agreement: float | None
) -> MeasuredPrecision:
    """Return the measurement with the choice by the mean Dice in both precisions."""
    loss = scores["32"] - scores["bf16"]
    good = loss <= LARGEST_LOSS
    # Four digits show the largest loss.
    told = f"mean Dice {scores['bf16']:.4f} in bfloat16 and {scores['32']:.4f} in float32"
    told += f" on {number_of(cases, 'validation case')}"
    why = told if good else f"{told}, a loss of more than {LARGEST_LOSS:g}"
    if agreement is not None:
        why += f"; the masks agree with Dice {agreement:.4f}"
    found = {"choice": "bf16" if good else "32", "why": why, "dice": scores, "cases": cases, "agreement": agreement}
    return timed.model_copy(update=found)
