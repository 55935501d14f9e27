"""A run on files as they lie: patterns, names, colours and exclusions reach every file that it leaves."""

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from deconvseg.data import check_dataset, open_dataset, read_mask
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate
from deconvseg.inference import predict
from deconvseg.reporting.gallery import read_masks
from deconvseg.reporting.records import read_evaluation
from deconvseg.runs import Run
from deconvseg.training import train
from plans import tiny_plan

READING = {
    "image": "**/*.png",
    "mask": "**/*_mask*.png",
    "labels": ["7=disc:#ff0000", "255=disc"],
    "exclude": "disc7=cut off",
}


@pytest.fixture(scope="module")
def beside(discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The discs with their masks beside them, each in two halves."""
    root = tmp_path_factory.mktemp("beside")
    for image in (discs / "images").glob("*.png"):
        folder = root / "disc" if int(image.stem[-1]) % 2 else root
        folder.mkdir(exist_ok=True)
        shutil.copy(image, folder / image.name)
        mask = np.asarray(PIL.Image.open(discs / "masks" / image.name))
        for number, half in enumerate((np.s_[:20], np.s_[20:])):
            part = np.zeros_like(mask)
            part[half] = mask[half]
            PIL.Image.fromarray(part).save(folder / f"{image.stem}_mask{f'_{number}' if number else ''}.png")
    shutil.copy(discs / "splits.json", root)
    return root


@pytest.fixture(scope="module")
def run(beside: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    output = tmp_path_factory.mktemp("runs") / "beside"
    recipe = {"epochs": 4, "steps_per_epoch": 25, "validate_every": 2, "learning_rate": 0.01}
    return train(beside, output, plan=tiny_plan(recipe=recipe), device="cpu", **READING)  # type: ignore[arg-type]


def test_the_plan_and_the_options_keep_how_the_dataset_is_read(run: Run) -> None:
    assert run.plan.labels.names == ("background", "disc")
    assert (run.plan.labels.values, run.plan.labels.merged) == ((0, 7), {255: 7})
    assert (run.plan.class_colours, run.plan.excluded) == ({"disc": "#ff0000"}, {"disc7": "cut off"})
    assert {name: run.config[name] for name in READING} == {
        "image": ["**/*.png"],
        "mask": ["**/*_mask*.png"],
        "labels": ["7=disc:#ff0000", "255=disc"],
        "exclude": ["disc7=cut off"],
    }
    assert run.splits["test"] == ["disc6"]


def test_the_validation_scores_the_united_masks_and_names_the_class(run: Run, discs: Path) -> None:
    metrics = json.loads((run.validation / "metrics.json").read_text())
    assert metrics["labels"] == {"7": "disc"}
    assert metrics["summary"]["mean"]["dsc"]["mean"] > 0.5
    record = read_evaluation(run.validation / "metrics.json", run.path)
    for case in record.tree["cases"]:
        assert [Path(part["file"]).name for part in case["truth_source"]["parts"]] == [
            f"{case['name']}_mask.png",
            f"{case['name']}_mask_1.png",
        ]
        truth, _ = read_masks(record, case)
        assert ((truth.pixels > 0) == (read_mask(discs / "masks" / f"{case['name']}.png").pixels > 0)).all()


def test_predicted_masks_have_the_name_and_the_colour(run: Run, beside: Path, tmp_path: Path) -> None:
    done = predict(beside, run.path, tmp_path / "masks", exclude=["disc0"])
    assert [path.name for path in done.written] == [f"disc{number}.png" for number in range(1, 8)]
    with PIL.Image.open(done.written[0]) as mask:
        assert (mask.mode, mask.getpalette()[21:24]) == ("P", [255, 0, 0])  # type: ignore[index]
        assert set(np.unique(np.asarray(mask))) == {0, 7}
    lines = (tmp_path / "masks" / "predictions.jsonl").read_text().splitlines()
    assert all(json.loads(line)["labels"] == {"7": "disc"} for line in lines)
    # By the patterns of the run, and by options.
    by_run = evaluate(beside, tmp_path / "masks", run=run.path, exclude=["disc0"])
    by_options = evaluate(beside, tmp_path / "masks", **{**READING, "exclude": ["disc0"]})  # type: ignore[arg-type]
    assert [case.name for case in by_run.cases] == [f"disc{number}" for number in range(1, 8)]
    assert by_run.summary == by_options.summary
    assert by_run.labels == by_options.labels == {7: "disc"}
    assert not by_run.problems


def test_another_run_and_a_prediction_need_images_that_the_patterns_match(
    run: Run, beside: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"`exclude`: .* has no case 'disc9'; did you mean"):
        predict(beside, run.path, tmp_path, exclude=["disc9"])
    with pytest.raises(InputError, match=r"no file matches '\*.tif' \(`image`\)"):
        predict(beside, run.path, tmp_path, image="*.tif")
    with pytest.raises(InputError, match="`mask` without `image`"):
        predict(beside, run.path, tmp_path, mask="*_mask.png")


def test_a_run_goes_on_without_the_options_and_refuses_others(run: Run, beside: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    assert train(beside, folder, resume=True).plan == run.plan
    with pytest.raises(InputError, match=r"started with other options: exclude \['disc7=cut off'\] → \['disc0'\]"):
        train(beside, folder, resume=True, exclude=["disc0"])


def test_labels_name_the_values_of_plain_masks(discs: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("255=disc:#00ff00\n")
    found = evaluate(discs / "masks", discs / "masks", labels=tmp_path / "labels.txt", exclude="disc1")
    assert (found.labels, len(found.cases)) == ({255: "disc"}, 7)
    assert not found.unmatched
    with pytest.raises(InputError, match=r"`exclude`: no true mask is of a case 'disk1'"):
        evaluate(discs / "masks", discs / "masks", exclude="disk1")
    united = evaluate(discs / "masks", discs / "masks", labels=["1=disc", "255=disc"])
    assert (united.labels, united.regions) == ({1: "disc"}, {1: (1, 255)})
    assert united.summary["mean"]["dsc"]["mean"] == 1


def test_the_foreground_has_the_given_name(discs: Path) -> None:
    dataset = open_dataset(discs, foreground=True, labels=["1=nucleus:#00ff00"])
    assert check_dataset(dataset).labels[1].name == "nucleus"
    assert dataset.label_colours == {"nucleus": "#00ff00"}


def test_masks_in_colour_are_scored_by_the_labels_of_the_run(run: Run, discs: Path, tmp_path: Path) -> None:
    shutil.copytree(discs / "images", tmp_path / "images")
    for number in range(8):
        mask = np.asarray(PIL.Image.open(discs / "masks" / f"disc{number}.png"))
        (tmp_path / "masks").mkdir(exist_ok=True)
        coloured = np.stack([mask, np.zeros_like(mask), np.zeros_like(mask)], axis=-1)
        PIL.Image.fromarray(coloured).save(tmp_path / "masks" / f"disc{number}.png")
    scores = evaluate(tmp_path, run.validation, run=run.path, splits=run.path / "splits.json", split="val")
    own = json.loads((run.validation / "metrics.json").read_text())
    assert scores.summary["mean"]["dsc"]["mean"] == own["summary"]["mean"]["dsc"]["mean"]
