"""No old mask passes for a new one: what --continue leaves, and what becomes of the mask of a case that fails."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import nn

from deconvseg.data import Case, Geometry, LabelMap, read_image, read_label_map, write_label_map
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.inference import Prediction, Predictor, predict, predict_cases
from deconvseg.planning import Appearance
from deconvseg.planning.appearance import look_at
from deconvseg.runs import Run
from plans import plan_of, tiny_plan, volume_run

Predict = Callable[..., Prediction]
SHAPE = (9, 8, 7)


def predictor_of(seed: int, **options: object) -> Predictor:
    torch.manual_seed(seed)
    return Predictor([(nn.Conv3d(1, 3, 1), plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0)))], **options)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    (tmp_path / "scans").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        scan = nib.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), np.eye(4))
        nib.save(scan, tmp_path / "scans" / f"{name}.nii.gz")
    return [Case(name, (tmp_path / "scans" / f"{name}.nii.gz",), None) for name in ("a", "b", "c")]


@pytest.fixture
def run(cases: list[Case], tmp_path: Path) -> Predict:
    def predicted(predictor: Predictor | None = None, **options: object) -> Prediction:
        options = {"load": lambda case: read_image(case.images), **options}
        return predict_cases(predictor or predictor_of(0), cases, tmp_path / "masks", **options)

    return predicted


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_continued_prediction_leaves_what_it_made_and_knows_it_after_an_interruption(
    run: Predict, tmp_path: Path
) -> None:
    run()
    (tmp_path / "masks" / "b.nii.gz").unlink()
    with (tmp_path / "masks" / "predictions.jsonl").open("a") as stream:
        stream.write('{"mask": "b.nii.gz", "sha')
    done = run(skip_existing=True)
    assert (names(done.skipped), names(done.written)) == (["a.nii.gz", "c.nii.gz"], ["b.nii.gz"])
    assert done.remarks == {}
    # The record of the new mask is a line of its own behind what the interruption left.
    again = run(skip_existing=True)
    assert (len(again.skipped), again.remarks) == (3, {})


MASK = LabelMap(np.zeros(SHAPE, np.uint8), Geometry.identity(3))


@pytest.mark.faults
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda mask, scan: mask.write_bytes(mask.read_bytes()[:60]), "is damaged"),
        (lambda mask, scan: mask.write_bytes(b""), "is damaged"),
        pytest.param(
            lambda mask, scan: (mask.unlink(), mask.symlink_to("/proc/self/mem")),
            "is damaged",
            marks=pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="Linux has such a file"),
        ),
        (lambda mask, scan: write_label_map(LabelMap(MASK.pixels[:-1], MASK.geometry), mask), "is on another grid"),
        (lambda mask, scan: write_label_map(LabelMap(MASK.pixels, Geometry(np.diag([2, 1, 1, 1]))), mask), "grid"),
        (lambda mask, scan: write_label_map(LabelMap(MASK.pixels + 9, MASK.geometry), mask), "holds the values 9"),
        (lambda mask, scan: (write_label_map(MASK, mask), os.utime(mask, (1, 1))), "is older than its image"),
    ],
)
def test_a_mask_that_cannot_be_of_its_image_is_moved_away_and_predicted_again(
    run: Predict, cases: list[Case], tmp_path: Path, spoil: Callable[[Path, Path], object], reason: str
) -> None:
    run()
    mask = tmp_path / "masks" / "b.nii.gz"
    expected = mask.read_bytes()
    spoil(mask, cases[1].images[0])
    spoilt = None if mask.is_symlink() else mask.read_bytes()
    done = run(skip_existing=True)
    assert names(done.written) == ["b.nii.gz"]
    assert reason in done.remarks["b"][0]
    assert "b.nii.gz.old" in done.remarks["b"][0]
    assert np.array_equal(read_label_map(mask).pixels, nib.Nifti1Image.from_bytes(gzip.decompress(expected)).dataobj)
    old = tmp_path / "masks" / "b.nii.gz.old"
    assert old.is_symlink() if spoilt is None else old.read_bytes() == spoilt


def test_masks_of_another_network_other_options_or_an_earlier_image_are_made_again(
    run: Predict, cases: list[Case]
) -> None:
    run()
    for other in (predictor_of(1), predictor_of(1, overlap=0.25), predictor_of(1, overlap=0.25, tta=True)):
        done = run(other, skip_existing=True)
        assert len(done.written) == 3
        assert "made by another run or with other options" in done.remarks["a"][0]
        assert len(run(other, skip_existing=True).skipped) == 3
    scan = cases[1].images[0]
    os.utime(scan, (1, 1))
    assert len(run(other, skip_existing=True).skipped) == 3
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), scan)
    done = run(other, skip_existing=True)
    assert names(done.written) == ["b.nii.gz"]
    assert "its image has changed" in done.remarks["b"][0]


def test_a_mask_that_was_corrected_or_made_elsewhere_is_left_and_named(run: Predict, tmp_path: Path) -> None:
    run()
    folder = tmp_path / "masks"
    write_label_map(MASK, folder / "a.nii.gz")
    assert "was changed after it was made" in run(skip_existing=True).remarks["a"][0]
    (folder / "predictions.jsonl").unlink()
    done = run(skip_existing=True)
    assert len(done.skipped) == 3
    assert "was not made by this command, according to predictions.jsonl" in done.remarks["b"][0]


@pytest.mark.faults
@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_bytes(file.read_bytes()[:200])])
def test_probabilities_that_are_missing_or_damaged_are_made(
    run: Predict, tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    run()
    assert len(run(skip_existing=True, save_probabilities=True).written) == 3
    spoil(tmp_path / "masks" / "b.npz")
    done = run(skip_existing=True, save_probabilities=True)
    assert (names(done.skipped), names(done.written)) == (["a.nii.gz", "c.nii.gz"], ["b.nii.gz"])
    assert np.load(tmp_path / "masks" / "b.npz", allow_pickle=False)["probabilities"].shape == (3, *SHAPE)


def test_the_old_mask_of_a_case_that_fails_is_no_mask_any_more(run: Predict, cases: list[Case], tmp_path: Path) -> None:
    run(save_probabilities=True)
    folder, scan = tmp_path / "masks", cases[1].images[0]
    old = (folder / "b.nii.gz").read_bytes()
    scan.write_bytes(scan.read_bytes()[:100])
    done = run()
    assert "its earlier mask is now b.nii.gz.old" in done.problems[0]
    assert sorted(path.name for path in folder.glob("b*")) == ["b.npz.old", "b.nii.gz.old"][::-1]
    assert (folder / "b.nii.gz.old").read_bytes() == old
    assert names(run(skip_existing=True).skipped) == ["a.nii.gz", "c.nii.gz"]
    with pytest.raises(DeconvsegError):
        predict_cases(predictor_of(0), cases[1:2], folder, load=lambda c: read_image(c.images), raise_problems=True)


def test_an_unfinished_run_is_named_in_the_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = volume_run(tmp_path / "run")
    Run(folder).append_metrics({"epoch": 0})
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.float32), np.eye(4)), tmp_path / "scan.nii.gz")
    done = predict(tmp_path / "scan.nii.gz", folder, tmp_path / "masks").to_json()
    assert "run: its training did not finish (1 of 2 epochs)" in done["warnings"][0]
    assert "did not finish" in caplog.text
    (model,) = done["models"]
    assert (model["finished"], model["epochs"], model["planned_epochs"]) == (False, 1, 2)
    Run(folder).update_manifest(finished=True)
    caplog.clear()
    assert predict(tmp_path / "scan.nii.gz", folder, tmp_path / "masks").to_json()["models"][0]["finished"]
    assert "did not finish" not in caplog.text


def test_masks_of_one_value_are_named_and_empty_ones_counted(run: Predict) -> None:
    class Constant(nn.Module):
        def __init__(self, favoured: int) -> None:
            super().__init__()
            self.favoured = favoured

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = [0 * x] * 3
            logits[self.favoured] = 0 * x + 1
            return torch.cat(logits, dim=1)

    plan = plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0))
    done = run(Predictor([(Constant(0), plan)]))
    assert done.warnings == ["3 of 3 masks are empty"]
    assert done.remarks["a"] == ["the mask is empty"]
    found = json.loads(json.dumps(done.to_json()))
    assert len(found["empty"]) == 3
    assert found["warnings"][1] == "a: the mask is empty"
    done = run(Predictor([(Constant(2), plan)]))
    assert done.warnings == []
    assert done.remarks["b"] == ["the mask is 2 everywhere"]


def test_a_scan_unlike_the_training_scans_is_named_in_words_json_and_record(
    run: Predict, cases: list[Case], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    looks = [look_at(read_image(case.images)) for case in cases]
    numbers = dict.fromkeys(("zero_fraction", "minimum", "maximum", "mean", "std", "percentile_0_5"), 0.0)
    data = {
        "cases": 3,
        "shapes": [SHAPE] * 3,
        "spacings": [[1, 1, 1]] * 3,
        "orientations": {"RAS": 3},
        "classes": [],
        "channels": [{**numbers, "percentile_99_5": 1.0}],
        "appearance": Appearance.of(looks, 3, 1).model_dump(mode="json"),
    }
    plan = plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0))
    known = tiny_plan(**{**plan.model_dump(mode="json"), "data": data})
    predictor = Predictor([(nn.Conv3d(1, 3, 1), known)])
    assert not [text for texts in run(predictor).remarks.values() for text in texts if "unlike" in text]
    pixels = read_image(cases[1].images).pixels[0]
    nib.save(nib.Nifti1Image(pixels * 1000, np.diag([-3.0, 1, 1, 1])), cases[1].images[0])
    caplog.clear()
    done = run(predictor)
    (text,) = (text for text in done.remarks["b"] if "unlike" in text)
    assert text.startswith("unlike the training scans: axes stored as LAS (training: RAS; does its header")
    for words in ("spacing along x 3 mm (training: 1 mm)", "size along x 27 mm", "span of the intensities of image"):
        assert words in text
    assert f"b: {text}" in done.to_json()["warnings"]
    assert text in caplog.text
    assert text in (tmp_path / "masks" / "predictions.jsonl").read_text(encoding="utf-8")
    # A network whose training scans are not known has no say.
    both = Predictor([(nn.Conv3d(1, 3, 1), known), (nn.Conv3d(1, 3, 1), known.model_copy(update={"data": None}))])
    assert any("unlike" in remark for remark in run(both).remarks["b"])


def test_a_record_of_foreign_content_is_no_record(run: Predict, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    for content in (b"\xff\xfe", b"[]\n{}\n", b'{"mask": 1, "images": [[1]]}', b"[" * 10**5, b"null"):
        (tmp_path / "masks" / "predictions.jsonl").write_bytes(content)
        assert len(run().written) == 3
    with pytest.raises(InputError, match="is a file, not a folder"):
        predict_cases(predictor_of(0), [], tmp_path / "masks" / "a.nii.gz", load=lambda c: read_image(c.images))


def test_a_warning_that_many_cases_have_is_logged_for_three_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    told = Prediction()
    for number in range(9):
        told.remark(f"case{number}", "the mask is empty")
    told.remark("case0", "one of a kind")
    told.log_alike()
    assert [record.message for record in caplog.records] == [
        *(f"case{number}: the mask is empty" for number in range(3)),
        "case0: one of a kind",
        "6 more cases: the mask is empty",
    ]
    assert len(told.to_json()["warnings"]) == 10
