"""A reader that is added, as the documentation adds one, takes part in everything from the listing to the scores."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import safetensors.numpy

from deconvseg.data import (
    Geometry,
    Header,
    LabelMap,
    Reader,
    check_dataset,
    image_suffixes,
    list_readers,
    mask_suffix,
    open_dataset,
    open_images,
    prepare_cases,
    read_header,
    read_image,
    read_label_map,
    register_reader,
    unregister_reader,
    write_label_map,
)
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import evaluate
from deconvseg.inference import predict
from deconvseg.training import train
from documents import code_of, imported, install
from plans import tiny_plan

PAGE = "how-to/add-a-reader.md"


@pytest.fixture
def npy(tmp_path):
    """The reader of the documentation."""
    with imported(PAGE, "npy_reader", tmp_path):
        yield
    unregister_reader("npy")


def as_arrays(root, target):
    """A dataset of pictures as one of arrays."""
    for folder in ("images", "masks"):
        (target / folder).mkdir(parents=True)
        for path in (root / folder).iterdir():
            np.save(target / folder / f"{path.stem}.npy", np.asarray(PIL.Image.open(path)))
    (target / "splits.json").write_text((root / "splits.json").read_text())
    return target


def weights(run):
    return safetensors.numpy.load_file(run / "weights.safetensors")


def test_the_page_s_reader_is_about_forty_lines():
    assert len(code_of(PAGE).splitlines()) <= 42


def test_arrays_are_checked_trained_on_predicted_and_scored_as_the_pictures_are(npy, discs, trained, tmp_path):
    arrays = as_arrays(discs, tmp_path / "arrays")
    dataset = open_dataset(arrays)
    assert dataset.names == open_dataset(discs).names
    assert dataset.problems == ()
    report, of_pictures = check_dataset(dataset), check_dataset(open_dataset(discs))
    assert "read by   npy 16" in report.to_text()
    assert report.labels == of_pictures.labels
    assert (report.shapes, report.errors) == (of_pictures.shapes, ())

    plan = tiny_plan(recipe={"epochs": 1, "steps_per_epoch": 2, "validate_every": 1, "learning_rate": 0.01})
    runs = [train(root, tmp_path / f"run_{root.name}", plan=plan, device="cpu", workers=0) for root in (arrays, discs)]
    ours, theirs = (weights(run.path) for run in runs)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)

    for root, name in ((arrays, "from_arrays"), (discs, "from_pictures")):
        done = predict(root / "images", trained, tmp_path / name)
        assert done.problems == []
    masks = sorted((tmp_path / "from_arrays").glob("*.npy"))
    assert len(masks) == 8
    for mask in masks:
        picture = PIL.Image.open(tmp_path / "from_pictures" / f"{mask.stem}.png")
        assert np.array_equal(np.load(mask), np.asarray(picture))
    scores, expected = (
        evaluate(root, tmp_path / name).summary["mean"]
        for root, name in ((arrays, "from_arrays"), (discs, "from_pictures"))
    )
    assert scores == expected


def test_what_is_wrong_with_an_array_is_a_problem_of_its_case(npy, tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            np.save(tmp_path / folder / f"{name}.npy", np.eye(8, dtype=np.uint8))
    (tmp_path / "images" / "a.npy").write_bytes(b"no array")
    np.save(tmp_path / "images" / "b.npy", np.array([{}], dtype=object))
    errors = check_dataset(open_dataset(tmp_path)).errors
    assert [Path(error.file).name for error in errors] == ["a.npy", "b.npy"]
    assert all("no readable .npy file" in error.message for error in errors)


def test_cases_are_prepared_here_where_other_processes_do_not_know_the_reader(npy, discs, tmp_path, monkeypatch):
    monkeypatch.setattr("deconvseg.system.workers._WORTH_PROCESSES", 0.0)
    from deconvseg.data import LabelEncoding, Normalisation

    dataset = open_dataset(as_arrays(discs, tmp_path / "arrays"))
    encoding = LabelEncoding((0, 255), ("background", "disc"))
    prepared = prepare_cases(
        dataset,
        tmp_path / "cache",
        spacing=(1.0, 1.0),
        normalisations=[Normalisation("zscore")],
        encoding=encoding,
        workers=2,
    )
    assert [case.name for case in prepared] == list(dataset.names)


def command(*arguments, site, folder, **environment):
    paths = {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from deconvseg.cli import main; main()", *map(str, arguments)],
        env={**os.environ, **paths, **environment, "COLUMNS": "200"},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_an_installed_reader_is_known_to_the_command_line(tmp_path, discs):
    install(tmp_path / "site", "npy_reader", code_of(PAGE), "deconvseg.readers")
    install(tmp_path / "site", "broken_reader", "import a_module_that_is_missing\n", "deconvseg.readers")
    arrays = as_arrays(discs, tmp_path / "arrays")
    code, text = command("data", "check", arrays, site=tmp_path / "site", folder=tmp_path)
    assert code == 0, text
    assert "read by   npy 16" in text
    assert "'it' of the package broken_reader cannot be loaded and is left out (No module named 'a_module" in text


ASKING = """
from deconvseg.data.formats.registry import image_suffix, is_known_everywhere
from deconvseg.system import map_in_processes

