"""Each region in a file of its own: what it holds, when it is made again, and that it is what is scored."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deconvseg.data import Case, RegionFiles, read_image, read_label_map
from deconvseg.errors import InputError
from deconvseg.evaluation import Evaluation, dice, evaluate
from deconvseg.inference import Postprocessing, Prediction, Predictor, make_step, predict, predict_cases
from deconvseg.models import create_model
from deconvseg.planning import Plan
from deconvseg.runs import Run
from plans import nested_plan, plan_of, tiny_plan

SHAPE = (9, 8, 7)
NAMES = ("inner", "whole", "middle")
Predict = Callable[..., Prediction]


class Fixed(nn.Module):
    """Logits that depend on the intensity alone, a region's independent of the others'."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.phase = nn.Parameter(torch.arange(3.0) + seed)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([2 * torch.cos((3 + place) * x + phase) for place, phase in enumerate(self.phase)], dim=1)


def plan() -> Plan:
    tree = plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0)).model_dump(mode="json")
    nested = nested_plan().model_dump(mode="json")
    return tiny_plan(**{**tree, "labels": nested["labels"], "regions": nested["regions"]})


def predictor_of(seed: int = 0, **options: object) -> Predictor:
    return Predictor([(Fixed(seed), plan())], **options)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    (tmp_path / "scans").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        scan = nib.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), np.diag([-1, 1, 2, 1]))
        nib.save(scan, tmp_path / "scans" / f"{name}.nii.gz")
    return [Case(name, (tmp_path / "scans" / f"{name}.nii.gz",), None) for name in ("a", "b")]


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return tmp_path / "masks"


@pytest.fixture
def run(cases: list[Case], masks: Path) -> Predict:
    def predicted(predictor: Predictor | None = None, **options: object) -> Prediction:
        options = {"load": lambda case: read_image(case.images), "save_regions": True, **options}
        return predict_cases(predictor or predictor_of(), cases, masks, **options)

    return predicted


