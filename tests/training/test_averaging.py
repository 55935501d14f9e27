"""The moving average of the weights."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from deconvseg.runs import Run
from deconvseg.training import train
from deconvseg.training.averaging import average_weights
from deconvseg.training.checkpoint import SafetensorsCheckpointIO
from plans import tiny_plan


@settings(deadline=None, max_examples=20)
@given(decay=st.floats(0.01, 0.999), values=st.lists(st.floats(-5, 5), min_size=1, max_size=12))
def test_the_average_is_its_recursion(decay: float, values: list[float]) -> None:
    network = nn.Linear(1, 1, bias=False)
    averaged = average_weights(network, decay)
    expected = 0.0
    for count, value in enumerate(values):
        nn.init.constant_(network.weight, value)
        averaged.update_parameters(network)
        kept = min(decay, (1 + count) / (10 + count))
        expected = value if count == 0 else kept * expected + (1 - kept) * value
    assert averaged.module.weight.item() == pytest.approx(expected, abs=1e-5)
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def test_statistics_of_batch_normalisation_are_averaged_and_counts_copied() -> None:
    network = nn.BatchNorm1d(1)
    averaged = average_weights(network, 0.5)
    for mean in (4.0, 8.0):
        network.running_mean.fill_(mean)
        network.num_batches_tracked += 1
        averaged.update_parameters(network)
    assert averaged.module.running_mean.item() == pytest.approx(8 - 4 * 2 / 11)
    assert averaged.module.num_batches_tracked.item() == 2


def test_a_run_keeps_and_validates_the_average(discs: Path, tmp_path: Path) -> None:
    options = {"splits": discs / "splits.json", "device": "cpu"}
    recipe = {"epochs": 2, "steps_per_epoch": 3, "validate_every": 1, "learning_rate": 0.003}
    plain = train(discs, tmp_path / "plain", plan=tiny_plan(), **options)
    run = train(discs, tmp_path / "averaged", plan=tiny_plan(recipe={**recipe, "averaging": 0.9}), **options)
    state = SafetensorsCheckpointIO().load_checkpoint(run.resume_file)["state_dict"]
    kept, last = run.load_weights(), Run(plain.path).load_weights()
    for name, tensor in kept.items():
        assert torch.equal(tensor, state[f"average.module.{name}"])
        # Averaging does not change how the network itself is trained.
        assert torch.equal(last[name], state[f"network.{name}"])
    assert any(not torch.equal(tensor, last[name]) for name, tensor in kept.items())
    losses = [[row["train_loss"] for row in Run(path).metrics] for path in (plain.path, run.path)]
    assert losses[0] == losses[1]