print(image_suffix("a.npy"), *map_in_processes(image_suffix, ["b.npy", "c.npy"], 1, str), is_known_everywhere())
"""


def asked(site, folder):
    """What a program and the process that it starts know of .npy files."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", ASKING],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.stdout.split(), done.stderr


def test_an_installed_reader_is_known_to_the_processes_that_are_started(tmp_path):
    install(tmp_path / "site", "npy_reader", code_of(PAGE), "deconvseg.readers")
    known, complaints = asked(tmp_path / "site", tmp_path)
    assert known == [".npy", ".npy", ".npy", "True"], complaints


def test_no_code_in_a_dataset_is_run(tmp_path):
    install(
        tmp_path, "npy_reader", "from pathlib import Path\nPath('run').touch()\n" + code_of(PAGE), "deconvseg.readers"
    )
    (tmp_path / "site").mkdir()
    known, complaints = asked(tmp_path / "site", tmp_path)
    assert known == ["True"], complaints
    assert not (tmp_path / "run").exists()


class Slices(Reader):
    """A folder of numbered pictures as one volume."""

    def read_header(self, path):
        first = np.asarray(PIL.Image.open(min(path.glob("*.png"))))
        return Header(1, (*first.shape, len(list(path.glob("*.png")))), 1)

    def read_channels(self, path, *, channels_last=False):
        slices = [np.asarray(PIL.Image.open(file)) for file in sorted(path.glob("*.png"))]
        return np.stack(slices, axis=-1)[None], Geometry.identity(3)


def is_stack(folder):
    return (folder / "stack.txt").is_file()


@pytest.fixture
def slices():
    register_reader("slices", claims=is_stack)(Slices)
    yield
    unregister_reader("slices")


def save_stack(folder, volume):
    folder.mkdir(parents=True)
    (folder / "stack.txt").touch()
    for number in range(volume.shape[-1]):
        PIL.Image.fromarray(volume[..., number]).save(folder / f"{number:03d}.png")
    return folder


