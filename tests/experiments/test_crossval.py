"""The whole way of a cross-validation, its resumption, and what happens when a fold fails."""

import csv
import importlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from consoles import Listening
from deconvseg.data import Splits, open_dataset
from deconvseg.errors import DeconvsegError, InputError, InterruptionError
from deconvseg.evaluation import evaluate, read_evaluation, read_operating_points
from deconvseg.evaluation.threshold import choose_threshold
from deconvseg.experiments import Executor, Outcome, Processes, Task, crossval
from deconvseg.experiments.protocols.cells import Cell, _predictions
from deconvseg.experiments.protocols.schema import ProtocolDataset
from deconvseg.experiments.starting import check_same_folds
from deconvseg.experiments.testing import ScoredFolds, find_test_cases
from deconvseg.inference import Predictor, predict, read_postprocessing
from deconvseg.options import TrainOptions
from deconvseg.planning import Plan
from deconvseg.runs import Run, open_runs
from deconvseg.training import Console, Silent
from deconvseg.training.callbacks import RunWriter
from plans import tiny_plan

RECIPE = {"epochs": 1, "steps_per_epoch": 40, "validate_every": 1, "learning_rate": 0.01}


@pytest.fixture(scope="module")
def plan_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    path.write_text(tiny_plan(recipe=RECIPE).model_dump_json())
    return path


