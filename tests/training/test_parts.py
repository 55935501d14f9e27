import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from deconvseg.errors import DeconvsegError, InputError
from deconvseg.nn import Mamba
from deconvseg.planning import Recipe
from deconvseg.training.checkpoint import SafetensorsCheckpointIO
from deconvseg.training.optimiser import create_optimiser
from deconvseg.training.schedule import learning_rate_factor


def test_schedule_warms_up_from_a_tenth_and_falls_to_zero() -> None:
    def factor(progress: float) -> float:
        return learning_rate_factor(progress, warmup=0.01, warmup_from=0.1)

    assert factor(0) == pytest.approx(0.1)
    assert factor(0.01) == pytest.approx(1)
    assert factor(0.505) == pytest.approx(0.5)
    assert factor(1) == pytest.approx(0, abs=1e-12)
    assert factor(1.7) == factor(1)


def test_schedules_after_the_warm_up() -> None:
    def factor(progress: float, schedule: str, warmup_from: float = 10.0) -> float:
        return learning_rate_factor(progress, warmup=0.2, warmup_from=warmup_from, schedule=schedule)

    for schedule in ("cosine", "poly", "constant"):
        # The paper's "scaled by 10" may be read as ten times the rate.
        assert factor(0, schedule) == 10
        assert factor(0.1, schedule) == pytest.approx(5.5)
        assert factor(0.2, schedule) == pytest.approx(1)
    assert factor(0.6, "poly") == pytest.approx(0.5**0.9)
    assert factor(1, "poly") == 0
    assert factor(0.6, "constant") == factor(1, "constant") == 1
    assert Recipe(warmup_from=10).warmup_from == 10


def test_sgd_is_torchs_with_nesterovs_momentum() -> None:
    layer = nn.Linear(3, 2)
    made = create_optimiser(layer, Recipe(optimiser="sgd", momentum=0.99, learning_rate=0.01, weight_decay=3e-5))
    assert isinstance(made, torch.optim.SGD)
    settings = {key: made.param_groups[0][key] for key in ("momentum", "nesterov", "weight_decay", "lr")}
    assert settings == {"momentum": 0.99, "nesterov": True, "weight_decay": 3e-5, "lr": 0.01}
    # Nesterov's needs a momentum.
    assert not create_optimiser(layer, Recipe(optimiser="sgd", momentum=0)).param_groups[0]["nesterov"]


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0.01, 1))
def test_schedule_stays_between_zero_and_one(progress: float, warmup: float, warmup_from: float) -> None:
    assert 0 <= learning_rate_factor(progress, warmup=warmup, warmup_from=warmup_from) <= 1


def test_only_the_transition_of_a_scan_and_its_skip_are_not_decayed() -> None:
    network = nn.Sequential(nn.Conv1d(1, 4, 1), Mamba(4))
    decayed, others = create_optimiser(network, Recipe(weight_decay=0.5)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    scan = network[1].scans[0]
    assert {id(parameter) for parameter in others["params"]} == {id(scan.A_log), id(scan.D)}
    assert len(decayed["params"]) + 2 == len(list(network.parameters()))
    assert len(create_optimiser(network[0], Recipe()).param_groups) == 1


# The entries that every checkpoint of Lightning has.
EMPTY = {"epoch": 0, "global_step": 0, "state_dict": {}, "optimizer_states": []}


def test_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = {
        **EMPTY,
        "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.randn(2, 3)}, 1: {"step": torch.tensor(1.0)}},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1], "foreach": None}],
        "half": torch.ones(3, dtype=torch.bfloat16),
        "name": "x",
        "flag": True,
        "nothing": {},
    }
    io = SafetensorsCheckpointIO()
    io.save_checkpoint(tree, tmp_path / "deep" / "state.safetensors")
    loaded = io.load_checkpoint(tmp_path / "deep" / "state.safetensors")
    assert loaded["groups"] == tree["groups"]
    assert list(loaded) == list(tree)
    assert loaded["state"].keys() == {0, 1}
    assert torch.equal(loaded["state"][0]["exp_avg"], tree["state"][0]["exp_avg"])
    assert loaded["half"].dtype == torch.bfloat16


def test_checkpoint_of_shared_tensors_is_saved_once_each(tmp_path: Path) -> None:
    tensor = torch.arange(4.0)
    io = SafetensorsCheckpointIO()
    io.save_checkpoint({**EMPTY, "a": tensor, "b": tensor[1:]}, tmp_path / "state.safetensors")
    assert io.load_checkpoint(tmp_path / "state.safetensors")["b"].tolist() == [1, 2, 3]


def test_checkpoint_that_would_need_pickling_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeconvsegError, match="checkpoint entry /hook: a function"):
        SafetensorsCheckpointIO().save_checkpoint({"hook": lambda: 0}, tmp_path / "s")


@pytest.mark.faults
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", json.dumps({"a": 1}).encode()])
def test_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.safetensors").write_bytes(content)
    with pytest.raises(InputError, match="state.safetensors: not a checkpoint"):
        SafetensorsCheckpointIO().load_checkpoint(tmp_path / "state.safetensors")


def test_a_checkpoint_of_an_early_version_is_refused_by_what_it_lacks(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "state.safetensors", metadata={"checkpoint": "{}"})
    with pytest.raises(InputError, match=r"it has no checksum, like those of early versions\); .*train a new one"):
        SafetensorsCheckpointIO().load_checkpoint(tmp_path / "state.safetensors")
