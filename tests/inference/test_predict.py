import itertools
import json
import shutil
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import deconvseg
from deconvseg.data import Geometry, Image, make_demo_dataset, open_dataset
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import evaluate, read_evaluation
from deconvseg.inference import Prediction, Predictor, PreparedImage, labels_from_maps, predict, predict_windows
from deconvseg.inference.finding import choose_cases, find_cases
from deconvseg.inference.telling import describe_weights, tell_weights
from deconvseg.runs import Run
from plans import tiny_plan, volume_run


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_files_give_masks_in_the_training_labels_values(trained: Path, discs: Path, tmp_path: Path) -> None:
    done = predict(discs, trained, tmp_path, splits=discs / "splits.json", split="test")
    assert [path.name for path in done.written] == ["disc6.png", "disc7.png"]
    for path in done.written:
        mask = np.asarray(PillowImage.open(path))
        truth = np.asarray(PillowImage.open(discs / "masks" / path.name))
        assert mask.shape == truth.shape
        assert set(np.unique(mask)) == {0, 255}
        assert dice(mask > 0, truth > 0) > 0.8


def test_array_image_and_file_agree(trained: Path, discs: Path, tmp_path: Path) -> None:
    file = discs / "images" / "disc6.png"
    pixels = np.asarray(PillowImage.open(file))
    from_array = deconvseg.predict(pixels, trained)
    from_image = predict(Image(pixels[None].astype(np.float32), Geometry.identity(2)), trained)
    predict(file, trained, tmp_path)
    assert np.array_equal(from_array, from_image.pixels)
    assert np.array_equal(from_array, np.asarray(PillowImage.open(tmp_path / "disc6.png")))


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (3, 7), (33, 31), (100, 41)])
def test_an_image_of_any_size_comes_back_with_a_mask_of_its_size(trained: Path, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    assert predict(rng.uniform(0, 255, shape), trained).shape == shape


def test_a_single_voxel_volume(tmp_path: Path) -> None:
    assert predict(np.ones((1, 1, 1)), volume_run(tmp_path / "run")).shape == (1, 1, 1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.5)])
def test_every_axis_orientation_gives_the_same_mask_in_space(tmp_path: Path, spacing: tuple[float, ...]) -> None:
    run = volume_run(tmp_path / "run")
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(7, 9, 11)).astype(np.float32)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [3, -4, 5]
    source = nib.Nifti1Image(pixels, affine)
    reference = predict(Image(pixels[None], Geometry(affine)), run).pixels
    assert len(np.unique(reference)) > 1
    orientations = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))
    for permutation, flips in orientations:
        turned = source.as_reoriented(np.column_stack([permutation, flips]))
        image = Image(np.asarray(turned.dataobj)[None].astype(np.float32), Geometry(turned.affine))
        mask = predict(image, run)
        back = nib.Nifti1Image(mask.pixels.astype(np.int32), turned.affine)
        back = nib.as_closest_canonical(back)
        assert np.array_equal(np.asarray(back.dataobj), reference)


def test_nifti_masks_keep_the_grid_of_their_image(tmp_path: Path) -> None:
    run = volume_run(tmp_path / "run")
    angle = 0.3
    oblique = np.array(
        [[np.cos(angle), -np.sin(angle), 0, 10], [np.sin(angle), np.cos(angle), 0, -5], [0, 0, -2.5, 7], [0, 0, 0, 1]]
    )
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 8, 5)).astype(np.float32), oblique)
    image.set_qform(oblique, code=1)
    image.set_sform(oblique, code=2)
    nib.save(image, tmp_path / "scan.nii.gz")
    predict(tmp_path / "scan.nii.gz", run, tmp_path / "out")
    mask = nib.load(tmp_path / "out" / "scan.nii.gz")
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, nib.load(tmp_path / "scan.nii.gz").affine)
    assert (int(mask.header["qform_code"]), int(mask.header["sform_code"])) == (1, 2)
    assert mask.get_data_dtype() == np.uint16
    assert set(np.unique(mask.dataobj)) <= {0, 5, 300}


