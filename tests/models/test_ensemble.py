import pytest
import torch

from deconvseg.errors import InputError
from deconvseg.models import Ensemble, create_model
from models.tester import ModelTester

DECONVER = {"name": "deconver", "config": {"widths": [4, 8]}}
NNUNET = {"name": "nnunet", "config": {"widths": [4, 4, 4], "strides": [1, 3, 1]}}
UNETR = {"feature_size": 4, "hidden_size": 8, "mlp_dim": 8, "num_heads": 2}


class TestEnsemble(ModelTester):
    name = "ensemble"
    arguments = {"networks": (DECONVER, NNUNET)}  # noqa: RUF012
    supervised = None


class TestEnsembleOfSigmoids(ModelTester):
    name = "ensemble"
    arguments = {"networks": (NNUNET, DECONVER), "activation": "sigmoid"}  # noqa: RUF012
    dims = (2,)
    supervised = None


def ensemble(*networks, **arguments):
    return create_model(
        "ensemble", **{"in_channels": 1, "out_channels": 3, "spatial_dims": 2, **arguments}, networks=networks
    )


@pytest.mark.parametrize(
    ("activation", "probabilities"), [("softmax", lambda x: torch.softmax(x, dim=1)), ("sigmoid", torch.sigmoid)]
)
def test_its_probabilities_are_the_mean_of_those_of_its_members(activation, probabilities):
    torch.manual_seed(0)
    model = ensemble(DECONVER, NNUNET, DECONVER, activation=activation).eval()
    x = torch.randn(2, 1, 6, 12)
    expected = torch.stack([probabilities(member(x)) for member in model.members]).mean(dim=0)
    torch.testing.assert_close(probabilities(model(x)), expected, rtol=1e-5, atol=1e-6)


def test_networks_that_are_there_already_make_one_and_share_their_weights():
    networks = [create_model(**{"in_channels": 1, "out_channels": 2, "spatial_dims": 2, "name": entry["name"],
                                **entry["config"]}) for entry in (DECONVER, NNUNET)]  # fmt: skip
    model = Ensemble.of(networks, "sigmoid").eval()
    x = torch.randn(1, 1, 6, 6)
    expected = sum(torch.sigmoid(network.eval()(x)) for network in networks) / 2
    torch.testing.assert_close(torch.sigmoid(model(x)), expected, rtol=1e-5, atol=1e-6)
    assert list(model.members) == networks
    rebuilt = create_model("ensemble", **model.config)
    rebuilt.load_weights(model.state_dict(), "the members")
    torch.testing.assert_close(rebuilt.eval()(x), model(x), rtol=0, atol=0)
    with pytest.raises(InputError, match="its out_channels is 3, the ensemble's 2"):
        Ensemble.of([networks[0], create_model("nnunet", in_channels=1, out_channels=3, spatial_dims=2)])


def test_networks_in_place_of_their_configurations_are_told_the_way():
    with pytest.raises(InputError, match=r"networks\[0\] is a Deconver: give its name and config, or use Ensemble.of"):
        Ensemble(1, 2, 2, [create_model("deconver", in_channels=1, out_channels=2, widths=[4])])


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_certain_members_make_finite_logits(activation):
    model = ensemble(DECONVER, DECONVER, activation=activation)
    for member, sign in zip(model.members, (1e4, 2e4), strict=True):
        torch.nn.init.constant_(member.head.weight, 0)
        member.head.bias.data = torch.tensor([sign, -sign, 0])
    logits = model(torch.randn(1, 1, 4, 4))
    assert torch.isfinite(logits).all()
    assert logits.argmax(dim=1).eq(0).all()


def test_sizes_are_multiples_of_all():
    assert ensemble(DECONVER, NNUNET).size_multiple == (6, 6)
    assert ensemble(DECONVER, {"name": "unetr", "config": {"image_size": 32, **UNETR}}).fixed_size == (32, 32)


def test_the_one_of_isles26_is_segresnet_and_deconver():
    with torch.device("meta"):
        model = create_model("ensemble", "isles26")
    assert [type(member).__name__ for member in model.members] == ["SegResNet", "Deconver"]


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], r"networks=\(\): give the name and config of one network"),
        ([{"name": "deconvr"}], r"networks\[0\]: model 'deconvr' is unknown: did you mean 'deconver'"),
        (
            [DECONVER, {"name": "deconver", "config": {"width": 3}}],
            r"networks\[1\]: model 'deconver': argument 'width'",
        ),
        ([{"name": "deconver", "config": {"out_channels": 2}}], "its out_channels is 2, the ensemble's 3"),
        ([{"config": {}}], "give a registered name"),
        ([{"name": "deconver", "weights": "a"}], "give a registered name"),
        (
            [{"name": "unetr", "config": {"image_size": size, **UNETR}} for size in (16, 32)],
            r"built for different sizes, \(16, 16\) and \(32, 32\)",
        ),
        (
            [NNUNET, {"name": "unetr", "config": {"image_size": 16, **UNETR}}],
            r"got spatial size \(16, 16\), which must be a multiple of \(3, 3\)",
        ),
    ],
)
def test_networks_that_do_not_fit_are_named(networks, message):
    with pytest.raises(InputError, match=message):
        ensemble(*networks)


def test_an_activation_that_is_none_is_refused():
    with pytest.raises(InputError, match="activation='relu': give"):
        ensemble(DECONVER, activation="relu")