@pytest.fixture
def truth(tmp_path: Path, cases: list[Case]) -> Path:
    folder = tmp_path / "truth"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for case in cases:
        pixels = rng.integers(0, 4, SHAPE).astype(np.uint8)
        nib.save(nib.Nifti1Image(pixels, np.diag([-1, 1, 2, 1])), folder / f"{case.name}.nii.gz")
    return folder


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A run whose plan names the regions; its weights do not matter."""
    nested = nested_plan()
    folder = Run.create(tmp_path / "run", nested, {}, {"train": [], "val": [], "test": []})
    folder.save_weights(create_model("deconver", **nested.model.config).state_dict())
    return folder.path


def region(masks: Path, name: str, case: str = "a") -> np.ndarray:
    return read_label_map(masks / "regions" / name / f"{case}.nii.gz").pixels


def scored(truth: Path, masks: Path, run: Path) -> Evaluation:
    return evaluate(truth, masks, run=run)


@pytest.mark.parametrize("threshold", [None, 0.6, {"inner": 0.3}])
def test_a_file_is_one_where_the_probability_of_its_region_is_above_its_threshold(
    run: Predict, cases: list[Case], masks: Path, threshold: object
) -> None:
    predictor = predictor_of(threshold=threshold)
    assert len(run(predictor).written) == 2
    maps = predictor.probabilities(read_image(cases[0].images))
    bounds = dict.fromkeys(NAMES, 0.5) | (threshold if isinstance(threshold, dict) else {})
    for name, one in zip(NAMES, maps, strict=True):
        found = read_label_map(masks / "regions" / name / "a.nii.gz")
        assert np.array_equal(found.pixels, one > (threshold if isinstance(threshold, float) else bounds[name]))
        assert found.geometry.matches(read_image(cases[0].images).geometry)
    # The painted mask is the one that is written without the files.
    painted = (masks / "a.nii.gz").read_bytes()
    run(predictor_of(threshold=threshold), save_regions=False)
    assert (masks / "a.nii.gz").read_bytes() == painted
    # Regions of a painted mask lie in those around them; these need not.
    assert (region_of(masks, (2, 3)) >= region_of(masks, (3,))).all()


def test_regions_with_similar_names_have_folders_of_their_own() -> None:
    """Letters that differ in case are one name on some disks."""
    for names in ({1: "a b", 2: "A_b", 3: "a_b_1"}, {1: "x", 2: "y"}):
        folders = {file.parent.name.casefold() for file in RegionFiles(Path("m/case.nii.gz"), names).paths.values()}
        assert len(folders) == len(names)
    assert folders == {"x", "y"}


def region_of(masks: Path, values: tuple[int, ...]) -> np.ndarray:
    return np.isin(read_label_map(masks / "a.nii.gz").pixels, values)


def test_postprocessing_removes_from_a_region_by_its_own_mask(run: Predict, masks: Path) -> None:
    run()
    before = {name: region(masks, name) for name in NAMES}
    step = make_step("remove_small", plan().structures[2], plan().structures, 1000.0)
    run(predictor_of(postprocessing=Postprocessing(steps=(step,))))
    assert step.structure == "inner"
    assert before["inner"].any()
    assert not region(masks, "inner").any()
    assert all(np.array_equal(region(masks, name), before[name]) for name in ("whole", "middle"))


def test_regions_are_scored_from_their_files_and_without_them_as_painted(
    run: Predict, truth: Path, masks: Path, trained: Path
) -> None:
    run()
    found = scored(truth, masks, trained)
    members = {structure.name: structure.labels for structure in plan().structures}
    for case in found.cases:
        true = read_label_map(truth / f"{case.name}.nii.gz").pixels
        for row in case.metrics.values():
            mask = region(masks, row["name"], case.name) > 0
            assert row["dsc"] == pytest.approx(dice(np.isin(true, members[row["name"]]), mask))
            assert row["n_prediction"] == mask.sum()
    assert found.region_files
    assert found.describe_region_files() == "each region scored from its own file, not as painted in the mask"
    shutil.rmtree(masks / "regions")
    painted = scored(truth, masks, trained)
    assert not painted.region_files
    assert painted.describe_region_files() is None
    assert painted.cases[0].metrics[2]["n_prediction"] == region_of(masks, (2, 3)).sum()
    assert painted.cases[0].metrics[2]["n_prediction"] > found.cases[0].metrics[2]["n_prediction"]


def test_without_a_run_that_names_the_regions_a_warning_says_what_is_scored(
    run: Predict, truth: Path, masks: Path
) -> None:
    run()
    found = evaluate(truth, masks)
    assert not found.region_files
    assert any("each region has a file of its own" in text for text in found.warnings)


def test_a_part_of_the_files_is_an_error_that_names_what_is_missing(
    run: Predict, truth: Path, masks: Path, trained: Path
) -> None:
    run()
    (masks / "regions" / "middle" / "b.nii.gz").unlink()
    (problem,) = scored(truth, masks, trained).problems
    assert problem == (
        f"b: {masks / 'regions'}: has no file of middle for this case (there: inner, whole); predict it again with "
        "`save_regions=True`, or remove this folder to score the regions as they are painted"
    )
    for name in ("inner", "whole"):
        (masks / "regions" / name / "b.nii.gz").unlink()
    assert (
        "has no file of whole, middle, inner for this case (there: none)" in scored(truth, masks, trained).problems[0]
    )


def test_continuing_makes_the_files_that_are_missing_or_damaged(run: Predict, masks: Path) -> None:
    run(save_regions=False)
    assert not (masks / "regions").exists()
    assert len(run(skip_existing=True).written) == 2
    assert len(run(skip_existing=True).skipped) == 2
    (masks / "regions" / "whole" / "a.nii.gz").write_bytes(b"no image")
    again = run(skip_existing=True)
    assert [path.name for path in again.written] == ["a.nii.gz"]
    assert again.remarks["a"] == ["its regions are missing or damaged, and it is predicted again"]


def test_files_of_an_earlier_mask_are_renamed(run: Predict, masks: Path) -> None:
    run()
    done = run(predictor_of(1), save_regions=False)
    assert done.remarks["a"] == ["the regions of its earlier mask are now a.nii.gz.old"]
    files = sorted(path.relative_to(masks / "regions").as_posix() for path in (masks / "regions").rglob("*.*"))
    assert files == [f"{name}/{case}.nii.gz.old" for name in sorted(NAMES) for case in ("a", "b")]


def test_the_files_of_a_case_that_fails_are_renamed_with_its_mask(run: Predict, cases: list[Case], masks: Path) -> None:
    run()
    cases[1].images[0].write_bytes(b"no image")
    assert "its earlier mask is now b.nii.gz.old" in run().problems[0]
    assert [path.name for path in (masks / "regions" / "inner").iterdir() if path.suffix == ".gz"] == ["a.nii.gz"]


def test_what_cannot_be_written_is_refused(run: Predict, trained: Path) -> None:
    exclusive = Predictor([(nn.Conv3d(1, 3, 1), plan_of(3, 3, (8, 8, 8), (1.0, 1.0, 1.0)))])
    with pytest.raises(InputError, match="the run predicts classes that exclude each other"):
        run(exclusive)
    with pytest.raises(InputError, match="a BIDS derivative has one mask of each image"):
        run(bids=True)
    with pytest.raises(InputError, match="`save_regions`: an image in memory is not saved"):
        predict(np.ones((8, 8), np.float32), trained, save_regions=True)


def test_the_record_says_whether_regions_were_written(run: Predict, masks: Path) -> None:
    run()
    run(save_regions=False)
    lines = [json.loads(line) for line in (masks / "predictions.jsonl").read_text().splitlines()]
    assert [line["regions"] for line in lines] == [True, True, False, False]