def test_two_runs_are_the_mean_of_their_probabilities(tmp_path: Path) -> None:
    first, second = volume_run(tmp_path / "a"), volume_run(tmp_path / "b", spacing=[2.0, 1.0, 1.0])
    image = nib.Nifti1Image(np.random.default_rng(0).normal(size=(9, 8, 10)).astype(np.float32), np.eye(4))
    nib.save(image, tmp_path / "scan.nii.gz")
    maps = {}
    for name, runs in (("a", first), ("b", second), ("both", [first, second])):
        predict(tmp_path / "scan.nii.gz", runs, tmp_path / name / "out", save_probabilities=True)
        maps[name] = np.load(tmp_path / name / "out" / "scan.npz", allow_pickle=False)["probabilities"]
    assert maps["a"].shape == (3, 9, 8, 10)
    assert not np.allclose(maps["a"], maps["b"])
    assert np.allclose(maps["both"], (maps["a"] + maps["b"]) / 2, atol=1e-6)


def test_runs_of_other_labels_are_not_averaged(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="average only runs"):
        predict(np.ones((8, 8, 8)), [volume_run(tmp_path / "run"), trained])


def test_one_bad_file_does_not_stop_the_others(trained: Path, discs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("disc6.png", "disc7.png"):
        (folder / name).write_bytes((discs / "images" / name).read_bytes())
    (folder / "broken.png").write_bytes(b"no picture")
    done = predict(folder, trained, tmp_path / "out")
    assert [path.name for path in done.written] == ["disc6.png", "disc7.png"]
    assert len(done.problems) == 1
    assert "broken.png" in done.problems[0]


def test_continue_leaves_a_mask_of_ones_own_and_predicts_what_is_none(
    trained: Path, discs: Path, tmp_path: Path
) -> None:
    PillowImage.fromarray(np.zeros((40, 48), np.uint8)).save(tmp_path / "disc6.png")
    own = (tmp_path / "disc6.png").read_bytes()
    (tmp_path / "disc7.png").write_bytes(b"mine")
    done = predict(discs, trained, tmp_path, splits=discs / "splits.json", split="test", skip_existing=True)
    assert [path.name for path in done.skipped] == ["disc6.png"]
    assert (tmp_path / "disc6.png").read_bytes() == own
    assert [path.name for path in done.written] == ["disc7.png"]
    assert (tmp_path / "disc7.png.old").read_bytes() == b"mine"


def test_wrong_input_is_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 channels, but 1 are needed"):
        predict(np.ones((2, 8, 8)), trained)
    with pytest.raises(InputError, match="3 dimensions|spatial axes"):
        predict(np.ones((1, 8, 8, 8)), trained)
    (tmp_path / "file").write_text("")
    (tmp_path / "i.png").write_bytes(b"")
    with pytest.raises(InputError, match="file"):
        predict(tmp_path / "i.png", trained, tmp_path / "file" / "out")
    with pytest.raises(InputError, match="NaN or infinite"):
        predict(np.full((8, 8), np.nan), trained)
    with pytest.raises(InputError, match="give 2 positive numbers"):
        predict(np.ones((8, 8)), trained, spacing=(1, 1, 1))


def test_a_mask_never_replaces_its_image(trained: Path, discs: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.png"
    scan.write_bytes((discs / "images" / "disc6.png").read_bytes())
    before = scan.read_bytes()
    with pytest.raises(InputError, match="is a file of the data, which a mask would replace"):
        predict(scan, trained, tmp_path)
    with pytest.raises(InputError, match="masks in it would be read as images"):
        predict(tmp_path, trained, tmp_path)
    assert scan.read_bytes() == before


@pytest.mark.faults
def test_running_out_of_memory_on_one_image_does_not_lose_the_others(
    trained: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = Predictor.prepare

    def hungry(self: Predictor, image: Image, where: str = "") -> PreparedImage:
        if "disc6" in where:
            raise torch.OutOfMemoryError("too large")
        return prepare(self, image, where)

    monkeypatch.setattr(Predictor, "prepare", hungry)
    done = predict(discs, trained, tmp_path, split="test")
    assert [path.name for path in done.written] == ["disc7.png"]
    assert "disc6.png: not enough memory" in done.problems[0]


def test_splits_without_a_part_are_refused_and_a_run_knows_its_own(trained: Path, discs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="several splits: say which one"):
        predict(discs, trained, tmp_path, splits=discs / "splits.json")
    done = predict(discs, trained, tmp_path, split="val")
    assert [path.name for path in done.written] == ["disc4.png", "disc5.png"]


def test_the_test_cases_of_another_dataset_are_its_own(trained: Path, discs: Path, tmp_path: Path) -> None:
    run = Run(trained)

    def names(folder: Path, split: str, runs: list[Run]) -> list[str]:
        cases, _, _ = choose_cases(folder, run.plan, runs, split=split, told=Prediction())
        return [case.name for case in cases]

    folder = make_demo_dataset(tmp_path / "busi", like="busi", cases=15)
    declared = sorted(open_dataset(folder).declared_test)
    assert len(declared) == 2
    assert sorted(names(folder, "test", [run])) == sorted(names(folder, "test", [])) == declared
    assert names(discs, "test", [run]) == names(discs, "test", []) == ["disc6", "disc7"]
    with pytest.raises(InputError, match="'val' needs a splits file"):
        names(folder, "val", [run])
    (folder / "splits.json").write_text(json.dumps({"test": ["benign (1)"]}))
    assert names(folder, "test", [run]) == ["benign (1)"]


def test_a_grey_volume_is_not_taken_for_three_channels(tmp_path: Path) -> None:
    config = {"in_channels": 3, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    names = [{"name": "T1"}, {"name": "T2"}, {"name": "FLAIR"}]
    run = volume_run(tmp_path / "run", model={"name": "deconver", "config": config}, channels=names)
    with pytest.raises(InputError, match=r"1 channels, but 3 are needed \(T1, T2, FLAIR\)"):
        predict(np.ones((8, 8, 8)), run)


@pytest.mark.faults
def test_a_full_disk_is_reported_for_its_case(
    trained: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PillowImage.Image, "save", full)
    done = predict(discs, trained, tmp_path / "out", split="test")
    assert len(done.problems) == 2
    assert "disk is full" in done.problems[0]
    with pytest.raises(DeconvsegError, match="disk is full") as error:
        predict(discs / "images" / "disc6.png", trained, tmp_path / "out")
    assert error.value.exit_code == 1
    assert list((tmp_path / "out").iterdir()) == []


def test_weights_of_another_network_are_refused(trained: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Run(trained).plan.with_values({"model.config.widths": [8, 16]}), {}, {})
    run.save_weights(Run(trained).load_weights())
    with pytest.raises(InputError, match="of another network than plan.json describes"):
        predict(np.ones((8, 8)), run.path)


def test_window_prediction_of_a_pointwise_network_is_the_network() -> None:
    network = torch.nn.Conv2d(2, 3, 1).double()
    image = torch.randn(1, 2, 37, 41, dtype=torch.float64)
    for tta in (False, True):
        windows = predict_windows(network, image, (16, 16), overlap=0.5, tta=tta)
        assert torch.allclose(windows.double(), network(image).softmax(1), atol=1e-5)


def test_mirroring_makes_the_prediction_equivariant() -> None:
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 3, padding=1)
    image = torch.randn(1, 1, 16, 16)
    straight = predict_windows(network, image, (16, 16), tta=True)
    assert torch.allclose(predict_windows(network, image.flip(2), (16, 16), tta=True).flip(2), straight, atol=1e-6)
    assert not torch.allclose(predict_windows(network, image.flip(2), (16, 16)).flip(2), straight, atol=1e-6)


@pytest.mark.parametrize("inside_out", [False, True])
def test_a_region_is_painted_after_those_that_contain_it(inside_out: bool) -> None:
    regions = [{"name": "whole", "labels": [1, 2], "paints": 1}, {"name": "core", "labels": [2], "paints": 2}]
    probabilities = np.array([[0.9, 0.9, 0.2, 0.1], [0.1, 0.8, 0.7, 0.2]], np.float32)
    turn = -1 if inside_out else 1
    plan = tiny_plan(labels={"values": [0, 1, 2], "names": ["background", "edema", "core"]}, regions=regions[::turn])
    maps = torch.from_numpy(probabilities[::turn].copy())
    assert labels_from_maps(maps, plan, threshold=0.5).tolist() == [1, 2, 2, 0]
    assert [structure.name for structure in plan.structures] == ["whole", "core"]


def test_prediction_is_json(trained: Path, discs: Path, tmp_path: Path) -> None:
    done = predict(discs / "images" / "disc6.png", trained, tmp_path)
    assert json.loads(json.dumps(done.to_json()))["written"] == [str(tmp_path / "disc6.png")]


def test_unknown_device_is_refused(trained: Path) -> None:
    with pytest.raises(DeconvsegError, match="`device='tpu'`: not available"):
        predict(np.ones((8, 8)), trained, device="tpu")


def test_a_bids_derivative_is_written_that_evaluate_and_a_second_prediction_read(tmp_path: Path) -> None:
    raw, run = tmp_path / "raw", volume_run(tmp_path / "run")
    rng = np.random.default_rng(0)
    for subject in ("sub-01", "sub-02"):
        for name, pixels in (
            (f"{subject}/anat/{subject}_acq-fast_T1w.nii.gz", rng.normal(size=(9, 8, 7)).astype(np.float32)),
            (f"derivatives/manual/{subject}/anat/{subject}_dseg.nii.gz", rng.choice([0, 5, 300], (9, 8, 7))),
        ):
            (raw / name).parent.mkdir(parents=True)
            nib.save(nib.Nifti1Image(pixels.astype(np.uint16 if "dseg" in name else np.float32), np.eye(4)), raw / name)
    (raw / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.9.0"}')
    output = raw / "derivatives" / "deconvseg"
    done = predict(raw, run, output, bids=True, save_probabilities=True)
    names = [path.relative_to(output).as_posix() for path in done.written]
    assert names == [f"{subject}/anat/{subject}_desc-deconvseg_dseg.nii.gz" for subject in ("sub-01", "sub-02")]
    assert (output / names[0].replace(".nii.gz", ".npz")).is_file()
    description = json.loads((output / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert (output / "desc-deconvseg_dseg.tsv").read_text().splitlines()[1:] == ["0\tbackground", "5\ta", "300\tb"]
    scored = evaluate(raw, output, run=run)
    assert [case.name for case in scored.cases] == ["sub-01", "sub-02"]
    assert scored.problems == ()
    assert [case.prediction_file for case in scored.cases] == done.written
    assert evaluate(output, output).summary["mean"]["dsc"]["mean"] == 1.0
    assert predict(raw, run, output, bids=True, skip_existing=True).skipped == done.written


def test_scans_without_bids_names_are_refused_before_anything_is_written(
    trained: Path, discs: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"disc0\.png has no BIDS name \(sub-01_T1w\.nii\.gz\)"):
        predict(discs, trained, tmp_path / "out", bids=True)
    assert not (tmp_path / "out").exists()


def test_a_mask_never_replaces_a_true_one(trained: Path, discs: Path, tmp_path: Path) -> None:
    root = tmp_path / "discs"
    shutil.copytree(discs, root)
    before = {file.name: file.read_bytes() for file in (root / "masks").iterdir()}
    with pytest.raises(InputError, match="is a file of the data, which a mask would replace"):
        predict(root, trained, root / "masks")
    assert {file.name: file.read_bytes() for file in (root / "masks").iterdir()} == before


@pytest.mark.parametrize(
    ("given", "wanted", "order", "warned"),
    [
        (("FLAIR", "t1"), ("T1", "Flair"), (1, 0), False),
        (("T1 ", "T1"), ("t1", "t1"), (0, 1), False),
        (("R", "G", "B"), ("red", "green", "blue"), (0, 1, 2), False),
        (("T1",), ("CT",), (0,), True),
        (("X", "Y"), ("T1", "FLAIR"), (0, 1), True),
    ],
)
def test_channels_of_a_dataset_are_ordered_as_a_plan_orders_them(
    tmp_path: Path, given: tuple[str, ...], wanted: tuple[str, ...], order: tuple[int, ...], *, warned: bool
) -> None:
    for name in ("imagesTr", "labelsTr"):
        (tmp_path / name).mkdir()
    for place, _ in enumerate(given):
        scan = nib.Nifti1Image(np.full((4, 4, 4), place, np.float32), np.eye(4))
        nib.save(scan, tmp_path / "imagesTr" / f"a_{place:04}.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "labelsTr" / "a.nii.gz")
    declared = {"channel_names": dict(enumerate(given)), "labels": {"background": 0, "a": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps({**declared, "numTraining": 1, "file_ending": ".nii.gz"}))
    warnings: list[str] = []
    (case,), _, load = find_cases(tmp_path, wanted, None, warn=warnings.append)
    assert tuple(int(channel.mean()) for channel in load(case).pixels) == order
    assert bool(warnings) == warned
    # The folder of its images alone, as nnU-Net is given it, belongs to the dataset.
    if len(given) > 1:
        for images in (tmp_path / "imagesTr", tmp_path / "imagesTr" / "a_0000.nii.gz"):
            (case,), _, load = find_cases(images, wanted, None, warn=warnings.append)
            assert tuple(int(channel.mean()) for channel in load(case).pixels) == order


def test_channels_are_found_by_their_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    for name in ("t1", "flair"):
        pixels = rng.normal(size=(10, 9, 8)).astype(np.float32)
        nib.save(nib.Nifti1Image(pixels, np.eye(4)), tmp_path / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((10, 9, 8), np.uint8), np.eye(4)), tmp_path / "mask.nii.gz")
    config = {"in_channels": 2, "out_channels": 3, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    channels = [{"name": "T1"}, {"name": "FLAIR"}]
    run = volume_run(tmp_path / "run", channels=channels, model={"name": "deconver", "config": config})

    def masks(header: str, *files: str) -> np.ndarray:
        table = tmp_path / "table.csv"
        table.write_text(f"case,{header},label\na,{','.join(files)},mask.nii.gz\n")
        (written,) = predict(table, run, tmp_path / "out").written
        return np.asarray(nib.load(written).dataobj)

    expected = masks("image_T1,image_FLAIR", "t1.nii.gz", "flair.nii.gz")
    assert not np.array_equal(masks("image_X,image_Y", "flair.nii.gz", "t1.nii.gz"), expected)
    assert "uses X, Y as the run's T1, FLAIR, in this order" in caplog.text
    assert np.array_equal(masks("image_flair,image_T1", "flair.nii.gz", "t1.nii.gz"), expected)
    with pytest.raises(InputError, match="has the channels T1, T2, but the run needs T1, FLAIR"):
        masks("image_T1,image_T2", "t1.nii.gz", "flair.nii.gz")
    other = volume_run(tmp_path / "other", channels=channels[::-1], model={"name": "deconver", "config": config})
    with pytest.raises(InputError, match="its channels FLAIR, T1 differ from those of .*, T1, FLAIR"):
        predict(tmp_path / "table.csv", [run, other], tmp_path / "out")


def test_files_that_a_dataset_leaves_out_are_problems(tmp_path: Path) -> None:
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    image = nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4))
    for name in ("a_0000", "b"):
        nib.save(image, tmp_path / "raw" / "imagesTr" / f"{name}.nii.gz")
    (tmp_path / "raw" / "dataset.json").write_text(
        '{"channel_names": {"0": "MR"}, "labels": {"background": 0, "x": 1}}'
    )
    done = predict(tmp_path / "raw", volume_run(tmp_path / "run"), tmp_path / "out")
    assert [path.name for path in done.written] == ["a.nii.gz"]
    (problem,) = done.problems
    assert "b.nii.gz does not end in a channel number (CASE_0000.ext) and is left out" in problem


def test_cases_that_trained_a_run_are_no_test_of_it(
    trained: Path, discs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = tmp_path / "splits.json"
    splits.write_text(json.dumps({"train": ["disc5"], "val": [], "test": ["disc0", "disc6"]}))
    predict(discs, trained, tmp_path / "masks", splits=splits, split="test")
    assert "1 of the 2 cases of the split test was a training case of a run" in caplog.text
    assert "disc0" in caplog.text
    with pytest.raises(InputError, match="`fold=1` has several splits: say which one"):
        predict(discs, trained, tmp_path / "masks", fold=1)


def test_the_weights_are_described_with_the_dice_of_the_final_validation(trained: Path, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(trained, tmp_path / "run")))
    final = read_evaluation(run.validation / "metrics.json").mean_dice
    rows = [{**row, "val_dice": None} for row in run.metrics]
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert f"the last of 4 epochs (validation Dice {final:.3f})" in str(tell_weights([describe_weights(run)]))
    shutil.rmtree(run.validation)
    assert "the last of 4 epochs (never validated)" in str(tell_weights([describe_weights(run)]))


def test_an_image_whose_grid_memory_does_not_hold_is_refused_before_it_is_made(tmp_path: Path) -> None:
    coarse = Image(np.ones((1, 40, 40, 40), np.float32), Geometry(np.diag([8.0, 8.0, 8.0, 1.0])))
    run = Run.open(volume_run(tmp_path / "run"))
    tracemalloc.start()
    with pytest.raises(InputError, match=r"on the network's grid \(320 x 320 x 320 voxels\), more than the 20 MiB"):
        Predictor([run], memory=coarse.pixels.nbytes + 20 * 2**20).prepare(coarse)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**7
