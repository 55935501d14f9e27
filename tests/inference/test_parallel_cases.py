"""Small cases side by side: the masks, records and messages of one after the other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import deconvseg
from consoles import Listening
from deconvseg.data import open_images, read_image, read_label_map
from deconvseg.inference import Prediction, Predictor, predict_cases
from deconvseg.inference.memory import Estimate
from deconvseg.inference.parallel_cases import choose_team
from deconvseg.inference.stages import Job
from deconvseg.models import create_model
from deconvseg.ops import use_backend
from deconvseg.runs import Run


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def pictures(discs: Path, tmp_path: Path) -> Path:
    """The discs, a damaged file, and a picture of another size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for file in sorted((discs / "images").iterdir()):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "disc2b.png").write_bytes((folder / "disc2.png").read_bytes()[:200])
    PillowImage.open(folder / "disc3.png").resize((90, 70)).save(folder / "disc3b.png")
    return folder


def predicted(run: Path, pictures: Path, output: Path, threads: int) -> tuple[Prediction, list[str]]:
    torch.set_num_threads(threads)
    console, predictor = Listening(), Predictor([Run.open(run)])
    cases, _ = open_images(pictures)
    done = predict_cases(predictor, cases, output, load=lambda case: read_image(case.images), console=console)
    return done, console.said


@pytest.mark.usefixtures("two_threads")
def test_the_masks_problems_and_remarks_are_those_of_one_after_the_other(
    trained: Path, pictures: Path, tmp_path: Path
) -> None:
    alone, said_alone = predicted(trained, pictures, tmp_path / "alone", 1)
    together, said = predicted(trained, pictures, tmp_path / "together", 2)
    assert torch.get_num_threads() == 2
    assert [path.name for path in together.written] == [path.name for path in alone.written]
    assert len(together.written) == 9
    for one, other in zip(alone.written, together.written, strict=True):
        assert np.array_equal(read_label_map(one).pixels, read_label_map(other).pixels)
    assert together.problems == alone.problems
    assert len(together.problems) == 1
    assert "disc2b.png" in together.problems[0]
    assert together.remarks == alone.remarks
    assert together.doubts.keys() == alone.doubts.keys()
    # The estimate is that of all cases at work.
    assert said[0].startswith("disc0: 4 windows, about ")
    assert said != said_alone
    kept = deconvseg.predict(pictures, trained, tmp_path / "together", device="cpu", precision="32", skip_existing=True)
    assert len(kept.skipped) == 9


@pytest.mark.usefixtures("two_threads")
def test_only_small_cases_of_our_networks_on_a_cpu_are_computed_side_by_side(trained: Path, discs: Path) -> None:
    cases, _ = open_images(discs / "images")
    job, load = Job(cases[0], Path("mask.png")), lambda case: read_image(case.images)
    small, run = Estimate(10**6, 10**5, 1, 1), Run.open(trained)
    predictor = Predictor([run])
    team = choose_team(predictor, load, job, small, 8)
    assert team is not None
    assert team.size == 2
    assert choose_team(predictor, load, job, small, 1) is None
    assert choose_team(predictor, load, job, Estimate(10**9, 10**5, 1, 1), 8) is None
    assert choose_team(Predictor([run], memory=10**6), load, job, small, 8) is None
    limited = choose_team(Predictor([run], memory=3 * 10**6), load, job, small, 8)
    assert limited is not None
    assert limited.size * limited.each <= 3 * 10**6
    network = torch.nn.Sequential(create_model("deconver", **run.plan.model.config))
    assert choose_team(Predictor([(network, run.plan)]), load, job, small, 8) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert choose_team(predictor, load, job, small, 8) is None
    torch.set_num_threads(1)
    assert choose_team(predictor, load, job, small, 8) is None


@pytest.mark.usefixtures("two_threads")
def test_the_threads_have_the_callers_backend(trained: Path, pictures: Path, tmp_path: Path) -> None:
    with use_backend("reference"):
        done, _ = predicted(trained, pictures, tmp_path / "masks", 2)
    assert len(done.written) == 9
