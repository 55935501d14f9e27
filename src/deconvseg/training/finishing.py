"""The end of a training: the validation cases are predicted and evaluated, and temporary files are removed."""

import shutil

from deconvseg.data import Dataset, Splits
from deconvseg.errors import DeconvsegError
from deconvseg.evaluation import evaluate
from deconvseg.inference import Predictor, predict_cases
from deconvseg.options import TrainOptions
from deconvseg.progress import Console, Quiet, Timings
from deconvseg.runs import PRECISION, Run, record_weights
from deconvseg.system import choose_device
from deconvseg.text import number_of
from deconvseg.training.cases import open_cases
from deconvseg.training.comparing import compare_with_training
from deconvseg.training.describing import describe_run
from deconvseg.training.folders import remove_cache
from deconvseg.training.operating import OperatingMeasurement
from deconvseg.training.options import forget_places
from deconvseg.training.precisions import measure_precision
from deconvseg.training.showing import show_validation
from deconvseg.training.tracking import Guests


def finish_run(run: Run, options: TrainOptions, console: Console, guests: Guests, timings: Timings) -> None:
    """Predict and evaluate the validation cases, write the report, and remove temporary files."""
    run.update_manifest(weights=record_weights(run))
    with timings.part("validation"):
        problems = _validate(run, *open_cases(run, options), options, console)
    show_validation(run, guests, console)
    with timings.part("report"):
        describe_run(run, console, guests)
    remove_cache(run, options, console)
    forget_places(run)
    run.record_hashes(finished=True)
    if problems:
        raise DeconvsegError(
            f"trained, but {number_of(len(problems), 'validation case')} failed, first: {problems[0]}; fix this and "
            "continue with `resume=True`"
        )


def _validate(run: Run, data: Dataset, parts: Splits, options: TrainOptions, console: Console) -> list[str]:
    """Predict the validation cases with the weights of the recipe and evaluate them; return the failures."""
    if not parts.val:
        measure_precision(run, data, (), options, console)
        return []
    shutil.rmtree(run.validation, ignore_errors=True)
    (run.path / PRECISION).unlink(missing_ok=True)
    cases = data.select(parts.val).cases
    measurement = OperatingMeasurement(data, run.plan)
    prediction = predict_cases(
        Predictor([run], device=choose_device(options.device)),
        cases,
        run.validation,
        load=data.load_image,
        save_regions=run.plan.scored_by_region,
        measure=measurement,
        console=Quiet(console),
    )
    if not prediction.written:
        raise DeconvsegError(
            f"trained, but no validation case could be predicted, first: {prediction.problems[0]}; fix this and "
            "continue with `resume=True`"
        )
    result = evaluate(
        options.dataset,
        run.validation,
        run.validation / "metrics.json",
        run=run.path,
        splits=run.path / "splits.json",
        split="val",
        images={case.name: case.images for case in cases},
        image=options.image,
        mask=options.mask,
        labels=options.labels,
        exclude=options.exclude,
        console=console,
    )
    points = measurement.finish(prediction)
    if points is not None:
        points.write(run.path)
    console.say(f"validation: {result.describe()}")
    if told := compare_with_training(run.metrics, result, run.plan):
        console.say(told)
    for warning in result.warnings:
        console.say(f"warning: {warning}")
    if not prediction.problems:
        measure_precision(run, data, cases, options, console)
    return [*prediction.problems, *result.problems]
