import json
import pickle
from pathlib import Path

import pytest
import torch

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.planning import Plan
from deconvseg.runs import Run, file_sha256

NO_SPLITS: dict[str, list[str]] = {"train": [], "val": [], "test": []}


@pytest.fixture
def run(tmp_path: Path, plan: Plan) -> Run:
    return Run.create(tmp_path / "run", plan, {"seed": 0}, NO_SPLITS)


def test_a_run_keeps_plan_and_configuration(run: Run, plan: Plan) -> None:
    again = Run.open(run.path)
    assert again.plan == plan
    assert again.config == {"seed": 0}
    assert {"python", "packages", "machine", "command", "git_commit"} <= again.manifest.keys()


def test_weights_survive_with_their_hash(run: Run) -> None:
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1)}
    run.save_weights(weights)
    loaded = run.load_weights()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in weights.items())
    assert run.manifest["files"]["weights.safetensors"] == file_sha256(run.path / "weights.safetensors")


def test_pickled_weights_are_refused_and_not_run(run: Run) -> None:
    trap = run.path / "trap"

    class Payload:
        def __reduce__(self) -> tuple:
            return (trap.touch, ())

    (run.path / "weights.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(InputError, match="not a safetensors file"):
        run.load_weights()
    assert not trap.exists()


def test_replaced_weights_are_refused(run: Run) -> None:
    run.save_weights({"a": torch.zeros(1)})
    original = run.manifest
    run.save_weights({"a": torch.ones(1)})
    (run.path / "manifest.json").write_text(json.dumps(original))
    with pytest.raises(InputError, match="SHA-256"):
        run.load_weights()


def test_missing_weights_say_so(run: Run) -> None:
    for load in (run.load_weights, lambda: run.choose_weights("best")):
        with pytest.raises(InputError, match=r"no weights yet, because .*; continue the training \(`resume=True`\)"):
            load()
    run.save_weights({"a": torch.zeros(1)})
    with pytest.raises(InputError, match="no epoch was validated; take the final ones"):
        run.choose_weights("best")
    (run.path / "weights.safetensors").unlink()
    with pytest.raises(InputError, match="no weights there; copy the run again"):
        run.load_weights()


@pytest.mark.faults
def test_kills_between_manifest_and_weights_leave_the_old_weights_valid(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save_weights({"a": torch.zeros(1)})
    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if target.suffix == ".safetensors":
            raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        for value in (1.0, 2.0, 3.0):  # as when a full disk or a time limit ends one attempt after the other
            with pytest.raises(KeyboardInterrupt):
                run.save_weights({"a": torch.full((1,), value)})
            assert torch.equal(run.load_weights()["a"], torch.zeros(1))
    run.save_weights({"a": torch.ones(1)})
    assert torch.equal(run.load_weights()["a"], torch.ones(1))
    assert run.manifest["replaced"] == {}


@pytest.mark.parametrize("older", [None, "hash", "digest of the file"])
def test_runs_of_early_versions_whose_manifest_has_one_hash_in_place_of_a_list_are_read(
    run: Run, older: str | None
) -> None:
    run.save_weights({"a": torch.zeros(1)})
    digest = run.manifest["files"]["weights.safetensors"]
    older = digest if older == "digest of the file" else older
    run.update_manifest(replaced={"weights.safetensors": older}, files={"weights.safetensors": digest})
    assert torch.equal(run.load_weights()["a"], torch.zeros(1))
    run.save_weights({"a": torch.ones(1)})
    assert torch.equal(run.load_weights()["a"], torch.ones(1))
    assert run.manifest["replaced"] == {}


def test_a_start_that_failed_does_not_block_the_folder(run: Run, plan: Plan) -> None:
    assert Run.create(run.path, plan, {"seed": 1}, NO_SPLITS).config == {"seed": 1}


def test_a_folder_in_use_is_refused(run: Run, plan: Plan) -> None:
    run.save_weights({"a": torch.zeros(1)})
    for epoch in range(2):
        run.append_metrics({"epoch": epoch})
    with pytest.raises(InputError, match="cannot be resumed"):
        Run.create(run.path, plan, {}, NO_SPLITS)
    run.resume_file.parent.mkdir()
    run.resume_file.write_bytes(b"")
    with pytest.raises(InputError, match="`resume=True`"):
        Run.create(run.path, plan, {}, NO_SPLITS)


def test_a_run_that_was_stopped_in_its_first_epoch_is_replaced(run: Run, plan: Plan) -> None:
    run.save_weights({"a": torch.zeros(1)}, "weights_best")
    run.save_weights({"a": torch.zeros(1)})
    run.append_metrics({"epoch": 0})
    (run.path / ".unfinished-0123456789abcdef.safetensors").write_bytes(b"half")
    (run.path / "notes.txt").write_text("the user's")
    assert run.replaceable
    Run.create(run.path, plan, {"seed": 1}, NO_SPLITS)
    files = {"manifest.json", "plan.json", "config.json", "splits.json", "notes.txt"}
    assert {path.name for path in run.path.iterdir()} == files
    run.update_manifest(finished=True)
    with pytest.raises(InputError):
        Run.create(run.path, plan, {}, NO_SPLITS)


@pytest.mark.parametrize("name", ["splits.json", "validation", "cache", "plan.json"])
def test_a_folder_of_something_else_is_not_written_over(tmp_path: Path, plan: Plan, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"holds {name}, which does not belong to a run and would be replaced"):
        Run.create(tmp_path, plan, {}, NO_SPLITS)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_output_whose_parent_is_a_file_is_refused(tmp_path: Path, plan: Plan) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(InputError, match="file"):
            Run.create(output, plan, {}, NO_SPLITS)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        Run.open(tmp_path)


def test_only_its_end_makes_a_run_finished_not_its_files(run: Run) -> None:
    page = run.path / "report.html"
    page.write_text("a page about the first epochs")
    run.record_hashes(finished=False)
    assert run.manifest["files"].keys() == {"config.json", "splits.json", "plan.json", "report.html"}
    assert not run.finished
    run.record_hashes(finished=True)
    page.write_text("a page about all")
    files = run.manifest["files"]
    run.record_hash("report.html")
    assert run.manifest["files"] == {**files, "report.html": file_sha256(page)}
    assert run.finished


def test_metrics_of_a_repeated_epoch_replace_the_old(run: Run) -> None:
    for epoch, loss in ((0, 1.0), (1, 0.5), (2, 0.4), (1, 0.6)):
        run.append_metrics({"epoch": epoch, "train_loss": loss})
    assert [(r["epoch"], r["train_loss"]) for r in run.metrics] == [(0, 1.0), (1, 0.6)]
    assert (run.path / "metrics.csv").read_text().splitlines() == ["epoch,train_loss", "0,1.0", "1,0.6"]


@pytest.mark.faults
def test_a_full_disk_is_one_clear_error_and_leaves_the_old_weights(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save_weights({"a": torch.zeros(1)})
    before = {path.name for path in run.path.iterdir()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DeconvsegError, match="the disk is full while writing .*weights.safetensors") as error:
        run.save_weights({"a": torch.ones(1)})
    assert error.value.exit_code == 1
    assert torch.equal(run.load_weights()["a"], torch.zeros(1))
    assert {path.name for path in run.path.iterdir()} == before
