"""Batches for the training loop, and the errors of the processes that load them."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader

from deconvseg.data import Augment, CaseDataset, EpochSampler, PatchDataset, PreparedCase, Sample, finish
from deconvseg.errors import DeconvsegError
from deconvseg.planning import Plan
from deconvseg.system import ended, usable_cores
from deconvseg.training.ranks import Ranks
from deconvseg.training.shared_memory import bytes_of_batch, explain_full_shared_memory
from deconvseg.training.sharing import RankSampler, share_of_batch

AnyCase = TypeVar("AnyCase")
# Seconds between two checks that the loading processes are alive, while waiting for a batch.
_LOOK_SECONDS = 5
# A batch takes milliseconds; loading that takes this many seconds counts as failed.
_LONGEST_WAIT_SECONDS = 120
_ADVICE = "use fewer workers, or 0"
_DEAD_WORKER, _LATE_WORKER = "DataLoader worker (pid", "DataLoader timed out"
_ERROR_IN_WORKER = f"{DeconvsegError.__module__}."


class PatchLoader(DataLoader[Any]):
    """Yields the batches of an epoch, augmented, on the device of the network.

    With a GPU the processes only read; augmentation runs on the GPU, one batch ahead, in a separate stream, so
    that the network waits neither for the copy nor for the augmentation. Otherwise it runs where samples are read.
    """

    def __init__(
        self,
        patches: PatchDataset,
        batch_size: int,
        sampler: RankSampler,
        *,
        device: str,
        workers: int,
        bytes_of_batch: int = 0,
    ) -> None:
        self.bytes_of_batch = bytes_of_batch
        self.patches = patches
        self.processes: dict[int | None, BaseProcess] = {}
        self.on_gpu = torch.device(device) if device.startswith("cuda") else None
        if workers > 0:
            patches.reading = torch.zeros(workers, 3, dtype=torch.int64)
            patches.reading.share_memory_()  # type: ignore[no-untyped-call]
        super().__init__(
            patches,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            timeout=_LOOK_SECONDS if workers > 0 else 0,
            collate_fn=list if self.on_gpu else _Finish(patches.patch_size),
            pin_memory=self.on_gpu is not None,
        )

    def __iter__(self) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        return self._read() if self.on_gpu is None else self._finished_on(self.on_gpu)

    def _read(self) -> Iterator[Any]:
        """Iterate over the loaded batches; PyTorch checks for dead processes only after a timeout."""
        others = multiprocessing.active_children()
        batches = super().__iter__()
        # The processes are private to PyTorch, and their exit codes are needed when one dies.
        started = [process for process in multiprocessing.active_children() if process not in others]
        self.processes.update({process.pid: process for process in started})
        given_up = time.monotonic() + _LONGEST_WAIT_SECONDS
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not str(error).startswith(_LATE_WORKER):
                    self.explain_death(error)
                    raise
                explain_full_shared_memory(self.bytes_of_batch)
                if time.monotonic() > given_up:
                    at = ", ".join(self._whereabouts().values())
                    raise DeconvsegError(
                        f"no batch came from the processes that load data in {_LONGEST_WAIT_SECONDS} s, last at case "
                        f"{at}; check the disk of the cache, or use `workers=0`"
                    ) from error
            else:
                yield batch
                given_up = time.monotonic() + _LONGEST_WAIT_SECONDS

    def explain_death(self, error: BaseException) -> None:
        """Raise an error that names the case of a loading process that has died, or dies within a moment."""
        patience = time.monotonic() + _LOOK_SECONDS
        while self.processes:
            for pid, process in self.processes.items():
                if process.exitcode:
                    case = self._whereabouts().get(pid)
                    at = f", last at case {case}," if case else ""
                    raise DeconvsegError(
                        f"a process that loads data{at} {ended(process.exitcode, advice=_ADVICE)}"
                    ) from error
            if time.monotonic() > patience:
                return
            time.sleep(0.05)

    def _whereabouts(self) -> dict[int | None, str]:
        """Return the last case of each loading process, by its process id."""
        rows = [] if self.patches.reading is None else self.patches.reading.tolist()
        return {pid: self.patches.case(epoch, sample).name for pid, epoch, sample in rows if pid}

    def _finished_on(self, device: torch.device) -> Iterator[dict[str, Any]]:
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        ahead: tuple[dict[str, Any], torch.cuda.Event] | None = None
        for samples in self._read():
            with torch.cuda.stream(stream):
                moved = [
                    sample._replace(
                        image=sample.image.to(device, non_blocking=True),
                        labels=sample.labels.to(device, non_blocking=True),
                    )
                    for sample in samples
                ]
                batch = finish(moved, self.patches.patch_size)
                ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
                ready.record(stream)
            if ahead is not None:
                yield _handed_over(*ahead)
            ahead = batch, ready
        if ahead is not None:
            yield _handed_over(*ahead)


class _Finish:
    """Collates samples on the CPU; a class, because spawned processes receive it pickled."""

    def __init__(self, patch_size: Sequence[int]) -> None:
        self.patch_size = patch_size

    def __call__(self, samples: list[Sample]) -> dict[str, Any]:
        return finish(samples, self.patch_size)


def _handed_over(batch: dict[str, Any], ready: torch.cuda.Event) -> dict[str, Any]:
    """Let the network's stream wait for the batch, and the batch's memory for the network's stream."""
    current = torch.cuda.current_stream(batch["image"].device)
    current.wait_event(ready)
    for tensor in (batch["image"], batch["labels"]):
        tensor.record_stream(current)
    return batch


