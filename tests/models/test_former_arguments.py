"""DTC's arguments of the networks, as the version before had them: deprecated, and the same networks.

``golden/`` holds what that version wrote: a trained run with its logits of an image, and for each network a
configuration with the digest of the names and shapes of its state dict.
"""

import hashlib
import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deconvseg import load_network
from deconvseg.models import Deconver, Ensemble, UNet, create_model
from deconvseg.planning import read_plan
from deconvseg.runs import Run
from nn.peers import look_for_peers

GOLDEN = Path(__file__).parent / "golden"
RUN = GOLDEN / "run_with_dtc_arguments"
NETWORKS = json.loads((GOLDEN / "dtc_arguments.json").read_text())


@pytest.fixture
def _silent():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        yield


@pytest.mark.usefixtures("_silent")
def test_a_run_of_the_version_before_gives_its_logits():
    network, kept = load_network(RUN, device="cpu"), load_file(RUN / "logits.safetensors")
    weights = Run.open(RUN).load_weights()
    assert network.state_dict().keys() == weights.keys()
    for name, values in weights.items():
        torch.testing.assert_close(network.state_dict()[name], values, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(network(kept["image"]), kept["logits"], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_silent")
def test_its_plan_is_read_with_the_one_argument():
    options = {"receptive_field": "inf", "init": "bilinear", "components": ["weight", "tanh"], "align_corners": False}
    plan = read_plan(RUN / "plan.json")
    assert plan.model.config["upsampling"] == {"kind": "dtc+linear", **options}
    assert not plan.model.config.keys() & {"receptive_field", "dtc_init", "dtc_components", "align_corners"}
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan
    changed = plan.with_values({"model.config.dtc_init": "zero", "model.config.upsampling.receptive_field": 3})
    assert changed.model.config["upsampling"] == {
        "kind": "dtc+linear", **options, "init": "zero", "receptive_field": 3
    }  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_a_configuration_of_the_version_before_builds_the_same_state_dict(name):
    look_for_peers()
    if name == "nnunet_resenc":
        pytest.importorskip("dynamic_network_architectures", reason="dynamic-network-architectures is not installed")
    with torch.device("meta"):
        with pytest.warns(DeprecationWarning, match=r"receptive_field, dtc_init, dtc_components.*: deprecated"):
            model = create_model(name, **NETWORKS[name]["config"])
        rebuilt = create_model(name, **model.config)
    for network in (model, rebuilt):
        shapes = "\n".join(f"{key} {tuple(value.shape)}" for key, value in network.state_dict().items())
        assert hashlib.sha256(shapes.encode()).hexdigest() == NETWORKS[name]["state_dict"]
    assert rebuilt.config == model.config
    assert model.config["upsampling"].items() >= {"receptive_field": 4.0, "components": ["weight", "tanh"]}.items()


def test_constructors_take_them_and_name_the_new_argument():
    with pytest.warns(DeprecationWarning, match=r"receptive_field: deprecated .* upsampling=\{'kind': 'dtc', 're"):
        model = Deconver(1, 2, 2, (4, 8), upsampling="dtc", receptive_field=3.0)
    assert model.decoder[0].upsampling.receptive_field == 3
    with pytest.warns(DeprecationWarning, match="align_corners: deprecated"):
        model = UNet(1, 2, 2, (4, 8), align_corners=False)
    assert not model.decoder[0].upsampling.align_corners
    # Kinds without such an option had no use for it.
    with pytest.warns(DeprecationWarning, match="receptive_field: deprecated as arguments, give upsampling='linear'"):
        assert Deconver(1, 2, 2, (4, 8), upsampling="linear", receptive_field=3.0).config["upsampling"] == "linear"


def test_they_win_over_a_preset():
    with torch.device("meta"), pytest.warns(DeprecationWarning, match="receptive_field: deprecated"):
        model = create_model("unet", "isic", receptive_field=3)
    assert model.config["upsampling"] == {"kind": "dtc+linear", "receptive_field": 3}


@pytest.mark.usefixtures("_silent")
def test_members_of_an_ensemble_that_were_kept_are_built():
    member = {"name": "unet", "config": NETWORKS["unet"]["config"]}
    model = Ensemble(1, 2, 2, [member])
    assert model.members[0].decoder[0].upsampling.added.receptive_field == 4
