"""A packed run predicts as its folder does, says nothing of its cases, and refuses what was changed."""

import json
import shutil
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import deconvseg
from deconvseg.data import read_image
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.evaluation import read_operating_points
from deconvseg.evaluation.threshold import choose_threshold
from deconvseg.inference import Predictor
from deconvseg.integrations import pack
from deconvseg.integrations.sharing.card import model_card
from deconvseg.runs import Run, locate, open_runs, read_threshold
from shared_runs import PATIENTS, copy_with_patients, edit_json, fold


@pytest.fixture(scope="module")
def packed(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("packed") / "discs.dseg.zip"
    pack(trained, file)
    return file


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the user's own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_masks_are_those_of_the_run(trained: Path, packed: Path, discs: Path, tmp_path: Path) -> None:
    image = read_image(discs / "images" / "disc6.png")
    mask, maps = deconvseg.predict(image, packed, probabilities=True)
    expected, expected_maps = deconvseg.predict(image, trained, probabilities=True)
    assert mask.pixels.any()
    assert np.array_equal(mask.pixels, expected.pixels)
    assert np.array_equal(maps.pixels, expected_maps.pixels)
    done = deconvseg.predict(discs / "images", [packed, trained], tmp_path / "masks")
    assert len(done.written) == 8
    assert not done.warnings


def test_every_function_that_takes_a_run_takes_a_packed_one(
    packed: Path, trained: Path, discs: Path, tmp_path: Path
) -> None:
    own, other = deconvseg.load_network(packed).state_dict(), deconvseg.load_network(trained, "final").state_dict()
    assert all(torch.equal(own[name], other[name]) for name in other)
    masks = tmp_path / "masks"
    deconvseg.predict(discs / "images", packed, masks)
    scores = deconvseg.evaluate(discs / "masks", masks, run=packed)
    assert scores.mean_dice > 0.8
    options = {"plan": Run(trained).plan, "splits": discs / "splits.json", "epochs": 1, "device": "cpu"}
    run = deconvseg.train(discs, tmp_path / "run", pretrained=packed, **options)
    assert run.config["pretrained"] == packed.name


@pytest.mark.slow
def test_an_export_of_a_packed_run_is_that_of_the_run(packed: Path, trained: Path, discs: Path, tmp_path: Path) -> None:
    for name, run in (("packed", packed), ("own", trained)):
        deconvseg.export(run, tmp_path / name, images=discs)
    assert (tmp_path / "packed" / "model.onnx").read_bytes() == (tmp_path / "own" / "model.onnx").read_bytes()


def test_the_same_run_gives_the_same_bytes(trained: Path, packed: Path, tmp_path: Path) -> None:
    again = tmp_path / "other.dseg.zip"
    package = pack(trained, again)
    assert again.read_bytes() == packed.read_bytes()
    # A package that is packed again keeps its weights and has no more to lose.
    twice = tmp_path / "twice.dseg.zip"
    assert pack(packed, twice).files["weights.safetensors"] == package.files["weights.safetensors"]


def test_nothing_names_a_case_or_a_folder(trained: Path, tmp_path: Path) -> None:
    run = copy_with_patients(trained, tmp_path / "run")
    package = pack(fold(run, tmp_path / "cv"), tmp_path / "cv.dseg.zip")
    content = (tmp_path / "cv.dseg.zip").read_bytes()
    for name in (*PATIENTS, "disc4", "/home/me", "/tmp/me", str(tmp_path), "resume", "place"):
        assert name.encode() not in content, name
    assert package.cases == {"train": 1, "val": 1, "test": 0}
    assert package.excluded == 1
    assert package.command == "deconvseg train study --exclude …"
    assert package.folds == 2
    plan = open_runs(tmp_path / "cv.dseg.zip")[1].plan
    assert plan.reasons["spacing"] == "that of …"
    # The limit of unusual doubt stays.
    kept, before = (read_operating_points(folder) for folder in (locate(tmp_path / "cv.dseg.zip"), run))
    assert kept is not None
    assert before is not None
    assert sorted(kept.doubts.values()) == sorted(before.doubts.values())
    assert Predictor(open_runs(tmp_path / "cv.dseg.zip")).plan == plan


@pytest.mark.parametrize(
    "names", [("1", "2", "3", "10"), tuple(f"1.2.840.{number}" for number in (1, 12, 255, 9))], ids=["numbers", "UIDs"]
)
def test_versions_labels_and_numbers_stay_if_cases_are_named_like_them(
    trained: Path, tmp_path: Path, names: tuple[str, ...]
) -> None:
    run = Run(copy_with_patients(trained, tmp_path / "run"))
    first, second, third, fourth = names
    edit_json(run.path / "splits.json", train=[first, second], val=[third], test=[])
    edit_json(
        run.path / "plan.json",
        excluded={fourth: "empty"},
        warnings=[f"{first} is 1.5 times as wide as {fourth}"],
        reasons=run.plan.reasons | {"spacing": f"that of {third}"},
    )
    labels = ["1=organ", "2=lesion", "10=1.2"]
    edit_json(run.path / "config.json", labels=labels, image=[f"{second}.nii.gz"])
    before = run.manifest
    edit_json(
        run.path / "manifest.json",
        data={f"images/{name}.nii.gz": "0" * 64 for name in names},
        command=f"deconvseg train study --fold 1 --epochs=10 --exclude {fourth} --image {second}.nii.gz",
    )
    package = pack(run.path, tmp_path / "run.dseg.zip")
    kept = Run(locate(tmp_path / "run.dseg.zip"))
    for key in ("deconvseg", "python", "packages", "machine", "git_commit"):
        assert kept.manifest[key] == before[key], key
    assert kept.config["labels"] == labels
    assert kept.config["image"] == ["…"]
    assert kept.plan.labels == run.plan.labels
    assert kept.plan.warnings == ("… is 1.5 times as wide as …",)
    assert kept.plan.reasons["spacing"] == "that of …"
    assert set(kept.plan.reasons) == set(run.plan.reasons) - {"excluded"}
    assert package.command == kept.manifest["command"]
    assert package.command == "deconvseg train study --fold 1 --epochs=10 --exclude … --image …"


def test_a_package_says_that_its_training_began_with_other_weights(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    edit_json(run / "config.json", pretrained="secret.dseg.zip")
    for place, name in ((run, "once"), (tmp_path / "once.dseg.zip", "twice")):
        package = pack(place, tmp_path / f"{name}.dseg.zip")
        assert package.pretrained
        assert package.imported is None
        assert Run(locate(tmp_path / f"{name}.dseg.zip")).config["pretrained"]
        assert b"secret" not in (tmp_path / f"{name}.dseg.zip").read_bytes()
    plan = Run(run).plan
    assert "trained from the weights of another model with [deconvseg]" in model_card(package, plan, source="x")
    assert not pack(trained, tmp_path / "other.dseg.zip").pretrained


@pytest.mark.parametrize("stored", ["bfloat16", "float16"])
def test_half_precision_halves_the_file_and_keeps_what_was_chosen(
    trained: Path, packed: Path, discs: Path, tmp_path: Path, stored: Any
) -> None:
    run, file = shutil.copytree(trained, tmp_path / "run"), tmp_path / "half.dseg.zip"
    choose_threshold(run, best="dice")
    package = pack(run, file, stored=stored)
    assert package.stored == stored
    name = "weights.safetensors"
    with zipfile.ZipFile(packed) as whole, zipfile.ZipFile(file) as half:
        assert half.getinfo(name).file_size < 0.65 * whole.getinfo(name).file_size
    weights = Run(locate(file)).load_weights()
    expected = {key: tensor.to(getattr(torch, stored)) for key, tensor in Run(run).load_weights().items()}
    assert all(torch.equal(weights[key], tensor) for key, tensor in expected.items())
    chosen = read_threshold(locate(file))
    assert chosen is not None
    assert chosen.weights == (package.files[name].sha256,)
    done = deconvseg.predict(discs / "images", file, tmp_path / "masks")
    assert done.threshold == chosen.threshold
    assert not done.warnings


def test_the_best_weights_are_packed_where_the_recipe_chooses_them(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    plan = json.loads((run / "plan.json").read_text())
    edit_json(run / "plan.json", recipe=plan["recipe"] | {"weights": "best"})
    package = pack(run, tmp_path / "best.dseg.zip")
    assert [name for name in package.files if name.endswith(".safetensors")] == ["weights_best.safetensors"]
    assert Run(locate(tmp_path / "best.dseg.zip")).choose_weights() == "best"


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda run: edit_json(run / "manifest.json", finished=False), "its training did not finish; continue it"),
        (lambda run: (run / "weights.safetensors").write_bytes(b"0" * 100), "not a safetensors file"),
        (lambda run: (run / "plan.json").unlink(), "not a run folder"),
    ],
    ids=["unfinished", "damaged", "no run"],
)
def test_what_cannot_be_packed_leaves_no_file(trained: Path, tmp_path: Path, change: Any, error: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    change(run)
    with pytest.raises(InputError, match=error):
        pack(run, tmp_path / "out" / "run.dseg.zip")
    assert not list((tmp_path / "out").iterdir())


def test_weights_beyond_float16_are_refused(trained: Path, tmp_path: Path) -> None:
    run = Run(shutil.copytree(trained, tmp_path / "run"))
    weights = run.load_weights()
    next(iter(weights.values())).view(-1)[0] = 1e6
    run.save_weights(weights)
    run.update_manifest(finished=True)
    with pytest.raises(InputError, match=r"`stored='float16'`: .* has values beyond it; take 'bfloat16'"):
        pack(run.path, tmp_path / "run.dseg.zip", stored="float16")


def test_a_name_without_the_suffix_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the name of a packed run ends with \.dseg\.zip"):
        pack(trained, tmp_path / "run.zip")


def rewritten(packed: Path, target: Path, change: Any) -> Path:
    """A packed file with changed entries: ``change`` gets and returns a list of entries and their contents."""
    with zipfile.ZipFile(packed) as source:
        entries = [(info, source.read(info)) for info in source.infolist()]
    with zipfile.ZipFile(target, "w") as written:
        for info, content in change(entries):
            written.writestr(info, content, info.compress_type)
    return target


def _added(name: str, content: bytes = b"{}", mode: int = stat.S_IFREG | 0o644) -> Any:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return lambda entries: [*entries, (info, content)]


def _compressed(entries: Any) -> Any:
    entries[1][0].compress_type = zipfile.ZIP_DEFLATED
    return entries


def _other_weights(entries: Any) -> Any:
    return [(i, c[:-1] + bytes([c[-1] ^ 1]) if i.filename.endswith(".safetensors") else c) for i, c in entries]


def _longer(entries: Any) -> Any:
    return [(i, c + b" " if i.filename == "plan.json" else c) for i, c in entries]


def _listed(name: str) -> Any:
    """Add a file that the package lists."""

    def change(entries: Any) -> Any:
        package = json.loads(entries[0][1])
        package["files"][name] = {"bytes": 2, "sha256": "0" * 64}
        return _added(name)([(entries[0][0], json.dumps(package).encode()), *entries[1:]])

    return change


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_added("../evil.json"), "'../evil.json' is not listed"),
        (_listed("../evil.json"), "'../evil.json' is no file of a model"),
        (_listed("/etc/plan.json"), "'/etc/plan.json' is no file of a model"),
        (_listed("fold_0/../../plan.json"), "is no file of a model"),
        (_listed("validation/disc4.png"), "is no file of a model"),
        (_listed("package.json"), "holds a name twice"),
        (_added("link", b"/etc/passwd", stat.S_IFLNK | 0o777), "'link' is a link or another special file"),
        (_added("fold_0/", b"", stat.S_IFDIR | 0o755), "'fold_0/' is a folder"),
        (_added("PLAN.json"), "holds a name twice"),
        (_compressed, "'config.json' is compressed"),
        (_other_weights, "the SHA-256 of 'weights.safetensors' is not that"),
        (_longer, "'plan.json' has .* bytes where package.json says"),
        (lambda entries: entries[1:], "has no package.json"),
        (lambda entries: [e for e in entries if e[0].filename != "plan.json"], "'plan.json' is missing"),
        (lambda entries: [(entries[0][0], b"[]"), *entries[1:]], "package.json"),
        (lambda entries: [(entries[0][0], b'{"version": 2}'), *entries[1:]], "version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_pack_does_not_write_is_not_unpacked(
    packed: Path, cache: Path, tmp_path: Path, change: Any, error: str
) -> None:
    file = rewritten(packed, tmp_path / "changed.dseg.zip", change)
    with pytest.raises(InputError, match=error) as raised:
        locate(file)
    assert str(file) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert not (tmp_path / "evil.json").exists()


