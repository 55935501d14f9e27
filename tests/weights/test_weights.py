"""The package with trained models: how a model gets into it, how it is found, and what lies in it."""

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import deconvseg
from deconvseg.cli.app import app
from deconvseg.data import read_image
from deconvseg.errors import DeconvsegError, InputError
from deconvseg.runs import list_pretrained, locate, locating, pretrained, read_packed
from deconvseg.system import plugins

FOLDER = Path(__file__).parents[2] / "weights"
MODELS = FOLDER / "src" / "deconvseg_weights" / "models"


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("make_weights", FOLDER / "make_weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_weights = load_script()
ABOUT = {"name": "discs", "license": "cc0-1.0", "source": "Discs on noise, made by the tests (CC0)."}


@pytest.fixture(scope="module")
def made(trained: Path, discs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models with one."""
    models = tmp_path_factory.mktemp("models")
    make_weights.add_model(trained, discs, splits=discs / "splits.json", models=models, **ABOUT)
    return models


@pytest.fixture(scope="module")
def installed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's wheel, with that model, unpacked as an installer does."""
    place = tmp_path_factory.mktemp("wheel")
    shutil.copytree(FOLDER, place / "weights", ignore=shutil.ignore_patterns("*.zip", "dist"))
    for file in made.iterdir():
        shutil.copy(file, place / "weights" / "src" / "deconvseg_weights" / "models")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=place / "weights", check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(place / "site")
    return place / "site"


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not looked for models yet."""
    monkeypatch.setattr(plugins, "_loaded", set())
    monkeypatch.setattr(pretrained, "_PRETRAINED", {})
    monkeypatch.delitem(sys.modules, "deconvseg_weights", raising=False)
    locating._fetch.cache_clear()
    yield
    locating._fetch.cache_clear()
    sys.modules.pop("deconvseg_weights", None)


@pytest.fixture
def with_package(installed: Path, fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))


def test_an_installed_model_predicts_by_its_name(with_package: None, made: Path, discs: Path, tmp_path: Path) -> None:
    assert list(list_pretrained()) == ["discs"]
    image = read_image(discs / "images" / "disc6.png")
    mask = deconvseg.predict(image, "pretrained:discs")
    assert mask.pixels.any()
    assert np.array_equal(mask.pixels, deconvseg.predict(image, made / "discs.dseg.zip").pixels)
    network = deconvseg.load_network("pretrained:discs", device="cpu")
    assert {parameter.dtype for parameter in network.parameters()} == {next(network.parameters()).dtype}
    with pytest.raises(InputError, match="there is no pretrained model 'disc'; did you mean 'discs'"):
        locate("pretrained:disc")


def test_the_command_lists_what_is_installed(with_package: None) -> None:
    listed = CliRunner().invoke(app, ["models", "--pretrained"])
    assert listed.stdout.startswith("pretrained:discs: Dice of disc 0.")
    assert "on 2 test cases; " in listed.stdout
    assert listed.stdout.rstrip().endswith("in bfloat16")
    told = json.loads(CliRunner().invoke(app, ["models", "--pretrained", "--json"]).stdout)
    assert told["discs"]["cases"] == {"train": 4, "val": 2, "test": 2}


def test_without_the_package_the_message_says_what_to_install(fresh: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECONVSEG_PLUGINS", "0")
    assert "install deconvseg-weights" in CliRunner().invoke(app, ["models", "--pretrained"]).stdout
    with pytest.raises(InputError, match=r"pretrained:isic2018: no package .* is installed; install deconvseg-weights"):
        locate("pretrained:isic2018")


def test_the_card_has_the_scores_of_the_packed_weights_and_what_their_storage_costs(
    made: Path, trained: Path, discs: Path, tmp_path: Path
) -> None:
    scores = {}
    for name, model in (("own", trained), ("packed", made / "discs.dseg.zip")):
        deconvseg.predict(discs / "images", model, tmp_path / name, device="cpu", cases=["disc6", "disc7"])
        scores[name] = deconvseg.evaluate(discs / "masks", tmp_path / name, splits=discs / "splits.json", split="test")
    own, packed = (scores[name].mean_dice for name in ("own", "packed"))
    card = (made / "discs.md").read_text()
    assert f"{own:.5f} with the run's own weights, {packed:.5f} with these ({packed - own:+.5f})" in card
    assert 'license: "cc0-1.0"' in card
    assert ABOUT["source"] in card
    assert "-m pretrained:discs" in card
    package = read_packed(made / "discs.dseg.zip")
    assert package.scored_on == "test"
    dice = next(score for score in package.scores if score.metric == "Dice")
    assert dice.mean == pytest.approx(packed, abs=1e-9)
    assert f"| disc | Dice | {dice.mean:.4g} | {dice.ci95[0]:.4g} to {dice.ci95[1]:.4g} | 2 |" in card


def test_validation_cases_are_named_as_such(trained: Path, discs: Path, tmp_path: Path) -> None:
    splits = discs / "splits.json"
    package = make_weights.add_model(trained, discs, splits=splits, models=tmp_path, split="val", **ABOUT)
    assert package.scored_on == "validation"
    card = (tmp_path / "discs.md").read_text()
    assert "Means over the validation cases" in card
    assert "measured with weights in float32" not in card
    assert "not used before" not in card


def test_a_damaged_model_leaves_the_others_in_the_list(
    fresh: None, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DECONVSEG_PLUGINS", "0")
    (tmp_path / "bad.dseg.zip").write_bytes(b"no zip")
    pretrained.register_pretrained("bad", tmp_path / "bad.dseg.zip")
    pretrained.register_pretrained("ok\x1b[31m", made / "discs.dseg.zip")
    listed = CliRunner().invoke(app, ["models", "--pretrained"])
    assert listed.exit_code == 0
    assert listed.stdout.startswith("pretrained:ok")
    assert "\x1b" not in listed.stdout
    assert "pretrained:bad" in listed.stderr


def test_a_model_that_loses_or_weighs_too_much_is_refused(
    trained: Path, discs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = tmp_path / "models"
    with pytest.raises(DeconvsegError, match="the mean Dice of 2 cases falls from"):
        make_weights.add_model(trained, discs, splits=discs / "splits.json", models=models, most=-1.0, **ABOUT)
    monkeypatch.setattr(make_weights, "MOST_BYTES", 1000)
    with pytest.raises(DeconvsegError, match="the package would have .* bytes, more than 1,000"):
        make_weights.add_model(trained, discs, splits=discs / "splits.json", models=models, **ABOUT)
    assert not models.exists()


def test_the_committed_models_open_have_cards_and_fit() -> None:
    files = sorted(MODELS.glob("*.dseg.zip"))
    if not files:
        pytest.skip("no trained model is in weights/ yet")
    assert sum(file.stat().st_size for file in files) <= make_weights.MOST_BYTES
    for file in files:
        package = read_packed(file)
        assert package.scored_on == "test", file
        assert package.stored in (MODELS / f"{package.name}.md").read_text()
        assert not list(package.differing(locate(file)))
