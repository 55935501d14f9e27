"""What the deconvolutions of a run make of an image, with the weights before and after its training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from deconvseg.cli import main
from deconvseg.data import preprocess_image, read_image
from deconvseg.errors import InputError
from deconvseg.inference import map_sources
from deconvseg.models import create_model
from deconvseg.reporting import source_maps
from deconvseg.runs import Run
from plans import tiny_plan

_SIZES = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2, "widths": [4, 8, 8]}


def _run(folder: Path, name: str = "deconver", **config: object) -> Path:
    plan = tiny_plan(model={"name": name, "config": _SIZES})
    run = Run.create(folder, plan, config, {"train": [], "val": [], "test": []})
    torch.manual_seed(99)
    run.save_weights(create_model(name, **plan.model.config).state_dict())
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    PillowImage.fromarray(np.random.default_rng(0).integers(0, 255, (32, 40), np.uint8)).save(path)
    return path


def test_both_networks_are_those_of_the_run(tmp_path: Path, image: Path) -> None:
    """The training drew its weights by the same seed."""
    run = _run(tmp_path / "run", seed=5)
    found = map_sources(run, image)
    seen = preprocess_image(read_image(image), (1.0, 1.0), Run.open(run).plan.normalisations).pixels
    for when, seed in (("before training", 5), ("after training", 99)):
        torch.manual_seed(seed)
        expected = source_maps(create_model("deconver", **Run.open(run).plan.model.config).eval(), seen)
        for one, other in zip(found[when], expected, strict=True):
            np.testing.assert_allclose(one.filters, other.filters)
            np.testing.assert_allclose(one.source, other.source, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("config", [{"seed": 0, "pretrained": "other"}, {"seed": 0, "imported": {"from": "x"}}, {}])
def test_a_run_whose_beginning_is_not_its_own_shows_only_what_it_is_now(
    tmp_path: Path, image: Path, config: dict[str, object]
) -> None:
    assert list(map_sources(_run(tmp_path / "run", **config), image)) == ["after training"]


def test_a_network_without_deconvolution_is_told(tmp_path: Path, image: Path) -> None:
    run = _run(tmp_path / "run", seed=0, name="nnunet")
    with pytest.raises(InputError, match="no nonnegative deconvolution"):
        map_sources(run, image)


def test_the_command_draws_and_prints_both(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, picture = _run(tmp_path / "run", seed=0), tmp_path / "sources.png"
    monkeypatch.setattr("sys.argv", ["deconvseg", "sources", "-m", str(run), "-i", str(image), "-o", str(picture)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "before training" in printed
    assert "encoder.0.blocks.0.mixer.ndc: error" in printed.partition("after training")[2]
    with PillowImage.open(picture) as drawn:
        assert min(drawn.size) > 300
