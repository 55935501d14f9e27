"""A run's folder and its cache: how a stopped run restarts, and when prepared cases are removed."""

import os
import shutil
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from deconvseg.errors import InputError
from deconvseg.options import TrainOptions
from deconvseg.progress import Console
from deconvseg.runs import Run
from deconvseg.system import LOCK, LockedError, hold, remove_unfinished
from deconvseg.training.resuming import check_own, record_own


def open_stopped(output: Path) -> Run:
    """Open a run to continue; a run without a completed epoch is prepared to restart with its own options."""
    run = Run(output)
    if not run.replaceable:
        for folder in (run.path, run.resume_file.parent):
            remove_unfinished(folder)
        return Run.open(output)
    if not run.described:
        raise InputError(f"{output}: the run was stopped before it began; start it without `resume`")
    check_own(run)
    record = {key: run.manifest[key] for key in ("listing", "data", "states") if key in run.manifest}
    run = Run.create(output, run.plan, run.config, run.splits)
    record_own(run)
    run.update_manifest(**record)
    return run


def cache_of(run: Run, options: TrainOptions) -> Path:
    """Return the folder of a run's preprocessed cases."""
    return run.cache if options.cache is None else Path(options.cache)


def using_cache(cache: Path) -> AbstractContextManager[None]:
    """Keep other runs from removing a cache while the block runs; a read-only cache is never removed."""
    return nullcontext() if cache.is_dir() and not os.access(cache, os.W_OK) else hold(cache, ())


def remove_cache(run: Run, options: TrainOptions, console: Console) -> None:
    """Remove the preprocessed cases of a run, unless the cache was given by the user or another run uses it."""
    given = options.cache is not None and Path(options.cache).resolve() == run.cache.resolve()
    if given or not run.cache.is_dir():
        return
    try:
        with hold(run.cache):
            for path in run.cache.iterdir():
                if path.name != LOCK:
                    shutil.rmtree(path, ignore_errors=True)
    except LockedError as error:
        console.say(f"the prepared cases are kept: {error}")
        return
    # Another run may have started to write to it.
    with suppress(OSError):
        run.cache.rmdir()
