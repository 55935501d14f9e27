"""The precision of later predictions, measured on the validation cases at the end of a training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from deconvseg.data import Case, Dataset
from deconvseg.evaluation import Evaluation, evaluate
from deconvseg.inference import Predictor, predict_cases
from deconvseg.options import TrainOptions
from deconvseg.progress import Console, Quiet
from deconvseg.runs import LARGEST_LOSS, MeasuredPrecision, Precision, Run, weights_of
from deconvseg.system import choose_device, processor_name, why_no_bfloat16, write_text
from deconvseg.text import dump_json, number_of
from deconvseg.training.loading import spread

# The largest share of the training's time for this measurement.
_SHARE = 0.05
# A mean over fewer cases does not show a loss of 0.0005.
_FEWEST = 10
# Windows are timed at least twice; small ones, whose times vary more, until the seconds or rounds are over.
_ROUNDS = (2, 10)
_TIMED_SECONDS = 1.0
_BOTH: tuple[Precision, Precision] = ("32", "bf16")


def measure_precision(
    run: Run, data: Dataset, cases: Sequence[Case], options: TrainOptions, console: Console, *, seconds: float
) -> MeasuredPrecision | None:
    """Compare bfloat16 with float32 on validation cases whose masks in float32 exist; return and write the choice.

    ``seconds`` is the time of these masks per case. The comparison takes about 5 % of the time of the training: as many
    cases as fit, spread evenly over all of them. None if fewer than 10 fit, there are fewer, or the device has no
    bfloat16.
    """
    device = choose_device(options.device)
    budget = _SHARE * (run.metrics[-1]["seconds"] if run.metrics else 0.0)
    count = min(len(cases), int(budget / max(seconds, 1e-6)))
    if why_no_bfloat16(device) is not None or count < _FEWEST:
        return None
    lowered = Predictor([run], device=device, precision="bf16")
    times = _time_windows(run, Predictor([run], device=device), lowered)
    found = MeasuredPrecision(
        choice="32",
        why=f"bfloat16 is not faster ({times['bf16']:.3g} s a window, float32 {times['32']:.3g} s)",
        seconds=times,
        device=device.partition(":")[0],
        processor=processor_name(),
        weights=weights_of(run.path),
    )
    if times["bf16"] < times["32"]:
        compared = _compare(run, data, spread(cases, count), options, console, lowered)
        found = found if compared is None else _choose(found, *compared)
    found.write(run.path)
    console.say(f"predict computes in {'bfloat16' if found.choice == 'bf16' else 'float32'}: {found.why}")
    return found


def _choose(found: MeasuredPrecision, dice: dict[Precision, float], cases: int) -> MeasuredPrecision:
    """Return the measurement with the choice by the mean Dice in both precisions."""
    loss = dice["32"] - dice["bf16"]
    good = loss <= LARGEST_LOSS
    # Four digits show the largest loss.
    told = f"mean Dice {dice['bf16']:.4f} in bfloat16 and {dice['32']:.4f} in float32"
    told += f" on {number_of(cases, 'validation case')}"
    why = told if good else f"{told}, a loss of more than {LARGEST_LOSS:g}"
    return found.model_copy(update={"choice": "bf16" if good else "32", "why": why, "dice": dice, "cases": cases})


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


def _compare(
    run: Run, data: Dataset, cases: Sequence[Case], options: TrainOptions, console: Console, lowered: Predictor
) -> tuple[dict[Precision, float], int] | None:
    """Return the mean Dice in both precisions and the number of cases; None if a case cannot be compared."""
    with TemporaryDirectory(prefix="deconvseg-") as scratch:
        folder = Path(scratch)
        splits, masks = folder / "splits.json", folder / "masks"
        write_text(splits, dump_json({"val": [case.name for case in cases]}))
        predict_cases(
            lowered,
            cases,
            masks,
            load=data.load_image,
            save_regions=run.plan.scored_by_region,
            console=Quiet(console),
        )
        found = {
            precision: _evaluate(run, where, splits, options, console)
            for precision, where in zip(_BOTH, (run.validation, masks), strict=True)
        }
    if any(len(scores.cases) < len(cases) for scores in found.values()):
        return None
    return {precision: scores.mean_dice for precision, scores in found.items()}, len(cases)


def _evaluate(run: Run, masks: Path, splits: Path, options: TrainOptions, console: Console) -> Evaluation:
    return evaluate(
        options.dataset,
        masks,
        run=run.path,
        splits=splits,
        split="val",
        metrics="dice",
        image=options.image,
        mask=options.mask,
        labels=options.labels,
        exclude=options.exclude,
        console=Quiet(console),
    )
