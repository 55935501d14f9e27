"""Scoring on the grid of a plan: equal to the masks of preprocessing, measured there, in millimetres or in voxels."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as PillowImage
from scipy import ndimage
from tests.plans import tiny_plan

from deconvseg.cli.app import main
from deconvseg.data import Geometry, LabelMap, open_dataset, prepare_cases, preprocess_labels, read_label_map
from deconvseg.errors import InputError
from deconvseg.evaluation import evaluate, evaluate_masks, merge_evaluations, read_evaluation
from deconvseg.evaluation.plan_grid import CaseGrid, ScoredMasks
from deconvseg.reporting import write_report
from deconvseg.runs import Run

TURNED = np.array([[0, -1.0, 0, 5], [1.5, 0, 0, -3], [0, 0, 3.0, 9], [0, 0, 0, 1]])
LABELS = {3: "shell", 7: "core"}


def hausdorff95(truth, prediction, steps):
    """HD95 by distance transforms of whole volumes, without any code of the package."""
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (truth, prediction)]
    to_other = [ndimage.distance_transform_edt(~edge, sampling=steps) for edge in edges]
    return max(np.percentile(to_other[1][edges[0]], 95), np.percentile(to_other[0][edges[1]], 95))


def plan_3d(**changes):
    config = {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    return tiny_plan(
        **{
            "spatial_dims": 3,
            "spacing": [2.0, 2.0, 2.0],
            "patch_size": [8, 8, 8],
            "channels": [{"name": "T1"}, {"name": "T2"}],
            "labels": {"values": [0, 3, 7], "names": ["background", "shell", "core"]},
            "model": {"name": "deconver", "config": config},
            **changes,
        }
    )


def volumes(folder, shape=(14, 18, 9), affine=TURNED, count=2, values=(3, 7)):
    """Two cases with images that are zero outside of a box, in nnU-Net's layout, and predictions that differ."""
    rng = np.random.default_rng(3)
    root, masks = folder / "raw", folder / "masks"
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1) * np.linalg.norm(affine[:3, :3], axis=0)
    for number in range(count):
        centre = places[tuple(n // 2 for n in shape)] + number
        far, near = (np.linalg.norm(places - centre - shift, axis=-1) for shift in (0.0, (1.5, 0.0, 3.0)))
        truth, prediction = (np.where(d < 4, values[1], np.where(d < 7, values[0], 0)) for d in (far, near))
        image = rng.normal(5, 1, shape).astype(np.float32)
        image[:2], image[:, -3:], image[:, :, :1] = 0, 0, 0
        for channel in range(2):
            write(image, root / "imagesTr" / f"c{number}_{channel:04d}.nii.gz", affine)
        write(truth.astype(np.uint8), root / "labelsTr" / f"c{number}.nii.gz", affine)
        write(prediction.astype(np.uint8), masks / f"c{number}.nii.gz", affine)
    declared = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "shell": 3, "core": 7}}
    (root / "dataset.json").write_text(json.dumps({**declared, "numTraining": count, "file_ending": ".nii.gz"}))
    return root, masks


def write(pixels, file, affine):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(pixels, affine), file)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    return volumes(tmp_path_factory.mktemp("scans"))


