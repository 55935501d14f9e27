"""The cases of a run and their preprocessing."""

from deconvseg.data import Dataset, PreparedCase, Splits, open_dataset, prepare_cases
from deconvseg.options import RunOptions, TrainOptions
from deconvseg.progress import Console
from deconvseg.runs import Run
from deconvseg.system import choose_device
from deconvseg.training.folders import cache_of
from deconvseg.training.loading import choose_workers


def open_data(options: RunOptions) -> Dataset:
    """Return the requested dataset."""
    return open_dataset(options.dataset, **options.reading)


def open_cases(run: Run, options: RunOptions) -> tuple[Dataset, Splits]:
    """Return the run's cases for training and for validation."""
    parts = Splits(**run.splits)
    return open_data(options).select([*parts.train, *parts.val]), parts


def prepare_run_cases(
    run: Run, data: Dataset, parts: Splits, options: TrainOptions, console: Console
) -> dict[str, list[PreparedCase]]:
    """Return the prepared cases of each part; missing ones are written into the cache."""
    plan = run.plan
    return {
        part: prepare_cases(
            data.select(names),
            cache_of(run, options),
            spacing=plan.spacing,
            normalisations=plan.normalisations,
            resize=plan.resize,
            crop_margin=plan.crop_margin,
            normalise_first=plan.normalise_first,
            axes=plan.axes,
            resampling=plan.resampling,
            encoding=plan.labels.to_encoding(),
            patch_size=plan.patch_size,
            workers=choose_workers(options.workers, choose_device(options.device)),
            text=f"preparing {part} cases",
            console=console,
        )
        for part, names in (("train", parts.train), ("val", parts.val))
    }
