"""A run goes on with what it was started with, and with nothing else; and it does not say where that lies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deconvseg.errors import InputError
from deconvseg.planning import read_plan
from deconvseg.progress import SILENT
from deconvseg.runs import Run
from deconvseg.training import TrainOptions, check_resumable, resume_options, train, write_places
from deconvseg.training.resuming import record_own
from plans import tiny_plan


@pytest.fixture
def data(discs: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(discs, tmp_path / "data"))


@pytest.fixture
def run(trained: Path, data: Path, tmp_path: Path) -> Path:
    """A run as it is before its end: a copy, which knows where its data lie."""
    copy = Path(shutil.copytree(trained, tmp_path / "run"))
    write_places(TrainOptions(str(data), splits=str(data / "splits.json"), device="cpu"), Run(copy))
    return copy


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def swap_splits(data: Path, run: Path) -> None:
    edit_json(data / "splits.json", val=["disc6"], test=["disc4", "disc5", "disc7"])


def edit_plan(data: Path, run: Path) -> None:
    plan = json.loads((run / "plan.json").read_text())
    edit_json(run / "plan.json", recipe={**plan["recipe"], "learning_rate": 0.5})


def remove_mask(data: Path, run: Path) -> None:
    (data / "masks" / "disc1.png").unlink()


def replace_mask(data: Path, run: Path) -> None:
    shutil.copy2(data / "masks" / "disc2.png", data / "masks" / "disc1.png")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swap_splits, r"splits\.json: its val and test cases have changed since the run"),
        (edit_plan, r"run/plan\.json: has changed since the run was started"),
        (remove_mask, r"lists other files than when the run was started \(masks/disc1\.png\)"),
        (replace_mask, r"masks/disc1\.png: has changed since the run was started"),
    ],
)
def test_a_run_does_not_go_on_with_other_data_splits_or_plan(
    data: Path, run: Path, change: Callable[[Path, Path], None], message: str
) -> None:
    change(data, run)
    with pytest.raises(InputError, match=message):
        train(data, run, resume=True)


def test_a_plan_that_is_given_again_is_compared_by_what_it_says(data: Path, run: Path, tmp_path: Path) -> None:
    edit_json(tmp_path / "run" / "config.json", splits=None)
    other = tiny_plan(batch_size=1)
    (tmp_path / "other.json").write_text(other.model_dump_json())
    for given in (other, tmp_path / "other.json"):
        with pytest.raises(InputError, match=r"started with another plan \(batch_size, recipe differ\); omit the plan"):
            train(data, run, plan=given, resume=True)


def test_masks_that_were_touched_or_moved_are_the_same(data: Path, run: Path, tmp_path: Path) -> None:
    from deconvseg.data import open_dataset

    (data / "masks" / "disc1.png").touch()
    check_resumable(Run(run), open_dataset(data), SILENT)
    moved = data.rename(tmp_path / "moved")
    check_resumable(Run(run), open_dataset(moved), SILENT)
    options = resume_options(TrainOptions(str(moved)), Run(run))
    assert options.dataset == str(moved)
    assert options.splits == str(data / "splits.json")


def test_a_finished_run_tells_no_path_and_still_predicts_without_lists_of_files(
    trained: Path, discs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from deconvseg.inference import predict

    home = str(trained.parent.parent)
    text_files = [p for p in trained.rglob("*") if p.suffix in (".json", ".jsonl", ".csv", ".html")]
    assert {"manifest.json", "config.json", "report.html", "metrics.json", "summary.json"} <= {
        p.name for p in text_files
    }
    for path in text_files:
        assert home not in path.read_text(), path
    assert Run(trained).config["dataset"] == discs.name
    copy = Path(shutil.copytree(trained, tmp_path / "shared"))
    weights = Run(copy).manifest["files"]["weights.safetensors"]
    kept = {key: value for key, value in Run(copy).manifest.items() if key not in ("data", "states", "listing")}
    (copy / "manifest.json").write_text(json.dumps({**kept, "files": {"weights.safetensors": weights}}))
    assert predict(discs / "images" / "disc6.png", copy, tmp_path / "masks").written
    assert not caplog.records
    (copy / "manifest.json").write_text(json.dumps(kept | {"files": {}}))
    assert predict(discs / "images" / "disc7.png", copy, tmp_path / "masks").written
    assert "weights.safetensors: manifest.json has no hash of it" in caplog.text


def test_runs_of_before_with_whole_paths_go_on(trained: Path, data: Path, tmp_path: Path) -> None:
    from deconvseg.data import open_dataset

    copy = Run(shutil.copytree(trained, tmp_path / "old"))
    manifest = copy.manifest
    old = {str(data / name): digest for name, digest in manifest["data"].items()}
    kept = {key: value for key, value in manifest.items() if key not in ("states", "listing")}
    (copy.path / "manifest.json").write_text(json.dumps({**kept, "data": old}))
    edit_json(copy.path / "config.json", dataset=str(data), splits=str(data / "splits.json"))
    assert resume_options(TrainOptions(str(data), splits=str(data / "splits.json")), copy).dataset == str(data)
    check_resumable(copy, open_dataset(data), SILENT)
    shutil.copy(data / "masks" / "disc2.png", data / "masks" / "disc1.png")
    with pytest.raises(InputError, match=r"masks/disc1\.png: has changed"):
        check_resumable(copy, open_dataset(data), SILENT)


def test_a_run_stopped_before_its_first_epoch_begins_anew_with_what_it_was_started_with(data: Path, run: Path) -> None:
    from deconvseg.training.folders import open_stopped

    for name in ("resume", "weights.safetensors", "weights_best.safetensors", "metrics.jsonl"):
        path = run / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    Run(run).update_manifest(finished=False)
    before = Run(run).manifest
    again = open_stopped(run)
    assert {key: again.manifest[key] for key in ("listing", "data", "states")} == {
        key: before[key] for key in ("listing", "data", "states")
    }
    assert resume_options(TrainOptions(str(data)), again).splits == str(data / "splits.json")
    edit_plan(data, run)
    with pytest.raises(InputError, match=r"plan\.json: has changed since"):
        open_stopped(run)


def test_a_plan_is_hashed_when_the_run_starts(trained: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "new", read_plan(trained / "plan.json"), {}, {"train": [], "val": [], "test": []})
    record_own(run)
    assert run.manifest["files"].keys() == {"plan.json", "splits.json"}