class TestGrid:
    @pytest.mark.parametrize("changes", [{}, {"crop_margin": 1}, {"resize": (10, 12, 7)}])
    def test_the_truth_is_that_of_a_training(self, scans, tmp_path, changes):
        plan = plan_3d(**changes)
        found = evaluate(*scans, grid="plan", plan=plan, unit="voxel")
        prepared = prepare_cases(
            open_dataset(scans[0]),
            tmp_path,
            encoding=plan.labels.to_encoding(),
            spacing=plan.spacing,
            normalisations=plan.normalisations,
            resize=plan.resize,
            crop_margin=plan.crop_margin,
        )
        assert len(found.cases) == len(prepared) == 2
        for case, trained in zip(found.cases, prepared, strict=True):
            assert case.shape == trained.shape
            assert {value: row["n_truth"] for value, row in case.metrics.items()} == {
                value: int((trained.labels[:] == place).sum()) for place, value in enumerate((3, 7), 1)
            }

    @pytest.mark.parametrize("unit", ["mm", "voxel"])
    @pytest.mark.parametrize("grid", ["image", "plan"])
    def test_distances_are_those_of_whole_volumes_computed_without_the_package(self, scans, grid, unit):
        plan = plan_3d()
        found = evaluate(*scans, grid=grid, plan=plan if grid == "plan" else None, unit=unit)
        for case in found.cases:
            maps = [
                LabelMap(np.asarray(nib.load(file).dataobj), Geometry(TURNED))
                for file in (case.truth_file, case.prediction_file)
            ]
            steps = (1.5, 1.0, 3.0)
            if grid == "plan":
                maps = [preprocess_labels(mask, plan.spacing) for mask in maps]
                # The file's first axis runs along y, and its second against x.
                assert maps[0].shape == (9, 10, 14)
                steps = (18 * 1.0 / 9, 14 * 1.5 / 10, 9 * 3.0 / 14)
            steps = (1.0, 1.0, 1.0) if unit == "voxel" else steps
            for value in LABELS:
                expected = hausdorff95(*(mask.pixels == value for mask in maps), steps)
                assert case.metrics[value]["hd95"] == pytest.approx(expected, rel=1e-5)

    @settings(deadline=None, max_examples=15)
    @given(st.data())
    def test_the_grid_of_the_image_changes_nothing(self, data):
        dims = data.draw(st.sampled_from((2, 3)))
        shape = data.draw(hnp.array_shapes(min_dims=dims, max_dims=dims, min_side=2, max_side=6))
        masks = [data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, 2))) for _ in range(2)]
        ignored = data.draw(st.none() | hnp.arrays(np.bool_, shape))
        geometry = Geometry(np.diag([*(1.5, 2.0, 0.5)[:dims], 1.0]))
        plan = tiny_plan() if dims == 2 else plan_3d()
        plan = plan.model_copy(update={"spacing": geometry.spacing})
        place = CaseGrid(plan.preprocessing, geometry, tuple(map(range, shape)))
        regions = {value: masks[1] == value for value in (1, 2)}
        *found, separate = place.resample(ScoredMasks(*masks, ignored, geometry.spacing, regions))
        before, after = (
            evaluate_masks(one, other, {1: "a", 2: "b"}, spacing=spacing, ignored=left, metrics="all")
            for one, other, left, spacing in ((*masks, ignored, geometry.spacing), found)
        )
        assert before == after
        assert all(np.array_equal(separate[value], regions[value]) for value in regions)


class TestClasses:
    def test_regions_are_unions_on_the_grid_and_ignored_voxels_count_nowhere(self, scans, tmp_path):
        root, masks = scans
        regions = [{"name": "core", "labels": [2], "paints": 2}, {"name": "whole", "labels": [1, 2], "paints": 1}]
        plan = plan_3d(regions=regions)
        run = Run.create(tmp_path / "run", plan, {}, {"train": [], "val": [], "test": []})
        found = evaluate(root / "labelsTr", masks, grid="plan", run=run.path)
        labels = preprocess_labels(read_label_map(root / "labelsTr" / "c0.nii.gz"), plan.spacing).pixels
        assert {row["name"]: row["n_truth"] for row in found.cases[0].metrics.values()} == {
            "whole": int((labels > 0).sum()),
            "core": int((labels == 7).sum()),
        }
        ignoring = evaluate(root / "labelsTr", masks, grid="plan", plan=plan_3d(), labels=["shell=3", "ignore=7"])
        (case, _) = ignoring.cases
        assert case.ignored_voxels == int((labels == 7).sum()) > 0
        (row,) = case.metrics.values()
        assert row["n_truth"] == int((labels == 3).sum())
        assert row["tp"] + row["fp"] + row["fn"] + row["tn"] == labels.size - case.ignored_voxels

    def test_all_foreground_is_one_class_before_it_is_resampled(self, scans):
        root, masks = scans
        found = evaluate(root / "labelsTr", masks, grid="plan", plan=plan_3d(), foreground=True)
        mask = read_label_map(root / "labelsTr" / "c0.nii.gz")
        one = LabelMap((mask.pixels > 0).astype(np.uint8), mask.geometry)
        assert found.cases[0].metrics[1]["n_truth"] == int(preprocess_labels(one, (2.0, 2.0, 2.0)).pixels.sum())

    def test_pictures_without_a_pixel_size_are_measured_in_pixels_of_the_grid(self, tmp_path):
        pixels = np.zeros((20, 30), np.uint8)
        for side, columns in (("truth", slice(6, 16)), ("found", slice(6, 20))):
            (tmp_path / side).mkdir()
            shown = pixels.copy()
            shown[4:12, columns] = 255
            PillowImage.fromarray(shown).save(tmp_path / side / "a.png")
        plan = tiny_plan(resize=[40, 60])
        for unit in ("mm", "voxel"):
            found = evaluate(tmp_path / "truth", tmp_path / "found", grid="plan", plan=plan, unit=unit)
            assert (found.distance_unit, found.cases[0].shape) == ("pixels", (40, 60))
            assert found.cases[0].metrics[255]["hd95"] == 8.0
            assert found.cases[0].metrics[255]["n_truth"] == 4 * 80