@pytest.fixture(scope="module")
def finished(discs: Path, plan_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of the six cases of ``discs`` that are no test cases."""
    output = tmp_path_factory.mktemp("crossval") / "run"
    result = crossval(discs, output, folds=3, plan=plan_file, device="cpu")
    assert result.problems == ()
    return output


def splits_of(output: Path) -> list[dict[str, list[str]]]:
    return json.loads((output / "splits_final.json").read_text())


def test_every_case_is_held_out_once_and_test_cases_never_appear(finished: Path) -> None:
    folds = splits_of(finished)
    assert sorted(name for fold in folds for name in fold["val"]) == [f"disc{i}" for i in range(6)]
    for number, fold in enumerate(folds):
        assert set(fold["train"]) | set(fold["val"]) == {f"disc{i}" for i in range(6)}
        run = Run(finished / f"fold_{number}")
        assert run.splits == fold
        assert run.plan == Run(finished).plan
        assert {path.stem for path in run.validation.glob("*.png")} == set(fold["val"])
        assert not any(Path(file).stem in ("disc6", "disc7") for file in run.manifest["data"])


def test_the_metrics_are_those_of_the_masks(finished: Path, discs: Path, tmp_path: Path) -> None:
    for number in range(3):
        for file in (finished / f"fold_{number}" / "validation").glob("*.png"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    again = evaluate(discs, tmp_path, run=finished)
    tree = json.loads((finished / "crossval.json").read_text(), parse_constant=pytest.fail)
    assert tree["summary"] == again.summary
    means = [np.mean([c.mean["dsc"] for c in again.cases if c.name in fold["val"]]) for fold in splits_of(finished)]
    spread = tree["spread"]["mean"]["dsc"]
    assert spread["fold_means"] == pytest.approx(means)
    assert spread["std_folds"] == pytest.approx(np.std(means, ddof=1))
    assert spread["std_cases"] == pytest.approx(np.std([c.mean["dsc"] for c in again.cases], ddof=1))
    nnunet = json.loads((finished / "crossval_summary.json").read_text())
    assert len(nnunet["metric_per_case"]) == 6
    with (finished / "crossval.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 6
    assert tree["cases"][0]["prediction_file"].startswith("fold_")


def test_the_page_shows_each_fold(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "Cross-validation" in page
    assert all(f"<th>fold {number}</th>" in page for number in range(3))
    assert "Not in this report" not in page


def test_the_manifest_has_the_hash_of_every_file(finished: Path) -> None:
    files = Run(finished).manifest["files"]
    assert {"crossval.json", "postprocessing.json", "splits_final.json", "fold_2/weights.safetensors"} <= files.keys()


def test_predict_takes_the_folder_as_the_mean_of_its_folds(finished: Path, discs: Path, tmp_path: Path) -> None:
    folds = [finished / f"fold_{number}" for number in range(3)]
    predict(discs, finished, tmp_path / "folder", split="test", device="cpu")
    predict(discs, folds, tmp_path / "folds", split="test", device="cpu")
    names = sorted(path.name for path in (tmp_path / "folder").glob("*.png"))
    assert names == ["disc6.png", "disc7.png"]
    for name in names:
        assert (tmp_path / "folder" / name).read_bytes() == (tmp_path / "folds" / name).read_bytes()
    assert len(Predictor(open_runs(finished)).networks) == 3
    assert evaluate(discs, tmp_path / "folder", run=finished, split="test").mean_dice > 0.8


def test_operating_points_are_those_of_all_cases_out_of_fold(finished: Path, discs: Path, tmp_path: Path) -> None:
    points = read_operating_points(finished)
    assert points is not None
    assert (points.source, points.cases) == ("out-of-fold", 6)
    names = {case["name"]: case for case in json.loads((finished / "crossval.json").read_text())["cases"]}
    assert points.doubts.keys() == names.keys()
    (structure,) = points.structures
    assert structure.default.dice[0] == pytest.approx(np.mean([case["mean"]["dsc"] for case in names.values()]))
    # The folds are averaged before the threshold is applied to them.
    folder = shutil.copytree(finished, tmp_path / "run")
    chosen = choose_threshold(folder, sensitivity=0.5)
    assert chosen.how == "sensitivity 0.5 of 6 out-of-fold cases"
    assert len(chosen.weights) == 3
    image = np.full((40, 48), 120, np.float32)
    mask, probabilities = predict(image, folder, probabilities=True, device="cpu")
    assert np.array_equal(mask > 0, probabilities[1] - probabilities[0] > np.float32(2 * chosen.threshold - 1))
    other = [folder, finished]
    with pytest.raises(InputError, match="their chosen thresholds differ"):
        predict(image, other, device="cpu")


def test_predict_applies_what_was_chosen(finished: Path, discs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    for file in finished.rglob("*"):
        if file.is_file():
            (copy / file.relative_to(finished)).parent.mkdir(parents=True, exist_ok=True)
            (copy / file.relative_to(finished)).write_bytes(file.read_bytes())
    assert read_postprocessing(finished).trials
    everything = {"step": "remove_small", "structure": "disc", "labels": [255], "written_as": 255}
    tree = {"version": 1, "steps": [{**everything, "minimum_volume": 1e6}]}
    (copy / "postprocessing.json").write_text(json.dumps(tree))
    image = np.asarray(_read(discs / "images" / "disc6.png"))
    assert not predict(image, copy, device="cpu").any()
    raw = predict(image, copy, device="cpu", postprocess=False)
    assert np.array_equal(raw, predict(image, finished, device="cpu", postprocess=False))
    assert raw.any()
    with pytest.raises(InputError, match="`postprocess=False`"):
        predict(image, [copy, finished / "fold_0"], device="cpu")


def _read(path: Path):  # type: ignore[no-untyped-def]
    from PIL import Image

    return Image.open(path)


def test_a_failing_fold_loses_no_other_and_is_resumed(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    plan_file = tmp_path / "plan.json"
    plan_file.write_text(tiny_plan().model_dump_json())
    after_epoch = RunWriter.on_train_epoch_end

    def broken(self: RunWriter, trainer, pl_module) -> None:  # type: ignore[no-untyped-def]
        after_epoch(self, trainer, pl_module)
        if self.run.path.name == "fold_1":
            raise DeconvsegError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "on_train_epoch_end", broken)
        result = crossval(discs, output, folds=2, plan=plan_file, device="cpu")
    assert result.problems[0] == "fold 1: power cut"
    assert len(result.evaluation.cases) == 3
    assert sum("fold 1 did not finish" in problem for problem in result.problems) == 3
    assert result.postprocessing is None
    with pytest.raises(InputError, match="fold_1 of 2 folds did not finish"):
        predict(np.zeros((40, 48)), output, device="cpu")

    hashes = Run(output / "fold_0").manifest["files"]
    again = crossval(discs, output, resume=True)
    assert again.problems == ()
    assert len(again.evaluation.cases) == 6
    assert Run(output / "fold_0").manifest["files"] == hashes
    assert [row["epoch"] for row in Run(output / "fold_1").metrics] == [0, 1]


@pytest.mark.parametrize(
    ("changed", "what"), [({}, "cases"), ({"learning_rate": 1e-4}, "values in its plan")], ids=["splits", "plan"]
)
def test_a_run_that_was_trained_by_hand_in_a_folds_place_is_not_taken_for_the_fold(
    finished: Path, discs: Path, tmp_path: Path, changed: dict[str, float], what: str
) -> None:
    output = tmp_path / "run"
    shutil.copytree(finished, output)
    own = Run(output / "fold_1")
    if changed:
        plan = own.plan.model_copy(update={"recipe": own.plan.recipe.model_copy(update=changed)})
        own.path.joinpath("plan.json").write_text(plan.model_dump_json())
    else:
        names = {**own.splits, "train": own.splits["val"], "val": own.splits["train"]}
        own.path.joinpath("splits.json").write_text(json.dumps(names))
    with pytest.raises(InputError, match=f"fold_1: holds a run with other {what} than fold 1 .*; move it away"):
        crossval(discs, output, resume=True)

    class ByHand(Executor):
        """Finds the fold's place taken when its turn comes."""

        slots = 1

        def run(self, tasks: Sequence[Task], console: Console) -> Iterator[Outcome]:
            shutil.copytree(tmp_path / "hand", own.path)
            yield Outcome(tasks[0], error=DeconvsegError("holds a run already"))

    shutil.move(own.path, tmp_path / "hand")
    result = crossval(discs, output, resume=True, executor=ByHand())
    assert re.search(f"fold_1: holds a run with other {what}", result.problems[0])
    assert {case.name for case in result.evaluation.cases}.isdisjoint(splits_of(output)[1]["val"])


def test_an_interruption_stops_all_folds(
    discs: Path, plan_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: RunWriter, trainer, pl_module) -> None:  # type: ignore[no-untyped-def]
        raise InterruptionError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "on_train_epoch_end", interrupted)
        with pytest.raises(InterruptionError):
            crossval(discs, tmp_path / "run", folds=2, plan=plan_file, device="cpu")
    assert not (tmp_path / "run" / "fold_1").exists()


