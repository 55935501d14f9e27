import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from deconvseg.data import PatchDataset, PreparedCase, open_dataset, prepare_cases
from deconvseg.errors import DeconvsegError
from deconvseg.training import train
from deconvseg.training.loading import PatchLoader, choose_workers, explaining_workers, train_loader
from deconvseg.training.ranks import Ranks
from plans import tiny_plan


@pytest.fixture(scope="module")
def cases(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[PreparedCase]:
    plan = tiny_plan()
    return prepare_cases(
        open_dataset(discs),
        tmp_path_factory.mktemp("cache"),
        spacing=plan.spacing,
        normalisations=plan.normalisations,
        encoding=plan.labels.to_encoding(),
        patch_size=plan.patch_size,
    )


def loader(cases: list[PreparedCase], workers: int, device: str = "cpu", **recipe: object) -> PatchLoader:
    plan = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 6, **recipe})
    return train_loader(plan, cases, seed=3, device=device, workers=workers, epoch=0, ranks=Ranks())


def break_reading(monkeypatch: pytest.MonkeyPatch, fail) -> None:  # type: ignore[no-untyped-def]
    """Let the fifth sample's reading fail so; worker processes are forked and inherit it."""
    read = PatchDataset._read

    def broken(self: PatchDataset, case: PreparedCase, epoch: int, sample: int):  # type: ignore[no-untyped-def]
        if sample == 4:
            fail()
        return read(self, case, epoch, sample)

    monkeypatch.setattr(PatchDataset, "_read", broken)


def lookup() -> None:
    {}["nothing"]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    os._exit(7)


forked = pytest.mark.skipif(sys.platform != "linux", reason="worker processes inherit the failure by forking")


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_one_process(cases: list[PreparedCase], workers: int) -> None:
    batches = list(loader(cases, workers))
    assert len(batches) == 6
    for found, expected in zip(batches, loader(cases, 0), strict=True):
        assert found["image"].shape == (2, 1, 32, 32)
        assert found["labels"].dtype == torch.int64
        assert torch.equal(found["image"], expected["image"])
        assert torch.equal(found["labels"], expected["labels"])
        assert found["case"] == expected["case"]


@forked
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_while_loading_names_its_case_in_one_line(
    cases: list[PreparedCase], workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_reading(monkeypatch, lookup)
    batches = loader(cases, workers)
    name = batches.patches.case(0, 4).name
    with (
        pytest.raises(DeconvsegError, match=f"^case {name}: KeyError: 'nothing'$") as error,
        explaining_workers(batches),
    ):
        list(batches)
    assert (workers == 0) == ("Original Traceback" not in str(error.value.__cause__))


@pytest.mark.faults
@forked
@pytest.mark.parametrize(("fail", "message"), [(die, "was ended by SIGKILL; .*memory runs out"), (leave, "code 7")])
def test_a_loading_process_that_dies_is_named_with_its_case(
    cases: list[PreparedCase], monkeypatch: pytest.MonkeyPatch, fail, message: str
) -> None:  # type: ignore[no-untyped-def]
    break_reading(monkeypatch, fail)
    batches = loader(cases, 1)
    name = batches.patches.case(0, 4).name
    started = time.monotonic()
    with (
        pytest.raises(DeconvsegError, match=f"^a process that loads data, last at case {name}, .*{message}"),
        explaining_workers(batches),
    ):
        list(batches)
    assert time.monotonic() - started < 60  # an end, not a hang


@pytest.mark.faults
@forked
def test_a_training_whose_loading_process_dies_ends_with_that_line(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_reading(monkeypatch, die)
    with pytest.raises(DeconvsegError, match=r"last at case disc\d, was ended by SIGKILL"):
        train(discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu", workers=1)


@forked
def test_a_loading_process_that_hangs_is_given_up(cases: list[PreparedCase], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deconvseg.training.loading._LOOK_SECONDS", 0.5)
    monkeypatch.setattr("deconvseg.training.loading._LONGEST_WAIT_SECONDS", 1)
    break_reading(monkeypatch, lambda: time.sleep(600))
    batches = loader(cases, 1)
    with (
        pytest.raises(DeconvsegError, match=r"no batch .* in 1 s, last at case disc\d"),
        explaining_workers(batches),
    ):
        list(batches)


def test_other_errors_pass_as_they_are(cases: list[PreparedCase]) -> None:
    for error in (RuntimeError("shapes differ"), DeconvsegError("the loss became nan")):
        with pytest.raises(type(error)) as caught, explaining_workers(loader(cases, 0)):
            raise error
        assert caught.value is error


def test_without_workers_no_process_is_started(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing.process

    def refuse(self: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    train(discs, tmp_path / "run", plan=tiny_plan(), splits=discs / "splits.json", device="cpu", workers=0)


def test_a_given_cache_is_shared_and_kept(discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"plan": tiny_plan(), "splits": discs / "splits.json", "device": "cpu", "cache": tmp_path / "cache"}
    first = train(discs, tmp_path / "first", fold=0, **options)
    assert len(list((tmp_path / "cache").glob("*/*/entry.json"))) == 6
    assert not first.cache.exists()

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("preprocessed again")

    monkeypatch.setattr("deconvseg.data.preprocessing.Preprocessing.labels", refuse)
    train(discs, tmp_path / "second", values={"recipe.learning_rate": 1e-4, "batch_size": 1}, **options)


@pytest.mark.gpu
def test_batches_finished_on_a_gpu_are_those_of_the_cpu(cases: list[PreparedCase]) -> None:
    """But for noise, which each kind of device draws for itself."""
    quiet = {"augmentation": {"noise": 0.0}}
    for found, expected in zip(loader(cases, 1, "cuda", **quiet), loader(cases, 0, **quiet), strict=True):
        assert found["image"].is_cuda
        torch.testing.assert_close(found["image"].cpu(), expected["image"], atol=1e-3, rtol=1e-3)
        assert (found["labels"].cpu() == expected["labels"]).float().mean() > 0.99


def test_the_number_of_processes_follows_the_device() -> None:
    assert choose_workers(None, "cpu") == 0
    assert choose_workers(None, "cuda") >= 1
    assert choose_workers(0, "cuda") == 0
    assert choose_workers(3, "cpu") == 3


def test_an_epoch_without_a_number_of_steps_has_one_patch_of_each_case(cases: list[PreparedCase]) -> None:
    patches = loader(cases, 0, steps_per_epoch=None)
    names = [batch["case"] for batch in patches]
    # Batches of two; eight cases, and seven.
    assert len(names) == len(patches) == 4
    assert sorted(name for batch in names for name in batch) == sorted(case.name for case in cases)
    assert [len(batch["case"]) for batch in loader(cases[1:], 0, steps_per_epoch=None)] == [2, 2, 2, 1]