def choose_workers(workers: int | None, device: str) -> int:
    """Return the default number of processes that prepare and load cases.

    On a CPU the network needs the cores; with a GPU they are free.
    """
    if workers is not None:
        return workers
    return 0 if device == "cpu" else max(1, min(8, usable_cores() - 1))


def train_loader(
    plan: Plan,
    cases: Sequence[PreparedCase],
    *,
    seed: int,
    device: str,
    workers: int | None,
    epoch: int,
    ranks: Ranks,
) -> PatchLoader:
    """Return the loader of a plan's training patches: this process's part of every batch, from that epoch on."""
    recipe = plan.recipe
    samples = recipe.count_patches(len(cases), plan.batch_size)
    patches = PatchDataset(
        cases,
        plan.patch_size,
        samples,
        seed=seed,
        foreground=recipe.foreground_oversampling,
        augment=Augment(plan.grid_spacing, plan.patch_size, recipe.augmentation),
    )
    sampler = RankSampler(EpochSampler(samples), plan.batch_size, ranks)
    # Worker processes draw samples before Lightning sets the sampler's epoch.
    sampler.set_epoch(epoch)
    batch = share_of_batch(plan.batch_size, ranks.size)
    return PatchLoader(
        patches,
        batch,
        sampler,
        device=device,
        workers=choose_workers(workers, device),
        bytes_of_batch=bytes_of_batch(plan) // ranks.size,
    )


def validation_loader(cases: Sequence[PreparedCase]) -> DataLoader[dict[str, Any]]:
    """Return a loader of whole cases."""
    return DataLoader(CaseDataset(cases), batch_size=1)


def spread(cases: Sequence[AnyCase], most: int) -> Sequence[AnyCase]:
    """Return the cases, or ``most`` of them, evenly spaced over the list."""
    return [cases[index * len(cases) // most] for index in range(most)] if len(cases) > most else cases


@contextmanager
def explaining_workers(loader: PatchLoader) -> Iterator[None]:
    """Convert PyTorch's error of a failed or dead loading process into one line that names the case."""
    try:
        yield
    except DeconvsegError as error:
        # PyTorch raises the worker's error again, with its traceback in the message.
        _, found, line = str(error).strip().rpartition(_ERROR_IN_WORKER)
        if not found:
            raise
        raise type(error)(line.partition(": ")[2]) from error
    except RuntimeError as error:
        # The death of a child is a signal, so its error may be raised anywhere in this process.
        if _DEAD_WORKER in str(error):
            loader.explain_death(error)
        raise
