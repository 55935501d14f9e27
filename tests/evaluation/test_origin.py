"""What predict has recorded beside its masks is told with their scores."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate, read_evaluation
from deconvseg.inference import predict
from deconvseg.progress import Lines
from deconvseg.reporting import write_report
from deconvseg.reporting.page import read_report
from deconvseg.runs import Run


def test_doubts_that_predict_recorded_stand_among_the_warnings(tmp_path: Path) -> None:
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    for folder in ("truth", "prediction"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "truth" / f"{name}.nii.gz")
        mask = mask[::-1].copy()
        nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / "prediction" / f"{name}.nii.gz")
    assert evaluate(tmp_path / "truth", tmp_path / "prediction").warnings == ()
    lines: list[object] = [
        {"mask": "a.nii.gz", "warnings": ["an older doubt"]},
        {"mask": "a.nii.gz", "warnings": ["unlike the training scans: size along x 6 mm", "the mask is empty"]},
        {"mask": "gone.nii.gz", "warnings": ["unlike the training scans"]},
        {"mask": ["b"], "warnings": 3},
        [],
    ]
    text = "\n".join([*map(json.dumps, lines), '{"mask": "b.nii.g'])
    (tmp_path / "prediction" / "predictions.jsonl").write_text(text)
    (warning,) = evaluate(tmp_path / "truth", tmp_path / "prediction").warnings
    assert warning == "the prediction warned of 1 of the masks: a.nii.gz: unlike the training scans: size along x 6 mm"


@pytest.fixture(scope="module")
def scored(trained: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and its masks of two training cases and the two test cases."""
    folder = tmp_path_factory.mktemp("scored")
    run = shutil.copytree(trained, folder / "run")
    splits = Run(run).splits
    predict(discs, run, folder / "masks", cases=[*splits["train"][:2], *splits["test"]])
    return folder


def _evaluate(discs: Path, masks: Path, output: Path, cases: list[str], **options: object) -> str:
    """Evaluate some cases by a splits file; return the first warning, or nothing."""
    splits = output.with_suffix(".splits.json")
    splits.write_text(json.dumps({"train": [], "val": [], "test": cases}))
    done = evaluate(discs, masks, output, splits=splits, split="test", **options)
    return next((text for text in done.warnings if "not a test" in text), "")


def test_training_cases_among_the_evaluated_ones_are_told(scored: Path, discs: Path, tmp_path: Path) -> None:
    splits = Run(scored / "run").splits
    seen, new = splits["train"][:2], splits["test"]
    text = _evaluate(discs, scored / "masks", tmp_path / "m.json", [*seen, *new])
    assert text.startswith("2 of these 4 cases were training cases (by name) of the run that made the masks")
    assert text.endswith(", ".join(seen))
    assert text in read_evaluation(tmp_path / "m.json").warnings
    assert _evaluate(discs, scored / "masks", tmp_path / "new.json", new) == ""
    one = _evaluate(discs, scored / "masks", tmp_path / "one.json", seen[:1])
    assert one.startswith("the evaluated case was a training case (by name) of the run that made the masks")
    page = write_report(scored / "run", evaluations=[tmp_path / "m.json"], output=tmp_path / "page.html").read_text()
    assert page.count("<b>Not a test</b>") == 2, "on the first screen and in the section"
    assert page.count(text) == 2
    page = write_report(scored / "run", evaluations=[tmp_path / "new.json"], output=tmp_path / "page.html").read_text()
    assert "Not a test" not in page


def test_the_run_is_only_known_where_its_folder_is_found(scored: Path, discs: Path, tmp_path: Path) -> None:
    cases = Run(scored / "run").splits["train"][:2]
    masks, output = shutil.copytree(scored / "masks", tmp_path / "elsewhere" / "masks"), tmp_path / "m.json"
    assert _evaluate(discs, masks, output, cases) == ""
    assert "2 of these 2" in _evaluate(discs, masks, output, cases, run=scored / "run")
    # Another run in its place, with other weights, says nothing of these masks.
    other = shutil.copytree(scored / "run", tmp_path / "elsewhere" / "run")
    assert "2 of these 2" in _evaluate(discs, masks, output, cases)
    manifest = json.loads((other / "manifest.json").read_text())
    for name in ("weights.safetensors", "weights_best.safetensors"):
        manifest["files"][name] = "0" * 64
    (other / "manifest.json").write_text(json.dumps(manifest))
    assert _evaluate(discs, masks, output, cases) == ""


def test_metrics_of_earlier_versions_are_compared_with_the_splits_of_the_run(
    scored: Path, discs: Path, tmp_path: Path
) -> None:
    _evaluate(discs, scored / "masks", tmp_path / "m.json", Run(scored / "run").splits["train"][:2])
    tree = json.loads((tmp_path / "m.json").read_text())
    del tree["origin"]["trained_on"]
    (tmp_path / "m.json").write_text(json.dumps({**tree, "warnings": []}))
    given, validation = read_report(scored / "run", [tmp_path / "m.json"]).evaluations
    assert given.seen.startswith("2 of these 2 cases were training cases")
    assert validation.seen == ""


def test_images_beside_their_masks_are_no_true_masks(scored: Path, discs: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    names = [path.stem for path in (scored / "masks").glob("*.png")]
    for name in names:
        shutil.copy(discs / "masks" / f"{name}.png", flat / f"{name}_mask.png")
        Image.open(discs / "images" / f"{name}.png").convert("RGB").save(flat / f"{name}.jpg")
    with pytest.raises(InputError, match=r"side by side .*`run=RUN`\), or `image='\*.jpg'` `mask='\*_mask.png'`"):
        evaluate(flat, scored / "masks")
    config = {**Run(scored / "run").config, "image": ["*.jpg"], "mask": ["*_mask.png"]}
    run = shutil.copytree(scored / "run", tmp_path / "run")
    (run / "config.json").write_text(json.dumps(config))
    masks = shutil.copytree(scored / "masks", tmp_path / "masks")
    said: list[str] = []
    found = evaluate(flat, masks, console=Lines(said.append))
    assert len(found.cases) == len(names)
    assert any("its masks are found by the pattern of the run that made the predictions, *_mask.png" in t for t in said)
    given = evaluate(flat, masks, image=["*.jpg"], mask=["*_mask.png"])
    assert found.mean_dice == given.mean_dice
