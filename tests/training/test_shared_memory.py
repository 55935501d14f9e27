"""Batches that do not fit into shared memory are told before the work starts, and where they stop fitting."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from deconvseg.data import PreparedCase
from deconvseg.errors import DeconvsegError
from deconvseg.training import loading, shared_memory
from deconvseg.training.ranks import Ranks
from plans import tiny_plan


def room(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_bavail=free, f_frsize=1))


def test_what_is_expected_is_what_a_batch_takes(discs: Path, tmp_path: Path) -> None:
    from deconvseg.data import open_dataset, prepare_cases

    plan = tiny_plan()
    cases: list[PreparedCase] = prepare_cases(
        open_dataset(discs).select(["disc0"]),
        tmp_path,
        spacing=plan.spacing,
        normalisations=plan.normalisations,
        encoding=plan.labels.to_encoding(),
    )
    loader = loading.train_loader(plan, cases, seed=0, device="cpu", workers=0, epoch=0, ranks=Ranks())
    batch = next(iter(loader))
    assert shared_memory.bytes_of_batch(plan) == batch["image"].nbytes + batch["labels"].nbytes


def test_too_little_shared_memory_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tiny_plan()
    need = 2 * 3 * shared_memory.bytes_of_batch(plan)
    room(need - 1, monkeypatch)
    with pytest.raises(DeconvsegError, match=r"shared memory \(/dev/shm\) has .*3 processes.*`workers=0`") as error:
        shared_memory.check_shared_memory(plan, 3)
    assert error.value.exit_code == 1
    shared_memory.check_shared_memory(plan, 0)
    room(need, monkeypatch)
    shared_memory.check_shared_memory(plan, 3)


def test_shared_memory_that_became_full_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    room(99, monkeypatch)
    with pytest.raises(DeconvsegError, match=r"shared memory \(/dev/shm\) is full \(0 KiB free\)"):
        shared_memory.explain_full_shared_memory(100)
    room(100, monkeypatch)
    shared_memory.explain_full_shared_memory(100)
