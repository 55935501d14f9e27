"""The final or the best weights: their masks, what is recorded of them, and what was chosen for the others."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import deconvseg
from deconvseg.errors import InputError
from deconvseg.evaluation import read_operating_points
from deconvseg.evaluation.threshold import choose_threshold
from deconvseg.inference import Postprocessing, predict, read_postprocessing
from deconvseg.inference.opening import decide_postprocessing, decide_threshold, doubt_limit
from deconvseg.inference.postprocessing import Step
from deconvseg.runs import Run, describe_run, is_described, read_threshold, record_weights, weights_of


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    """A copy of the trained run, whose best weights predict other masks than its final ones."""
    copy = Run.open(shutil.copytree(trained, tmp_path / "run"))
    copy.save_weights({name: tensor * 0.5 for name, tensor in copy.load_weights().items()}, "weights_best")
    return copy


def prefer(run: Run, which: str) -> Run:
    """Let the recipe of a run choose its weights."""
    plan = run.plan.with_values({"recipe.weights": which})
    (run.path / "plan.json").write_text(plan.model_dump_json())
    return Run.open(run.path)


@pytest.mark.parametrize("which", ["final", "best"])
def test_masks_are_those_of_the_network_with_these_weights_and_say_so(
    run: Run, discs: Path, tmp_path: Path, which: str
) -> None:
    image = discs / "images" / "disc0.png"
    done = predict(image, run.path, tmp_path / "masks", weights=which, device="cpu")
    predict(image, [(run.network(which), run.plan)], tmp_path / "network", device="cpu")
    assert (tmp_path / "masks" / "disc0.png").read_bytes() == (tmp_path / "network" / "disc0.png").read_bytes()
    digest = run.manifest["files"]["weights.safetensors" if which == "final" else "weights_best.safetensors"]
    assert done.models[0]["sha256"] == digest
    record = json.loads((tmp_path / "masks" / "predictions.jsonl").read_text())
    assert (record["runs"][0]["weights"], record["runs"][0]["weights_sha256"]) == (which, digest)
    assert is_described(run, record["runs"][0])
    assert not is_described(run, {**record["runs"][0], "weights_sha256": "0" * 64})


def test_the_recipe_chooses_unless_asked_and_kept_masks_have_the_same_weights(
    run: Run, discs: Path, tmp_path: Path
) -> None:
    image, options = discs / "images" / "disc0.png", {"skip_existing": True, "device": "cpu"}
    assert predict(image, run.path, tmp_path / "masks", **options).written
    assert predict(image, run.path, tmp_path / "masks", weights="final", **options).skipped
    assert predict(image, run.path, tmp_path / "masks", weights="best", **options).written
    best = prefer(run, "best")
    assert predict(image, best.path, tmp_path / "masks", **options).skipped
    assert predict(image, best.path, tmp_path / "masks", weights="final", **options).written
    assert record_weights(best)["choice"] == "best"
    assert weights_of(best.path) == weights_of(best.path, "best") != weights_of(best.path, "final")


def test_several_runs_have_the_choice_each_and_one_without_best_weights_is_refused(run: Run, trained: Path) -> None:
    image = np.random.default_rng(0).uniform(60, 150, (40, 48)).astype(np.float32)
    pairs = [(Run.open(path).network("best"), run.plan) for path in (run.path, trained)]
    expected = predict(image, pairs, device="cpu", probabilities=True)[1]
    found = predict(image, [run.path, trained], weights="best", device="cpu", probabilities=True)[1]
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(InputError, match="`weights` chooses among those of a run; a network or an engine has its own"):
        predict(image, pairs, weights="best", device="cpu")
    (run.path / "weights_best.safetensors").unlink()
    with pytest.raises(InputError, match=r"weights_best\.safetensors is missing; copy the run again"):
        predict(image, [trained, run.path], weights="best", device="cpu")
    files = {name: digest for name, digest in run.manifest["files"].items() if "best" not in name}
    run.update_manifest(files=files)
    for opened, asked in ((run, "best"), (prefer(run, "best"), None)):
        with pytest.raises(InputError, match=r"has no best weights, because no epoch was validated; .*'final'"):
            predict(image, opened.path, weights=asked, device="cpu")
    with pytest.raises(InputError, match="`weights` 'last' is unknown"):
        deconvseg.predict(image, run.path, weights="last", device="cpu")


def test_a_threshold_is_applied_only_to_the_weights_that_it_was_chosen_for(run: Run) -> None:
    choose_threshold(run.path, 0.3)
    decided = decide_threshold(None, [run.path], "best")
    assert decided.threshold is None
    assert decided.warnings == (
        f"{run.path}: its threshold 0.3 (set by hand) was chosen for its final weights, and is not applied to the best "
        "ones",
    )
    assert decide_threshold(None, [run.path], "final").threshold == decide_threshold(None, [run.path]).threshold == 0.3
    assert decide_threshold(0.3, [run.path], "best").threshold == 0.3
    best = prefer(run, "best")
    assert choose_threshold(best.path, 0.4).weights == weights_of(best.path, "best")
    assert decide_threshold(None, [best.path], "final").threshold is None
    assert decide_threshold(None, [best.path]).warnings == ()
    # The same weights are the best and the final ones.
    best.save_weights(best.load_weights("weights_best"))
    assert read_threshold(best.path) is not None
    assert decide_threshold(None, [best.path], "final").threshold == 0.4


def test_post_processing_and_the_limit_of_doubt_belong_to_weights_too(run: Run) -> None:
    step = Step(step="keep_largest", structure="disc", labels=(255,), written_as=255)
    Postprocessing(steps=(step,)).write(run.path)
    assert decide_postprocessing([run.path]).postprocessing == read_postprocessing(run.path)
    assert decide_postprocessing([run], "final").postprocessing == read_postprocessing(run.path)
    refused = decide_postprocessing([run.path], "best")
    assert refused.postprocessing is None
    assert "its post-processing was chosen for its final weights, and is not applied" in refused.warnings[0]
    Postprocessing(steps=(step,), weights=weights_of(run.path, "best")).write(run.path)
    assert decide_postprocessing([run.path], "best").postprocessing is not None
    assert decide_postprocessing([run.path], "best").warnings == ()
    Postprocessing(steps=(step,), weights=("0" * 64,)).write(run.path)
    replaced = decide_postprocessing([run.path])
    assert replaced.postprocessing is not None
    assert replaced.warnings == (
        f"{run.path}: its post-processing was chosen for other weights than it has now; choose it again",
    )
    # A path may have the signs of a format.
    named = Path(shutil.copytree(run.path, run.path.with_name("run {0}")))
    assert (
        f"{named}: its post-processing was chosen for its final" in decide_postprocessing([named], "best").warnings[0]
    )
    Postprocessing(steps=(step,), weights=weights_of(run.path, "best")).write(run.path)
    points = read_operating_points(run.path)
    assert points is not None
    points.model_copy(update={"doubts": {f"case{number}": number / 10 for number in range(10)}}).write(run.path)
    assert doubt_limit([run.path]) == doubt_limit([run.path], "final") is not None
    assert doubt_limit([run.path], "best") is None


def test_an_evaluation_finds_the_run_of_masks_by_its_best_weights(run: Run, discs: Path, tmp_path: Path) -> None:
    name = run.splits["train"][0]
    predict(discs, run.path, tmp_path / "masks", weights="best", device="cpu", cases=[name])
    found = deconvseg.evaluate(discs / "masks" / f"{name}.png", tmp_path / "masks" / f"{name}.png")
    assert found.origin["runs"] == [describe_run(run, "best")]
    assert found.origin["trained_on"] == [name]
