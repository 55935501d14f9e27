"""The training loop, on Lightning."""

import logging
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, Trainer

from deconvseg.data import PreparedCase
from deconvseg.errors import InputError, InterruptionError, check_choice
from deconvseg.models import Network
from deconvseg.options import TrainOptions
from deconvseg.planning.precisions import lowered_precision
from deconvseg.progress import Progress
from deconvseg.runs import Run
from deconvseg.system import choose_device
from deconvseg.training.callbacks import EndAtOnce, RunWriter, TimeLimit
from deconvseg.training.checkpoint import SafetensorsCheckpointIO, completed_epochs
from deconvseg.training.foreseeing import foresee
from deconvseg.training.further import end_of
from deconvseg.training.launch import kept_epochs
from deconvseg.training.loading import explaining_workers, spread, train_loader, validation_loader
from deconvseg.training.ranks import Ranks
from deconvseg.training.strategies import create_strategy
from deconvseg.training.task import SegmentationTask
from deconvseg.training.telling import ProgressTeller
from deconvseg.training.tracking import Tracker

_PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def fit(
    run: Run,
    network: Network,
    cases: Mapping[str, Sequence[PreparedCase]],
    options: TrainOptions,
    *,
    resume: bool,
    progress: Progress,
    trackers: Sequence[Tracker],
    ranks: Ranks,
) -> None:
    """Train the network on the cases "train", writing weights, metrics and resume state into the run after every epoch.

    With several processes (``ranks``) each takes its part of every batch and of the cases "val", and the first one
    writes. The training ends after its last epoch or ``max_seconds``, whichever comes first. ``trackers`` receive the
    values of every epoch.
    """
    plan, device = run.plan, choose_device(options.device)
    end, rise = end_of(run, options)
    limit = end.seconds
    seconds_before = run.metrics[-1]["seconds"] if resume and run.metrics else 0.0
    if limit is not None and seconds_before >= limit:
        return
    validation_cases = len(cases["val"])
    val_cases = spread(cases["val"], plan.recipe.count_validated(validation_cases))
    task = SegmentationTask(
        network,
        plan,
        seed=options.seed,
        max_epochs=end.epochs,
        max_seconds=limit,
        rise=rise,
        seconds_before=seconds_before,
        rank=ranks.rank,
        dealt_cases=len(val_cases),
        train_cases=len(cases["train"]),
    )
    shapes = [case.shape for case in cases["val"]]
    outlook = foresee(plan, options, len(cases["train"]), validation_cases, shapes=shapes, end=end)
    teller = ProgressTeller(progress, outlook, validation_cases, run.metrics if resume else ())
    callbacks = _callbacks(RunWriter(run, plan.output_names, validation_cases, trackers), teller, limit, ranks)
    trainer = _create_trainer(run, callbacks, device, options, end.epochs, ranks)
    loader = train_loader(
        plan,
        cases["train"],
        seed=options.seed,
        device=device,
        workers=options.workers,
        epoch=completed_epochs(run.resume_file) if resume else 0,
        ranks=ranks,
    )
    with _interruptible(trainer, run), explaining_workers(loader):
        trainer.fit(
            task,
            loader,
            validation_loader(ranks.deal(val_cases)) if val_cases else None,
            ckpt_path=run.resume_file if resume else None,
        )


def _callbacks(writer: RunWriter, teller: ProgressTeller, limit: float | None, ranks: Ranks) -> list[Callback]:
    """Return what writes and shows the training, and ends it at its limit or with the other processes."""
    callbacks: list[Callback] = [writer, teller]
    if limit is not None:
        callbacks.append(TimeLimit(limit, writer))
    if ranks.size > 1:
        callbacks.append(EndAtOnce())
    return callbacks


def _create_trainer(
    run: Run, callbacks: list[Callback], device: str, options: TrainOptions, max_epochs: int | None, ranks: Ranks
) -> Trainer:
    strategy = options.strategy or "ddp"
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    recipe = run.plan.recipe
    return Trainer(
        accelerator=device.partition(":")[0],
        devices=_devices(device, ranks),
        num_nodes=ranks.nodes,
        strategy=create_strategy(strategy, ranks.size) if ranks.size > 1 else "auto",
        sync_batchnorm=ranks.size > 1 and strategy == "ddp" and device.startswith("cuda"),
        precision=choose_precision(options.precision or recipe.precision, device),
        max_epochs=-1 if max_epochs is None else max_epochs,
        gradient_clip_val=recipe.gradient_clip,
        check_val_every_n_epoch=min(recipe.validate_every, recipe.epochs),
        num_sanity_val_steps=0,
        plugins=[SafetensorsCheckpointIO(), ranks.environment()],
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        # A network that is gathered from its parts for validation is trained further.
        inference_mode=strategy != "fsdp",
        default_root_dir=run.path,
    )


@contextmanager
def _interruptible(trainer: Trainer, run: Run) -> Iterator[None]:
    """Convert Lightning's handling of Ctrl-C (it ignores further signals, and exits) into an exception."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            # These messages of Lightning are meant for developers of training loops.
            warnings.filterwarnings("ignore", module="lightning")
            yield
    except SystemExit as end:
        # Lightning exits with 1 on Ctrl-C; other codes are those of SIGTERM and SIGHUP.
        if not trainer.interrupted or end.code != 1:
            raise
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    if trainer.interrupted:
        raise InterruptionError(f"interrupted; {kept_epochs(run)}")


def _devices(device: str, ranks: Ranks) -> list[int] | int:
    if ranks.size > 1 or not device.startswith("cuda"):
        return ranks.devices
    return [int(device.partition(":")[2] or 0)]


def choose_precision(name: str, device: str) -> Any:
    """Return Lightning's name of a precision; ``auto`` is bfloat16 on a GPU that has it, and float32 elsewhere.

    Float32 takes the place of bfloat16 on a CPU without instructions for it.
    """
    name = lowered_precision(name, device)
    check_choice(name, _PRECISIONS, "`precision`")
    if name == "16" and not device.startswith("cuda"):
        raise InputError(f"`precision='16'`: float16 needs a CUDA device, not {device}; choose bf16 or 32")
    return _PRECISIONS[name]