def test_entries_that_share_bytes_are_refused(packed: Path, cache: Path, tmp_path: Path) -> None:
    """Many names for the same bytes make a large folder of a small file."""
    content = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as source:
        first, second = source.infolist()[1:3]
    # In the central directory, the second file's offset becomes that of the first.
    place = content.rindex(second.filename.encode()) - 4
    assert int.from_bytes(content[place : place + 4], "little") == second.header_offset
    content[place : place + 4] = first.header_offset.to_bytes(4, "little")
    (tmp_path / "bomb.dseg.zip").write_bytes(content)
    with pytest.raises(InputError, match="overlaps another entry"):
        locate(tmp_path / "bomb.dseg.zip")


def test_a_changed_cache_is_made_anew(packed: Path, cache: Path) -> None:
    folder = locate(packed)
    assert folder.is_relative_to(cache)
    plan = (folder / "plan.json").read_bytes()
    (folder / "plan.json").write_bytes(plan[:-2] + b"  ")
    (folder / "weights.safetensors").unlink()
    assert locate(packed) == folder
    assert (folder / "plan.json").read_bytes() == plan
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.faults
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bytes_are_an_error_in_one_line_or_change_nothing(
    packed: Path, cache: Path, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(packed.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(1, 4))):
        if content:
            # The directory at the end decides most.
            place = data.draw(st.integers(0, min(len(content), 2000)))
            content[-place or 0] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.dseg.zip").write_bytes(content)
    try:
        folder = locate(tmp_path / "damaged.dseg.zip")
    except DeconvsegError as error:
        assert "\n" not in str(error)  # noqa: PT017 (some damage changes nothing)
    else:
        assert Run(folder).plan == Run(locate(packed)).plan
