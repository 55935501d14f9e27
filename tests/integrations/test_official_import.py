"""Runs made of checkpoints of the authors' code: every layout, the plan of the preset, and what is refused."""

from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.integrations import pack
from deconvseg.integrations.official import import_official
from deconvseg.integrations.sharing.card import model_card
from deconvseg.models import Deconver, load_official
from deconvseg.runs import Run, locate
from models.test_official import official_weights

CONFIG = {"spatial_dims": 3, "widths": (8, 16, 32), "depths": (1, 2, 1), "kernel_size": 3}


def weights_of(inputs: int = 2, outputs: int = 1, **changes):
    """The authors' state dict for so many channels and outputs."""
    weights = official_weights({**CONFIG, **changes})
    generator = torch.Generator().manual_seed(1)
    draw = {"stem.weight": 1, "head.weight": 0, "head.bias": 0}
    for name, axis in draw.items():
        shape = list(weights[name].shape)
        shape[axis] = inputs if axis else outputs
        weights[name] = torch.randn(shape, generator=generator)
    return weights


LAYOUTS = {
    "the state dict": lambda state: state,
    "a MONAI bundle": lambda state: {
        "trainer": {"iteration": 3, "epoch_length": 2},
        "model": OrderedDict(state),
        "optimizer": {"state": {}, "param_groups": [{"lr": np.float64(1e-4)}]},
        "logger": {"loss": [(1, 0.5)], "metrics": defaultdict(list)},
    },
    "state_dict, several devices": lambda state: {"state_dict": {f"module.{n}": v for n, v in state.items()}},
    "a compiled network": lambda state: {"network": {f"net._orig_mod.{n}": v for n, v in state.items()}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_authors_network(tmp_path: Path, layout: str) -> None:
    state = weights_of()
    torch.save(LAYOUTS[layout](state), tmp_path / "model.pt")
    run = import_official(tmp_path / "model.pt", tmp_path / "run", preset="isles22")
    expected = Deconver(2, 1, **CONFIG, eps=1e-16).eval()
    load_official(expected, state)
    x = torch.rand(1, 2, 8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(run.network("final")(x), expected(x), rtol=1e-5, atol=1e-5)
    plan = run.plan
    assert (plan.spacing, plan.crop_margin, plan.normalise_first) == ((2.0, 2.0, 2.0), 10, True)
    assert [channel.name for channel in plan.channels] == ["DWI", "ADC"]
    assert {channel.normalisation for channel in plan.channels} == {"zscore_nonzero"}
    assert run.finished


def test_its_package_says_where_it_comes_from(tmp_path: Path) -> None:
    torch.save(weights_of(), tmp_path / "doe.pt")
    run = import_official(tmp_path / "doe.pt", tmp_path / "run", preset="isles22")
    digest = run.config["imported"]["checkpoint_sha256"]
    run.update_manifest(command="deconvseg import-official doe.pt -o run")
    package = pack(run.path, tmp_path / "model.dseg.zip")
    assert package.command is None
    assert package.imported == {"origin": "the authors' code of Deconver", "preset": "isles22", "sha256": digest}
    kept = Run(locate(tmp_path / "model.dseg.zip"))
    assert kept.config["imported"]["checkpoint_sha256"] == digest
    assert "seed" not in kept.config
    assert b"doe" not in (tmp_path / "model.dseg.zip").read_bytes()
    card = model_card(package, kept.plan, source="hf://me/m")
    assert "imported from the authors' code of Deconver (preset `isles22`) with" in card
    assert "trained with" not in card
    assert "trained by" not in card


def test_brats_has_the_authors_order_of_outputs(tmp_path: Path) -> None:
    torch.save({"model": weights_of(4, 3)}, tmp_path / "model.pt")
    plan = import_official(tmp_path / "model.pt", tmp_path / "run", preset="brats23").plan
    assert [(r.name, r.labels, r.paints) for r in plan.regions or ()] == [
        ("ET", (3,), 3),
        ("TC", (1, 3), 1),
        ("WT", (1, 2, 3), 2),
    ]
    assert [plan.output_names[place] for place in plan.painting_order] == ["WT", "TC", "ET"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ratio": 2, "groups": 4}, {"ratio": 2, "groups": 4}),
        ({"kernel_size": 5, "decoder_depths": (2, 1)}, {"kernel_size": [[5] * 3] * 3, "decoder_depths": [2, 1]}),
        ({"ratio": 1, "groups": 1}, {"ratio": 1, "groups": 1}),
    ],
)
def test_the_shapes_give_the_network(tmp_path: Path, changes: dict, expected: dict) -> None:
    torch.save(weights_of(**changes), tmp_path / "model.pt")
    config = import_official(tmp_path / "model.pt", tmp_path / "run", preset="isles22").plan.model.config
    assert {name: config[name] for name in expected} == expected


class Evil:
    def __reduce__(self):
        return print, ("this must not run",)


def without(name):
    return {key: value for key, value in weights_of().items() if key != name}


BAD = {
    "another number of channels": (lambda: weights_of(4), "has 4 input channels, but preset isles22 has 2"),
    "another number of outputs": (lambda: weights_of(2, 3), "has 3 outputs, but preset isles22 has 1"),
    "no stem": (lambda: without("stem.weight"), "has no stem.weight, as the authors' Deconver has"),
    "a tensor less": (lambda: without("head.bias"), "missing: head.bias"),
    "a tensor more": (lambda: {**weights_of(), "norm.weight": torch.ones(3)}, "unexpected: norm.weight"),
    "another network": (lambda: {"conv.weight": torch.ones(3)}, "has no stem.weight"),
    "no state dict": (lambda: {"epoch": 3}, "holds epoch, and no state dict under model, state_dict"),
    "no tensors": (lambda: {"model": {"stem.weight": 3}}, "'stem.weight' is a int; a state dict has tensors only"),
    "an object": (lambda: {"model": Evil()}, "holds an object of print"),
}


@pytest.mark.parametrize("name", BAD)
def test_mismatches_are_named(tmp_path: Path, name: str, capsys: pytest.CaptureFixture) -> None:
    make, message = BAD[name]
    torch.save(make(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=message):
        import_official(tmp_path / "model.pt", tmp_path / "run", preset="isles22")
    assert not (tmp_path / "run").exists()
    assert "must not run" not in capsys.readouterr().out


def test_a_preset_without_the_authors_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'btcv' is unknown: .*choose from isles22, brats23, glas, fives, isles26"):
        import_official(tmp_path / "model.pt", tmp_path / "run", preset="btcv")