def test_processes_train_what_this_process_trains(finished: Path, discs: Path, plan_file: Path, tmp_path: Path) -> None:
    console = Listening()
    common = {"dataset": str(discs), "plan": str(plan_file), "splits": str(finished / "splits_final.json")}
    cache = {"cache": str(tmp_path / "cache")}
    tasks = [
        Task(
            f"fold {fold}",
            "deconvseg.experiments.folds:train_fold",
            {**common, **cache, "output": str(tmp_path / f"fold_{fold}"), "fold": fold, "device": "cpu"},
        )
        for fold in (0, 7)
    ]
    outcomes = {outcome.task.key: outcome for outcome in Processes(2, threads=2).run(tasks, console)}
    assert "fold 7 was requested" in (outcomes["fold 7"].problem or "")
    assert isinstance(outcomes["fold 7"].error, InputError)
    assert outcomes["fold 0"].error is None
    assert Run(tmp_path / "fold_0").finished
    assert any(line.startswith("fold 0: ") for line in console.said), console.said
    ours, theirs = (path / "validation" / "metrics.json" for path in (tmp_path / "fold_0", finished / "fold_0"))
    assert read_evaluation(ours).summary == read_evaluation(theirs).summary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 9}, "6 cases cannot make 9 folds"),
        ({"folds": 1}, "`folds=1`: a file of splits with one fold is needed"),
        ({"jobs": 0}, "`jobs=0`: give a whole number, 1 or more"),
        ({"precision": "8"}, "`precision` '8' is unknown: choose from auto, 32, bf16, 16"),
        ({"pretrained": "nowhere"}, "not a run folder"),
        ({"stratify": "site"}, "give the .csv or .tsv file with this column as `table`"),
        ({"table": "sites.csv"}, "give the column by which folds"),
        ({"resume": True}, "no cross-validation to resume"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_trained(
    discs: Path, plan_file: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        crossval(discs, tmp_path / "run", plan=plan_file, device="cpu", **options)
    assert not (tmp_path / "run").exists()


class Listed(Executor):
    """An executor that only keeps what it is asked to train."""

    slots = 1

    def run(self, tasks: Sequence[Task], console: Console) -> Iterator[Outcome]:
        self.tasks = tasks
        yield from (Outcome(task, error=DeconvsegError("not trained")) for task in tasks)


def test_what_is_asked_of_the_plan_and_the_devices_reaches_every_fold(
    discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, asked = importlib.import_module("deconvseg.training.deciding"), {}

    def plan_of_these(data: object, parts: object, **options: object) -> Plan:
        asked.update(options)
        return tiny_plan(recipe=RECIPE)

    monkeypatch.setattr(module, "make_plan", plan_of_these)
    listed = Listed()
    wanted = {"preset": "glas", "variant": "Deconver, filters of 5", "memory": 10**9, "dims": 2}
    others = {"max_seconds": 60, "devices": 2, "strategy": "ddp", "cache": tmp_path / "cache"}
    with pytest.raises(DeconvsegError, match="every fold failed"):
        crossval(discs, tmp_path, folds=2, device="cpu", **others, **wanted, executor=listed)
    assert {key: asked[key] for key in (*wanted, "seconds")} == {**wanted, "seconds": 60}
    assert wanted.items() <= Run(tmp_path).config.items()
    for task in listed.tasks:
        assert {**others, "cache": str(tmp_path / "cache")}.items() <= task.arguments.items()
    with pytest.raises(InputError, match="`jobs=2` together with `devices=2`"):
        crossval(discs, tmp_path, jobs=2, devices=2, device="cpu")


def test_a_run_of_another_making_is_no_fold(trained: Path, discs: Path, plan_file: Path, tmp_path: Path) -> None:
    (tmp_path / "fold_1").mkdir()
    for name in ("plan.json", "manifest.json", "report.html"):
        (tmp_path / "fold_1" / name).write_bytes((trained / name).read_bytes())
    with pytest.raises(InputError, match="fold_1: holds a run already"):
        crossval(discs, tmp_path, folds=2, plan=plan_file, device="cpu")


def test_a_cross_validation_is_not_overwritten_or_continued_otherwise(finished: Path, discs: Path) -> None:
    with pytest.raises(InputError, match="holds a cross-validation already"):
        crossval(discs, finished, device="cpu")
    with pytest.raises(InputError, match="seed 0 → 4"):
        crossval(discs, finished, seed=4, resume=True)
    with pytest.raises(InputError, match="has 3 folds, but 4 were requested"):
        crossval(discs, finished, folds=4, resume=True)
    with pytest.raises(InputError, match="was started with `stratify=None`; omit `stratify`"):
        crossval(discs, finished, stratify="site", resume=True)


def test_a_dataset_with_regions_is_scored_by_region(balls: Path, tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for file in (balls / folder).iterdir():
            (tmp_path / "data" / folder / file.name).write_bytes(file.read_bytes())
    record = json.loads((balls / "dataset.json").read_text())
    regions = {"labels": {"background": 0, "ball": [3, 7], "core": 7}, "regions_class_order": [3, 7]}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(record | regions))
    config = {"in_channels": 2, "out_channels": 2, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    plan = tiny_plan(
        spatial_dims=3,
        spacing=[1.0, 1.0, 2.0],
        patch_size=[8, 8, 4],
        channels=[{"name": "T1"}, {"name": "T2"}],
        labels={"values": [0, 3, 7], "names": ["background", "label 3", "core"]},
        regions=[{"name": "ball", "labels": [1, 2], "paints": 1}, {"name": "core", "labels": [2], "paints": 2}],
        model={"name": "deconver", "config": config},
        recipe={"epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "learning_rate": 0.01},
    )
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    result = crossval(tmp_path / "data", tmp_path / "run", folds=2, plan=tmp_path / "plan.json", device="cpu")
    assert result.evaluation.labels == {3: "ball", 7: "core"}
    summary = json.loads((tmp_path / "run" / "fold_0" / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"(3, 7)", "7"}
    assert result.postprocessing is not None
    assert {trial.structure for trial in result.postprocessing.trials} == {"ball", "core"}
    # What was scored is on disk, and can be scored again with the same result.
    assert result.evaluation.region_files
    for fold in range(2):
        validation = tmp_path / "run" / f"fold_{fold}" / "validation"
        assert {path.name for path in (validation / "regions").iterdir()} == {"ball", "core"}
        again = evaluate(
            tmp_path / "data",
            validation,
            run=validation.parent,
            splits=tmp_path / "run" / "splits_final.json",
            split="val",
            fold=fold,
        )
        kept = read_evaluation(validation / "metrics.json")
        assert (again.summary, again.region_files) == (kept.summary, True)
    whole = sum(case.metrics[3]["n_truth"] for case in result.evaluation.cases)
    assert whole > sum(case.metrics[7]["n_truth"] for case in result.evaluation.cases) > 0


def test_a_finished_cross_validation_tells_no_path(finished: Path) -> None:
    for path in finished.rglob("*"):
        if path.suffix in (".json", ".csv", ".html"):
            assert str(finished.parent) not in path.read_text(), path


def test_a_cross_validation_does_not_go_on_with_other_masks_or_folds(
    finished: Path, discs: Path, tmp_path: Path
) -> None:
    data, output = (Path(shutil.copytree(*pair)) for pair in ((discs, tmp_path / "data"), (finished, tmp_path / "cv")))
    mask = data / "masks" / "disc1.png"
    kept = mask.read_bytes()
    shutil.copy2(data / "masks" / "disc2.png", mask)
    with pytest.raises(InputError, match=r"masks/disc1\.png: has changed since the run was started"):
        crossval(data, output, resume=True)
    mask.write_bytes(kept)
    folds = json.loads((output / "splits_final.json").read_text())
    first = folds[0]["val"][0]
    folds[0]["val"], folds[0]["train"] = folds[0]["val"][1:], [*folds[0]["train"], first]
    (output / "splits_final.json").write_text(json.dumps(folds))
    with pytest.raises(InputError, match=r"fold_0: holds a run with other cases than fold 0 of the cross-"):
        crossval(data, output, resume=True)


@pytest.fixture(scope="module")
def tested(finished: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScoredFolds]:
    """The finished cross-validation, continued with its test cases."""
    output = Path(shutil.copytree(finished, tmp_path_factory.mktemp("tested") / "run"))
    test = crossval(discs, output, resume=True, test=True).test
    assert test is not None
    return output, test


def test_test_cases_are_scored_by_each_fold_and_by_their_average(
    finished: Path, tested: tuple[Path, ScoredFolds], discs: Path, tmp_path: Path
) -> None:
    """Nothing is trained for them, and their masks are kept."""
    output, test = tested
    assert (test.cases, sorted(test.folds), test.problems) == (2, [0, 1, 2], ())
    weights = [f"fold_{fold}/weights.safetensors" for fold in range(3)]
    assert all((output / name).read_bytes() == (finished / name).read_bytes() for name in weights)
    folds = [output / f"fold_{fold}" for fold in range(3)]
    for name, models in (("fold_1", folds[1]), ("average", folds)):
        predict(discs, models, tmp_path / name, split="test", postprocess=False, device="cpu")
        for mask in ("disc6.png", "disc7.png"):
            assert (tmp_path / name / mask).read_bytes() == (output / "test" / name / mask).read_bytes()
    means = [evaluate(discs, output / "test" / f"fold_{fold}", split="test").mean_dice for fold in range(3)]
    found = json.loads((output / "crossval.json").read_text())["test"]
    spread = found["spread"]["classes"]["255"]["dsc"]
    assert spread["fold_means"] == pytest.approx(means)
    assert (spread["mean"], spread["std_folds"]) == pytest.approx((np.mean(means), np.std(means, ddof=1)))
    average = read_evaluation(output / found["average"])
    assert spread["average"] == pytest.approx(average.mean_dice)
    assert {case.name for case in average.cases} == {"disc6", "disc7"}
    page = (output / "report.html").read_text()
    assert '<section id="test"' in page
    assert f"{spread['average']:.3f}" in page.partition('<section id="test"')[2]
    assert {"test/average/disc6.png", "test/fold_0/metrics.json"} <= Run(output).manifest["files"].keys()

    times = {path: path.stat().st_mtime_ns for path in (output / "test").rglob("*.png")}
    (output / "test" / "fold_2" / "disc7.png").unlink()
    again = crossval(discs, output, resume=True).test
    assert again is not None
    assert again.spread() == test.spread()
    kept = {path for path, time in times.items() if path.stat().st_mtime_ns == time}
    assert {path.relative_to(output).as_posix() for path in times.keys() - kept} == {"test/fold_2/disc7.png"}


@pytest.mark.parametrize(
    ("splits", "text"),
    [
        ({"train": [f"disc{number}" for number in range(6)]}, "has no test cases; list them in a file of splits"),
        (
            [
                {"train": ["disc0"], "val": ["disc1"], "test": ["disc6"]},
                {"train": ["disc1"], "val": ["disc0"], "test": ["disc7"]},
            ],
            "have different test cases",
        ),
    ],
)
def test_test_cases_that_are_not_there_are_refused_before_anything_is_trained(
    discs: Path, plan_file: Path, tmp_path: Path, splits: object, text: str
) -> None:
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    options = {"plan": plan_file, "splits": tmp_path / "splits.json", "device": "cpu"}
    with pytest.raises(InputError, match=rf"^`test=True`: .*{text}"):
        crossval(discs, tmp_path / "run", test=True, **options)
    assert not (tmp_path / "run" / "plan.json").exists()


def test_test_cases_of_the_layout_are_no_change_of_the_splits(discs: Path, finished: Path, tmp_path: Path) -> None:
    """The file of splits does not name them, and the folds do not either."""
    run, data, file = Run.open(finished), open_dataset(discs), tmp_path / "splits.json"
    parts = [Splits(**{**fold, "test": ()}) for fold in splits_of(finished)]
    file.write_text(json.dumps({"train": list(run.splits["train"])}))
    assert run.splits["test"]
    check_same_folds(run, parts, TrainOptions(dataset=str(discs), splits=str(file)), data)
    file.write_text(json.dumps({"train": list(run.splits["train"]), "test": list(run.splits["test"])}))
    with pytest.raises(InputError, match="has other cases than when the cross-validation in .* was started"):
        check_same_folds(run, parts, TrainOptions(dataset=str(discs), splits=str(file)), data)


def test_test_cases_that_the_layout_declares_need_a_mask(discs: Path) -> None:
    data = open_dataset(discs)
    parts = [Splits(("disc0",), ("disc1",), ()), Splits(("disc1",), ("disc0",), ())]
    assert find_test_cases(replace(data, declared_test=("disc1", "disc5")), parts) == ("disc5",)
    bare = replace(data, cases=tuple(replace(case, label=None) for case in data.cases))
    with pytest.raises(InputError, match="test cases without a mask cannot be scored: disc7"):
        find_test_cases(bare, [replace(part, test=("disc7",)) for part in parts])


@pytest.mark.parametrize("test", [None, "folds", "average"])
@pytest.mark.parametrize("weights", ["final", "best"])
def test_a_cell_of_a_table_scores_the_masks_of_its_cross_validation_or_predicts_the_same(
    tested: tuple[Path, ScoredFolds],
    discs: Path,
    tmp_path: Path,
    test: Literal["folds", "average"] | None,
    weights: str,
) -> None:
    """The cross-validation has evaluated the final weights; its networks with the best ones are the reference."""
    folder = tmp_path / "cell"
    runs = shutil.copytree(tested[0], folder / "crossval")
    cell = Cell(
        **{"protocol": {}, "row": "a", "dataset": "discs", "seed": 0, "scale": {}, "values": {}, "device": "cpu"},
        root=str(discs), splits=str(runs / "splits_final.json"), output=str(folder), weights=weights,
    )  # fmt: skip
    dataset = ProtocolDataset(name="discs", preset="isic", test=test)
    found = _predictions(cell, dataset, [0, 1, 2], Silent())
    assert [number for number, _, _ in found] == ([0] if test == "average" else [0, 1, 2])
    assert all(masks.is_relative_to(runs) == (weights == "final") for _, masks, _ in found)
    networks = [(run.network(weights), run.plan) for run in open_runs(runs)]
    for number, masks, _ in found:
        models = networks if test == "average" else [networks[number]]
        part = {"splits": cell.splits, "split": "test" if test else "val", "fold": number}
        predict(discs, models, tmp_path / str(number), postprocess=False, device="cpu", **part)
        names = sorted(path.name for path in (tmp_path / str(number)).glob("*.png"))
        assert len(names) == 2
        assert all((masks / name).read_bytes() == (tmp_path / str(number) / name).read_bytes() for name in names)
