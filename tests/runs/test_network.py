"""The network of a run, with its weights: the best or the final ones, checked, and the one that predicts."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import deconvseg
from deconvseg.errors import InputError
from deconvseg.inference import Predictor
from deconvseg.models import create_model
from deconvseg.runs import Run
from plans import tiny_plan


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose best weights are other ones than its final ones."""
    made = Run.create(tmp_path / "run", tiny_plan(), {}, {"train": [], "val": [], "test": []})
    for kind in ("weights", "weights_best"):
        made.save_weights(create_model(made.plan.model.name, **made.plan.model.config).state_dict(), kind)
    return made


@pytest.mark.parametrize(("which", "file"), [("best", "weights_best"), ("final", "weights")])
def test_it_has_the_weights_that_were_asked_for_and_does_not_train(run: Run, which, file) -> None:  # type: ignore[no-untyped-def]
    network = deconvseg.load_network(run.path, which, device="cpu")
    assert not network.training
    expected = load_file(run.path / f"{file}.safetensors")
    assert network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())


def test_the_best_weights_are_the_default_and_the_final_ones_where_there_never_were_others(run: Run) -> None:
    first = next(iter(load_file(run.path / "weights.safetensors")))
    best = deconvseg.load_network(run.path, device="cpu").state_dict()[first]
    (run.path / "weights_best.safetensors").unlink()
    with pytest.raises(
        InputError, match=r"weights_best\.safetensors is missing; copy the run again, or take the final"
    ):
        deconvseg.load_network(run.path, device="cpu")
    files = {name: digest for name, digest in run.manifest["files"].items() if name != "weights_best.safetensors"}
    run.update_manifest(files=files)
    final = deconvseg.load_network(run.path, device="cpu").state_dict()[first]
    assert torch.equal(final, load_file(run.path / "weights.safetensors")[first])
    assert not torch.equal(best, final)


def test_prediction_uses_the_final_weights(run: Run) -> None:
    x = torch.randn(1, 1, 16, 16)
    (network,) = Predictor([run]).networks
    with torch.no_grad():
        torch.testing.assert_close(network(x), run.network("final")(x))


@pytest.mark.faults
def test_a_damaged_file_another_network_and_no_run_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        deconvseg.load_network(tmp_path)
    with pytest.raises(InputError, match="'last' is unknown"):
        deconvseg.load_network(run.path, "last")  # type: ignore[call-overload]
    shutil.copy(run.path / "weights.safetensors", run.path / "weights_best.safetensors")
    with pytest.raises(InputError, match="SHA-256 is not the one"):
        deconvseg.load_network(run.path, device="cpu")
    run.save_weights({"a": torch.zeros(1)})
    with pytest.raises(InputError, match=r"weights\.safetensors: the weights are of another network"):
        run.network("final")


def test_the_plan_is_read_once(run: Run) -> None:
    plan = run.plan
    (run.path / "plan.json").unlink()
    assert run.plan is plan


def test_a_cross_validation_has_no_network_of_its_own(run: Run) -> None:
    (run.path / "splits_final.json").write_text("[]")
    with pytest.raises(InputError, match=r"a cross-validation, without weights of its own; give a fold of it"):
        deconvseg.load_network(run.path, device="cpu")