def test_a_folder_can_be_an_image(slices, tmp_path):
    rng = np.random.default_rng(0)
    volumes = {name: rng.integers(0, 256, (6, 5, 4), dtype=np.uint8) for name in ("a", "b.1")}
    for name, volume in volumes.items():
        save_stack(tmp_path / "images" / name, volume)
        save_stack(tmp_path / "masks" / name, volume // 128)
    save_stack(tmp_path / "images" / "deeper" / "c", volumes["a"])
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "deeper" / "d.png")
    dataset = open_dataset(tmp_path)
    assert dataset.names == ("a", "b.1")
    assert dataset.channel_names == ("image",)
    for case in dataset.cases:
        image, mask = dataset.load(case)
        assert np.array_equal(image.pixels[0], volumes[case.name])
        assert np.array_equal(mask.pixels, volumes[case.name] // 128)
        assert len(case.files) == 10
        assert mask_suffix(case.images[0]) == ".nii.gz"
    (left_out,) = dataset.problems
    assert "holds 2 image files in subfolders" in left_out.message
    assert "deeper/c, deeper/d.png" in left_out.message
    assert check_dataset(dataset).to_json()["readers"] == {"slices": 4}
    cases, _ = open_images(tmp_path / "images")
    assert [case.name for case in cases] == ["a", "b.1"]
    (case,), _ = open_images(tmp_path / "images" / "b.1")
    assert (case.name, case.images) == ("b.1", (tmp_path / "images" / "b.1",))
    with pytest.raises(InputError, match="masks is a folder, where an image file is expected|no known image suffix"):
        read_image(tmp_path / "masks")


def test_a_folder_that_is_an_image_is_predicted(slices, tmp_path):
    import torch

    from deconvseg.models import create_model
    from deconvseg.runs import Run

    config = {"in_channels": 1, "out_channels": 2, "spatial_dims": 3, "widths": [4, 8], "kernel_size": 3}
    plan = tiny_plan(
        spatial_dims=3,
        spacing=[1.0, 1.0, 1.0],
        patch_size=[8, 8, 8],
        model={"name": "deconver", "config": config},
    )
    run = Run.create(tmp_path / "run", plan, {}, {"train": [], "val": [], "test": []})
    torch.manual_seed(0)
    run.save_weights(create_model("deconver", **config).state_dict())
    save_stack(tmp_path / "images" / "a", np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8))
    done = predict(tmp_path / "images", run.path, tmp_path / "out")
    assert (done.problems, [path.name for path in done.written]) == ([], ["a.nii.gz"])
    assert read_label_map(done.written[0]).shape == (6, 5, 4)
    # A slice that has changed makes the mask an old one.
    PIL.Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "images" / "a" / "000.png")
    again = predict(tmp_path / "images", run.path, tmp_path / "out", skip_existing=True)
    assert [path.name for path in again.written] == ["a.nii.gz"]


def test_readers_that_collide_or_read_nothing_are_refused():
    before = list_readers()
    for options, message in (
        (
            {"name": "mine", "reads": (".mine", ".nii.gz")},
            r"the suffix \.nii\.gz has a reader \('nifti'\): choose another",
        ),
        ({"name": "nifti", "reads": ".mine"}, "the name 'nifti' has a reader"),
        ({"name": "mine", "reads": "mine"}, "reads='mine': a suffix begins with a dot"),
        ({"name": "mine"}, "the reader 'mine' reads nothing"),
    ):
        with pytest.raises(InputError, match=message):
            register_reader(**options)(Slices)
    with pytest.raises(InputError, match="there is no reader 'mine'; known are nifti, "):
        unregister_reader("mine")
    assert list_readers() == before


def test_a_reader_may_take_the_place_of_another(tmp_path):
    PIL.Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.gif")

    class Constant(Reader):
        def read_header(self, path):
            return Header(1, (2, 2), 1)

        def read_channels(self, path, *, channels_last=False):
            return np.full((1, 2, 2), 7), Geometry.identity(2)

    kind = type(read_format("a.gif"))
    unregister_reader("web pictures")
    try:
        assert ".gif" not in image_suffixes()
        register_reader("mine", reads=(".GIF",))(Constant)
        assert read_image(tmp_path / "a.gif").pixels.tolist() == [[[7, 7], [7, 7]]]
        with pytest.raises(InputError, match=r"m\.gif: a mask is not written as \.gif"):
            write_label_map(LabelMap(np.zeros((2, 2), np.uint8), Geometry.identity(2)), tmp_path / "m.gif")
        unregister_reader("mine")
    finally:
        register_reader("web pictures", reads=(".webp", ".gif"))(kind)
    assert read_image(tmp_path / "a.gif").shape == (4, 4)


def read_format(name):
    from deconvseg.data.formats.registry import find_format

    return find_format(name).reader


def test_a_reader_without_what_is_required_cannot_be_registered():
    class Half(Reader):
        def read_header(self, path):
            return Header(1, (2, 2), 1)

    with pytest.raises(TypeError, match="read_channels"):
        register_reader("half", reads=".half")(Half)
    assert "half" not in list_readers()


