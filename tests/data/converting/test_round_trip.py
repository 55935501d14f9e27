"""A converted dataset, read back, has the cases, voxels, geometry, labels and splits of its source."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from scipy.spatial.transform import Rotation

from deconvseg.data import (
    Geometry,
    LabelMap,
    convert,
    list_demos,
    make_demo_dataset,
    open_dataset,
    read_image,
    resolve_splits,
    write_label_map,
)
from deconvseg.data.converting.volumes import smallest_exact
from deconvseg.data.formats.metaimage import save_metaimage
from deconvseg.errors import InputError

FOLDERS = {"nnunet": "Dataset007_Copy", "msd": "Task07_Copy"}


@pytest.fixture(scope="module")
def few(generated_trees, tmp_path_factory):
    """Return a function that opens a generated tree with a few cases: two training cases, a test case, one without."""
    organ = make_demo_dataset(tmp_path_factory.mktemp("organ"), cases=5)

    def open_few(name):
        if name == "organ":
            return open_dataset(organ, exclude=["demo_001", "demo_002", "demo_003"])
        whole = open_dataset(generated_trees[name])
        training = resolve_splits(whole, None, fold="all").train
        unlabelled = [name for name in whole.names if name not in whole.labelled_names]
        kept = {*training[:2], *whole.declared_test[:1], *unlabelled[:1]}
        return open_dataset(generated_trees[name], exclude=[name for name in whole.names if name not in kept])

    return open_few


def classes(dataset, case):
    """The mask of each class or region by name, and of what is ignored."""
    pixels = dataset.load(case)[1].pixels
    if dataset.foreground:
        return {dataset.foreground_name: pixels > 0}
    if dataset.regions is not None:
        found = {region.name: np.isin(pixels, region.labels) for region in dataset.regions}
    else:
        names = dataset.label_names or {value: f"label {value}" for value in np.unique(pixels)}
        found = {name: pixels == value for value, name in names.items() if value}
    return found | ({} if dataset.ignore_label is None else {"ignore": pixels == dataset.ignore_label})


def check_same(source, converted):
    names = {*source.labelled_names} - {*source.declared_unused}
    assert {*converted.names} == names
    assert converted.channel_names == source.channel_names
    parts = [resolve_splits(dataset, None, fold="all") for dataset in (source, converted)]
    assert {*parts[0].train} == {*parts[1].train}
    assert {*parts[0].test} == {*parts[1].test}
    for name in names:
        first, second = source.load_image(source.case(name)), converted.load_image(converted.case(name))
        np.testing.assert_array_equal(second.pixels, first.pixels)
        np.testing.assert_allclose(second.geometry.affine, first.geometry.affine, rtol=1e-6, atol=1e-6)
        before, after = classes(source, source.case(name)), classes(converted, converted.case(name))
        assert before.keys() == after.keys()
        for label, mask in before.items():
            np.testing.assert_array_equal(after[label], mask)


@pytest.mark.parametrize("to", ["nnunet", "msd"])
@pytest.mark.parametrize("name", [*list_demos(), "organ"])
def test_generated_trees(few, tmp_path, name, to):
    source = few(name)
    flat = len(source.load_image(source.cases[0]).shape) == 2
    if to == "msd" and (flat or source.regions):
        with pytest.raises(InputError, match=f"has no {'2D images' if flat else 'regions'}; convert it to nnU-Net's"):
            convert(source, tmp_path / FOLDERS[to], to=to, workers=0)
        assert not list(tmp_path.iterdir())
        return
    done = convert(source, tmp_path / FOLDERS[to], to=to, workers=0)
    assert (done.problems, done.kept) == ((), ())
    assert done.training + done.testing == len(source.cases) == len(done.written)
    converted = open_dataset(done.folder)
    assert converted.layout == to
    check_same(source, converted)
    if to == "nnunet" and not flat:
        # The files of published volumes are already what nnU-Net reads.
        record = json.loads(done.manifest.read_text())
        assert {file["how"] for case in record["cases"] for file in case["files"]} == {"copied"}


@pytest.mark.parametrize("to", ["nnunet", "msd"])
def test_a_copy_of_a_copy_is_the_same(balls, tmp_path, to):
    other = {"nnunet": "msd", "msd": "nnunet"}[to]
    first = convert(open_dataset(balls), tmp_path / FOLDERS[to], to=to, workers=0)
    second = convert(open_dataset(first.folder), tmp_path / FOLDERS[other], to=other, workers=0)
    check_same(open_dataset(balls), open_dataset(second.folder))


def test_pictures_of_discs(discs, tmp_path):
    done = convert(open_dataset(discs), tmp_path / "Dataset007_Discs", workers=0)
    record = json.loads((done.folder / "dataset.json").read_text())
    assert record["channel_names"] == {"0": "grey"}
    assert record["labels"] == {"background": 0, "label 255": 1}
    assert (record["numTraining"], record["file_ending"]) == (6, ".png")
    assert sorted(path.name for path in (done.folder / "labelsTs").iterdir()) == ["disc6.png", "disc7.png"]
    copied, original = done.folder / "imagesTr" / "disc0_0000.png", discs / "images" / "disc0.png"
    assert copied.read_bytes() == original.read_bytes()
    mask = np.asarray(PillowImage.open(done.folder / "labelsTr" / "disc0.png"))
    np.testing.assert_array_equal(255 * mask, np.asarray(PillowImage.open(discs / "masks" / "disc0.png")))
    folds = json.loads((done.folder / "splits_final.json").read_text())
    assert folds == [{"train": ["disc0", "disc1", "disc2", "disc3"], "val": ["disc4", "disc5"]}]
    assert json.loads((done.folder / "splits.json").read_text()) == json.loads((discs / "splits.json").read_text())


def table(folder, **columns):
    rows = [",".join(columns), ",".join(str(value) for value in columns.values())]
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return folder / "cases.csv"


KINDS = [np.uint8, np.int16, np.int32, np.float32, np.float64, np.dtype(">i2")]


@st.composite
def volumes(draw):
    """The numbers of a volume, its affine, the codes of its forms and its unit, a slope, and a file format."""
    shape = draw(st.tuples(*[st.integers(2, 5)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    numbers = rng.integers(0, 200, shape).astype(draw(st.sampled_from(KINDS)))
    if numbers.dtype.kind == "f":
        numbers = numbers + rng.random(shape).astype(numbers.dtype)
    affine = np.eye(4)
    turned = Rotation.from_euler("xyz", rng.uniform(-180, 180, 3), degrees=True).as_matrix()
    affine[:3, :3] = turned * rng.uniform(0.3, 6, 3) * draw(st.sampled_from([1, -1]))
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    codes = draw(st.sampled_from([(1, 0), (0, 1), (1, 1), (2, 1), (4, 4), (0, 0)]))
    suffix = draw(st.sampled_from([".nii.gz", ".nii", ".mha"]))
    return numbers, affine, codes, draw(st.sampled_from([None, (0.5, -3.0)])), suffix


def write_volume(path, numbers, affine, codes, scaling):
    if path.suffix == ".mha":
        save_metaimage(smallest_exact(numbers.astype(np.float32)), Geometry(affine), path, like=None)
        return
    image = nib.Nifti1Image(numbers, affine, dtype=numbers.dtype)
    image.set_sform(affine, codes[0])
    image.set_qform(affine, codes[1], strip_shears=True)
    image.header.set_xyzt_units("mm")
    if scaling is not None and numbers.dtype.kind != "f":
        image.header.set_slope_inter(*scaling)
    nib.save(image, path)


@given(volumes(), st.sampled_from(["nnunet", "msd"]), st.integers(1, 2))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_volumes_of_any_type_and_place(tmp_path, volume, to, channels):
    *rest, suffix = volume
    shutil.rmtree(tmp_path / "a", ignore_errors=True)
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "a" / f"scan_{channel}{suffix}" for channel in range(channels)]
    for path in paths:
        write_volume(path, *rest)
    image = read_image(paths[0])
    mask = LabelMap(np.arange(image.pixels.size).reshape(image.shape) % 3, image.geometry)
    write_label_map(mask, tmp_path / "a" / "truth.nii.gz", like=paths[0])
    columns = {f"image_{channel}": path.name for channel, path in enumerate(paths)}
    source = open_dataset(table(tmp_path / "a", case="one", **columns, label="truth.nii.gz"))
    done = convert(source, tmp_path / "a" / FOLDERS[to], to=to, workers=0)
    assert not done.problems
    before, labels = source.load(source.cases[0])
    converted = open_dataset(done.folder)
    after, again = converted.load(converted.cases[0])
    np.testing.assert_array_equal(after.pixels, before.pixels)
    np.testing.assert_array_equal(again.pixels, labels.pixels)
    assert after.geometry.matches(before.geometry)
    assert after.geometry.placed == before.geometry.placed
    written = json.loads(done.manifest.read_text())["cases"][0]["files"][0]
    if (to, suffix) == ("nnunet", ".nii.gz"):
        assert written["how"] == "copied"
        assert (done.folder / written["file"]).read_bytes() == paths[0].read_bytes()
    if (to, suffix) == ("nnunet", ".nii"):
        assert written["how"] == "compressed"
        assert nib.load(done.folder / written["file"]).header == nib.load(paths[0]).header


def test_stored_numbers_and_their_scaling_are_kept_in_other_files(balls, tmp_path):
    numbers = np.arange(4 * 5 * 6 * 2, dtype=np.int16).reshape(4, 5, 6, 2)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    image = nib.Nifti1Image(numbers * 0.25 + 7, np.diag([2.0, 2.0, 3.0, 1.0]), header)
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "msd" / part).mkdir(parents=True)
    nib.save(image, tmp_path / "msd/imagesTr/a.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((4, 5, 6), np.uint8), image.affine), tmp_path / "msd/labelsTr/a.nii.gz")
    listed = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    record = {"modality": {"0": "T1", "1": "T2"}, "labels": {"0": "background", "1": "x"}, "training": [listed]}
    (tmp_path / "msd" / "dataset.json").write_text(json.dumps(record))
    done = convert(open_dataset(tmp_path / "msd"), tmp_path / "Dataset001_A", workers=0)
    source = nib.load(tmp_path / "msd/imagesTr/a.nii.gz")
    for channel in range(2):
        written = nib.load(done.folder / "imagesTr" / f"a_{channel:04d}.nii.gz")
        assert (written.dataobj.slope, written.dataobj.inter) == (source.dataobj.slope, source.dataobj.inter)
        np.testing.assert_array_equal(
            written.dataobj.get_unscaled(), np.asarray(source.dataobj.get_unscaled())[..., channel]
        )
        assert written.get_data_dtype() == np.int16


@pytest.mark.parametrize(
    ("mode", "suffix", "ending"),
    [
        ("RGB", ".png", ".png"),
        ("RGBA", ".png", ".png"),
        ("L", ".png", ".png"),
        ("1", ".png", ".png"),
        ("P", ".png", ".png"),
        ("LA", ".png", ".png"),
        ("RGB", ".jpg", ".png"),
        ("L", ".bmp", ".png"),
        ("RGB", ".tif", ".png"),
        ("I;16", ".png", ".tif"),
        ("F", ".tif", ".tif"),
    ],
)
def test_pictures_of_any_kind(tmp_path, mode, suffix, ending):
    rng = np.random.default_rng(0)
    whole = PillowImage.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8))
    if mode in ("I;16", "F"):
        kind = np.uint16 if mode == "I;16" else np.float32
        picture = PillowImage.fromarray(rng.integers(0, 60_000, (9, 7)).astype(kind))
    else:
        picture = whole.convert(mode)
    picture.save(tmp_path / f"a{suffix}")
    PillowImage.fromarray((rng.integers(0, 2, (9, 7)) * 255).astype(np.uint8)).save(tmp_path / "m.png")
    source = open_dataset(table(tmp_path, image=f"a{suffix}", label="m.png"))
    done = convert(source, tmp_path / "Dataset001_A", workers=0)
    assert not done.problems
    written = done.folder / "imagesTr" / f"a_0000{ending}"
    converted = open_dataset(done.folder)
    image = source.load_image(source.cases[0])
    np.testing.assert_array_equal(converted.load_image(converted.cases[0]).pixels, image.pixels)
    # As other readers see it: no palette, no alpha, no single bits.
    import tifffile

    seen = np.asarray(PillowImage.open(written)) if ending == ".png" else tifffile.imread(written)
    np.testing.assert_array_equal(np.moveaxis(np.atleast_3d(seen), -1, 0), image.pixels)


def test_grey_pictures_among_colour_ones_become_colour(tmp_path):
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
    for name, size in (("a", (8, 8, 3)), ("b", (8, 8))):
        PillowImage.fromarray(rng.integers(0, 256, size, np.uint8)).save(tmp_path / "data" / "images" / f"{name}.png")
        PillowImage.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / "data" / "masks" / f"{name}.png")
    source = open_dataset(tmp_path / "data")
    done = convert(source, tmp_path / "Dataset001_A", workers=0)
    assert np.asarray(PillowImage.open(done.folder / "imagesTr" / "b_0000.png")).shape == (8, 8, 3)
    check_same(source, open_dataset(done.folder))


def test_flat_images_with_a_spacing_keep_it(tmp_path):
    geometry = Geometry(np.diag([0.5, 0.25, 1.0]))
    save_metaimage(np.arange(20, dtype=np.float32).reshape(4, 5) / 3, geometry, tmp_path / "a.mha", like=None)
    write_label_map(LabelMap(np.ones((4, 5), np.uint8), geometry), tmp_path / "m.mha")
    source = open_dataset(table(tmp_path, image="a.mha", label="m.mha"))
    done = convert(source, tmp_path / "Dataset001_A", workers=0)
    assert Path(done.folder / "imagesTr" / "a_0000.mha").is_file()
    check_same(source, open_dataset(done.folder))