class TestRecord:
    def test_files_and_table_name_grid_and_unit(self, scans, tmp_path, monkeypatch, capsys):
        plan = tmp_path / "plan.json"
        plan.write_text(plan_3d(crop_margin=2).model_dump_json())
        command = ["deconvseg", "evaluate", "-g", str(scans[0]), "-p", str(scans[1]), "-o", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", [*command, "--grid", "plan", "--plan", str(plan), "--unit", "voxel"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        lines = capsys.readouterr().out.splitlines()
        assert "HD95 (voxels)" in lines[0]
        grid = "scored on the plan's grid: cropped to non-zero voxels with a margin of 2, spacing 2 x 2 x 2 mm"
        assert grid in " ".join(lines)
        record = json.loads((tmp_path / "out" / "metrics.json").read_text())
        assert (record["grid"], record["unit"]) == ("plan", "voxel")
        assert record["plan_grid"] == {"spacing": [2.0, 2.0, 2.0], "crop_margin": 2}
        read = read_evaluation(tmp_path / "out" / "metrics.json")
        assert read.to_json(tmp_path / "out") == record
        with pytest.raises(InputError, match="evaluations with grid plan and image cannot be joined"):
            merge_evaluations([read, evaluate(*scans, unit="voxel")])
        page = write_report(tmp_path / "out", evaluations=[tmp_path / "out" / "metrics.json"]).read_text("utf-8")
        assert grid.partition(": ")[2] in page
        assert "HD95 (voxels)" in page


class TestBadInput:
    @pytest.mark.parametrize("changes", [{"grid": "other"}, {"plan_grid": {"spacing": ["2"]}}, {"plan_grid": 3}])
    def test_a_damaged_record_of_the_grid_is_one_line(self, scans, tmp_path, changes):
        evaluate(*scans, tmp_path / "metrics.json")
        record = json.loads((tmp_path / "metrics.json").read_text())
        (tmp_path / "metrics.json").write_text(json.dumps(record | changes))
        with pytest.raises(InputError, match=r"not a metrics.json of version 1, or incomplete"):
            read_evaluation(tmp_path / "metrics.json")

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"grid": "plan"}, "`grid='plan'` needs a plan: give the run (`run`), or its plan.json (`plan`)"),
            ({"plan": plan_3d()}, "`plan` is given, but masks are scored on the image's grid; add `grid='plan'`"),
            ({"grid": "plan", "plan": tiny_plan()}, "is 3D, but the grid is that of a plan for 2D images, discs"),
            ({"grid": "plans", "plan": plan_3d()}, "'plans' is unknown: did you mean 'plan'"),
            ({"grid": "plan", "plan": "absent.json"}, "absent.json"),
        ],
    )
    def test_one_line_says_what_to_give(self, scans, options, message):
        with pytest.raises(InputError) as found:
            evaluate(*scans, **options)
        assert message in str(found.value)
        assert "\n" not in str(found.value)

    def test_a_plan_that_crops_needs_the_images(self, scans):
        found = evaluate(scans[0] / "labelsTr", scans[1], grid="plan", plan=plan_3d(crop_margin=0), labels=LABELS)
        assert not found.cases
        assert "the image of this mask is not known; give the dataset with its images" in found.problems[0]

    def test_the_command_names_its_flags(self, scans, monkeypatch, capsys):
        command = ["deconvseg", "evaluate", "-g", str(scans[0]), "-p", str(scans[1]), "--grid", "plan"]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        text = " ".join(capsys.readouterr().err.split())
        assert "--grid plan needs a plan: give the run (--run), or its plan.json (--plan)" in text