def test_what_is_no_reader_cannot_be_registered():
    class Duck:
        read_header = read_channels = None

    with pytest.raises(
        InputError, match=r"the reader 'duck' is Duck, which is not a subclass of deconvseg\.data\.Reader"
    ):
        register_reader("duck", reads=".duck")(Duck)


@pytest.mark.parametrize("error", [KeyError("size"), struct.error("short"), StopIteration(), Exception("x")])
def test_whatever_a_reader_raises_is_a_problem_of_its_file(tmp_path, error):
    class Failing(Reader):
        def read_header(self, path):
            raise error

        read_channels = read_labels = read_alpha = compression_with_losses = read_header

    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(np.eye(8, dtype=np.uint8)).save(tmp_path / folder / "good.png")
    for folder in ("images", "masks"):
        (tmp_path / folder / "bad.fails").touch()
    register_reader("failing", reads=".fails")(Failing)
    try:
        for read in (read_header, read_image, read_label_map):
            with pytest.raises(InputError, match=r"bad\.fails is truncated or not a readable \.fails file"):
                read(tmp_path / "images" / "bad.fails")
        (problem,) = check_dataset(open_dataset(tmp_path)).errors
        assert Path(problem.file).name == "bad.fails"
    finally:
        unregister_reader("failing")


ANSWERS = [None, np.zeros((1, 4, 4)), (np.zeros((1, 4, 4)), None), ([[1]], Geometry.identity(2))]
ARRAYS = [np.zeros(4), np.array([[["a"]]]), np.zeros((1, 4, 4), complex), np.zeros((1, 4, 4), "M8[s]")]


@pytest.mark.parametrize("answer", [*ANSWERS, *((array, Geometry.identity(2)) for array in ARRAYS)])
def test_what_a_reader_may_not_return_is_an_error_of_its_file(tmp_path, answer):
    class Odd(Reader):
        def read_header(self, path):
            return answer

        def read_channels(self, path, *, channels_last=False):
            return answer

        def read_labels(self, path):
            return answer

    (tmp_path / "a.odd").touch()
    register_reader("odd", reads=".odd")(Odd)
    try:
        for read in (read_header, read_image, read_label_map):
            with pytest.raises(InputError, match=r"a\.odd"):
                read(tmp_path / "a.odd")
        answer = np.zeros((0, 4, 4)), Geometry.identity(2)
        with pytest.raises(InputError, match=r"a\.odd holds no voxels: its shape is \(0, 4, 4\)"):
            read_image(tmp_path / "a.odd")
    finally:
        unregister_reader("odd")


def test_what_listings_ask_of_a_reader_names_the_file_where_it_fails(tmp_path):
    class Failing(Reader):
        read_header = read_channels = None

        def fail(self, *args):
            raise RuntimeError("not here")

        listed_as = mask_suffix = fail

    def claims(folder):
        raise LookupError("no folder")

    (tmp_path / "a.fails").touch()
    register_reader("failing", reads=".fails")(Failing)
    try:
        for ask in (mask_suffix, lambda path: open_images(path.parent)):
            with pytest.raises(InputError, match=r"a\.fails .*\(not here\)"):
                ask(tmp_path / "a.fails")
        unregister_reader("failing")
        register_reader("failing", claims=claims)(Failing)
        with pytest.raises(DeconvsegError, match=r": the reader 'failing': LookupError: no folder"):
            open_images(tmp_path)
    finally:
        unregister_reader("failing")


@pytest.mark.parametrize("error", [TypeError("no such type"), RuntimeError("no such type")])
def test_a_mask_that_a_reader_cannot_write_is_named(npy, tmp_path, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(InputError, match=r"m\.npy cannot be written \(\w+Error: no such type\)"):
        write_label_map(LabelMap(np.zeros((2, 2), np.uint8), Geometry.identity(2)), tmp_path / "m.npy")
    assert not (tmp_path / "m.npy").exists()


def test_the_constant_of_before_still_works():
    import deconvseg.data

    with pytest.warns(DeprecationWarning, match="image_suffixes"):
        assert image_suffixes() == deconvseg.data.IMAGE_SUFFIXES
    assert json.dumps(list_readers()).count(".nii.gz") == 1
