"""The registry of upsamplings: a new kind in one place is a kind everywhere, and says what it takes."""

import json
from collections.abc import Sequence
from typing import Annotated, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field
from torch import Tensor, nn

from deconvseg import create_model, load_network, predict
from deconvseg.errors import InputError
from deconvseg.nn import (
    create_upsampling,
    describe_upsampling,
    list_upsampling,
    register_upsampling,
    upgrade_upsampling,
)
from deconvseg.nn.dimensions import CONV
from deconvseg.nn.upsampling import SummedUpsampling, choose_upsampling, kinds, registry
from deconvseg.training import train
from documents import code_of, install
from nn.kinds import UPSAMPLINGS
from nn.peers import PEERS
from plans import tiny_plan


def register_smoothed():
    """The new kind: what a page of its own would hold."""

    @register_upsampling("smoothed", keeps_channels=True)
    class SmoothedUpsampling(nn.Module):
        """Repeat every pixel and blur.

        Args:
            sigma: width of the blur in pixels.
            border: what lies around the image.

        """

        def __init__(
            self,
            in_channels: int,
            out_channels: int,
            scale: Sequence[int],
            spatial_dims: int,
            *,
            sigma: Annotated[float, Field(gt=0, le=4)] = 1.0,
            border: Literal["zeros", "replicate"] = "zeros",
        ) -> None:
            super().__init__()
            self.scale, self.sigma, self.border = tuple(scale), sigma, border
            self.project = CONV[spatial_dims](in_channels, out_channels, kernel_size=1)

        def forward(self, x: Tensor) -> Tensor:
            x = F.interpolate(self.project(x), scale_factor=tuple(map(float, self.scale)), mode="nearest")
            return (x + x.roll(1, -1) * self.sigma) / (1 + self.sigma)

    return SmoothedUpsampling


@pytest.fixture
def _forgets(monkeypatch):
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))


@pytest.fixture
def smoothed(_forgets):
    return register_smoothed()


class TestANewKind:
    def test_is_an_upsampling_of_the_networks_alone_and_in_sums(self, smoothed):
        choice = {"kind": "smoothed", "sigma": 0.5}
        model = create_model("unet", in_channels=1, out_channels=2, spatial_dims=2, widths=(4, 8, 8), upsampling=choice)
        assert [type(stage.upsampling) for stage in model.decoder] == [smoothed] * 2
        assert {stage.upsampling.sigma for stage in model.decoder} == {0.5}
        # It keeps the channels, so that the convolutions narrow them.
        assert model.config["narrowing"] == "convolutions"
        assert create_model("unet", **json.loads(json.dumps(model.config))).config == model.config
        for name in ("dtc+smoothed", "smoothed+linear"):
            model = create_model("nnunet", in_channels=1, out_channels=2, widths=(4, 8, 8), upsampling=name)
            layer = model.upsamples[0].transp_conv
            assert isinstance(layer, SummedUpsampling)
            assert smoothed in (type(layer.base), type(layer.added))
            assert model(torch.randn(1, 1, 8, 8, 8)).shape == (1, 2, 8, 8, 8)

    def test_upgrades_a_finished_model_and_is_upgraded(self, smoothed):
        model = PEERS["DynUNet"].make()
        changes = upgrade_upsampling(model, {"kind": "smoothed", "border": "replicate"}, "replace")
        assert {change.kind for change in changes} == {"smoothed"}
        layers = [model.get_submodule(change.path) for change in changes]
        assert {(type(layer), layer.border) for layer in layers} == {(smoothed, "replicate")}
        # It does not learn where to sample, so another can stand beside it.
        changes = upgrade_upsampling(model, "dtc")
        assert {change.found for change in changes if change.path.startswith("upsamples")} == {"SmoothedUpsampling"}

    def test_is_in_a_plan_that_trains_and_in_the_run(self, smoothed, discs, tmp_path):
        plan = tiny_plan().with_values({"model.config.upsampling": {"kind": "dtc+smoothed", "sigma": 2}})
        plan = plan.with_values({"model.config.upsampling.sigma": 3, "model.config.upsampling.init": "zero"})
        run = train(discs, tmp_path / "run", plan=plan, splits=discs / "splits.json", device="cpu", workers=0)
        assert json.loads((run.path / "plan.json").read_text())["model"]["config"]["upsampling"] == {
            "kind": "dtc+smoothed", "sigma": 3, "init": "zero"
        }  # fmt: skip
        network = load_network(run.path, device="cpu")
        assert network.decoder[0].upsampling.base.sigma == 3
        # It started from zeros.
        assert network.decoder[0].upsampling.added.project.weight.any()
        predict(discs / "images" / "disc7.png", run.path, tmp_path / "masks", device="cpu")
        assert (tmp_path / "masks" / "disc7.png").exists()

    @pytest.mark.usefixtures("smoothed")
    def test_is_told_with_a_network(self, monkeypatch, capsys):
        from deconvseg.cli import main

        monkeypatch.setattr("sys.argv", ["deconvseg", "models", "unet"])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr().out
        assert not ended.value.code
        assert "smoothed (2D, 3D): Repeat every pixel and blur." in told
        assert "sigma: a number, above 0, at most 4 (default 1.0): width of the blur in pixels." in told
        assert "border: 'zeros' or 'replicate' (default 'zeros'): what lies around the image." in told

    @pytest.mark.usefixtures("smoothed")
    @pytest.mark.parametrize(
        ("upsampling", "message"),
        [
            ({"kind": "smothed"}, "upsampling 'smothed' is unknown: did you mean 'smoothed'"),
            (
                {"kind": "smoothed", "border": "zero"},
                "upsampling 'smoothed': border 'zero' is unknown: did you mean 'ze",
            ),
            ({"kind": "smoothed", "sigma": 5}, "upsampling 'smoothed': sigma=5: give a number, above 0, at most 4"),
            ({"kind": "smoothed", "sgima": 2}, "option 'sgima' is unknown: did you mean 'sigma'.* from sigma, border"),
        ],
    )
    def test_says_what_it_takes(self, upsampling, message):
        with pytest.raises(InputError, match=message):
            create_model("unet", in_channels=1, out_channels=2, upsampling=upsampling)
        with pytest.raises(InputError, match=message):
            upgrade_upsampling(PEERS["DynUNet"].make(), upsampling)

    @pytest.mark.usefixtures("_forgets")
    def test_that_lacks_the_axes_is_refused(self):
        register_upsampling("flat", spatial_dims=(2,))(kinds.linear.LinearUpsampling)
        message = r"upsampling 'flat': spatial_dims=3: choose from 2$"
        with pytest.raises(InputError, match=message):
            create_model("unet", in_channels=1, out_channels=2, spatial_dims=3, upsampling="flat")
        with pytest.raises(InputError, match=r"upsamples.*" + message.rstrip("$")):
            upgrade_upsampling(PEERS["DynUNet"].make(), "dtc+flat")

    @pytest.mark.usefixtures("_forgets")
    def test_that_takes_the_skip_connection_gets_it(self):
        @register_upsampling("skipping")
        class Skipping(nn.Module):
            """Half of the skip connection."""

            needs_skip = True

            def __init__(
                self, in_channels, out_channels, scale, spatial_dims, *, skip_channels=None, share: float = 0.5
            ):
                super().__init__()
                self.project = CONV[spatial_dims](skip_channels, out_channels, kernel_size=1)
                self.share = share

            def forward(self, x, skip):
                return self.share * self.project(skip)

        model = create_model(
            "deconver", in_channels=1, out_channels=1, spatial_dims=2, widths=(4, 8), upsampling="skipping"
        )
        assert model(torch.randn(1, 1, 8, 8)).shape == (1, 1, 8, 8)
        assert "skip_channels" not in describe_upsampling()
        with pytest.raises(InputError, match="upsampling 'skipping' needs the skip connection, which is not known"):
            upgrade_upsampling(PEERS["DynUNet"].make(), "skipping")
        with pytest.raises(InputError, match="upsampling 'skipping' takes the skip connection too, which the decoder"):
            create_model("segresnet", in_channels=1, out_channels=1, init_filters=8, upsampling="skipping")


@pytest.mark.usefixtures("smoothed")
class TestOptionsOfASum:
    def test_belong_to_the_kind_that_has_them(self):
        chosen = choose_upsampling({"kind": "dtc+linear", "align_corners": True, "init": "zero"})
        assert chosen.options == ({"init": "zero"}, {"align_corners": True})
        layer = chosen.create(4, 4, 2, 2)
        assert (layer.base.align_corners, layer.added.init) == (True, "zero")

    def test_of_one_name_are_told_apart_by_their_kind(self):
        @register_upsampling("other")
        def other(in_channels, out_channels, scale, spatial_dims, *, init: Literal["zero", "one"] = "one"):
            """Something else."""
            return create_upsampling("linear", in_channels, out_channels, scale, spatial_dims)

        with pytest.raises(InputError, match="both kinds have an option 'init': give 'dtc.init' or 'other.init'"):
            choose_upsampling({"kind": "dtc+other", "init": "zero"})
        chosen = choose_upsampling({"kind": "dtc+other", "dtc.init": "zero", "other.init": "one"})
        assert chosen.options == ({"init": "zero"}, {"init": "one"})


@pytest.mark.parametrize(
    ("upsampling", "message"),
    [
        ({"receptive_field": 2}, r"give a name, such as 'dtc', or a mapping with it"),
        (["dtc"], r"upsampling=\['dtc'\]: give a name"),
        ("DTC", "'DTC' is unknown: did you mean 'dtc'"),
        ("dtc+dtc", "'dtc.dtc' is unknown"),
        (
            {"kind": "dtc", "init": "zero", "dtc.init": "default"},
            "'init' and 'dtc.init' are the same option: give only one",
        ),
        ({"kind": "dtc", ".init": "zero"}, "option '.init' is unknown: did you mean 'init'"),
        ("dtc+linear+fade", "'dtc.linear.fade' is unknown.*or a sum of two, as 'dtc.linear'"),
        ({"kind": "transposed", "receptive_field": 2}, "upsampling 'transposed': option 'receptive_field' is unknown"),
        ({"kind": "dtc", "receptive_field": "4"}, "receptive_field='4': give a positive number, or 'inf'"),
        ({"kind": "dtc", "components": "tanh"}, "components='tanh': give a list of 'weight', 'sigmoid' or 'tanh'"),
        ({"kind": "dysample", "groups": 2.5}, "groups=2.5: give an integer, at least 1"),
        ({"kind": "linear", "align_corners": 1}, "align_corners=1: give true or false"),
    ],
)
def test_what_is_no_upsampling_is_named(upsampling, message):
    with pytest.raises(InputError, match=message):
        create_upsampling(upsampling, 4, 4)


@given(st.sampled_from(UPSAMPLINGS), st.sampled_from([2, 3]), st.data())
def test_defaults_given_as_options_make_the_same_layer(name, dims, data):
    options = {name: option.default for kind in choose_upsampling(name).kinds for name, option in kind.options.items()}
    chosen = data.draw(st.lists(st.sampled_from(sorted(options)), unique=True)) if options else []
    given = {key: options[key] for key in chosen}
    torch.manual_seed(0)
    plain = create_upsampling(name, 4, 8, 2, dims, skip_channels=4)
    torch.manual_seed(0)
    told = create_upsampling({"kind": name, **json.loads(json.dumps(given))}, 4, 8, 2, dims, skip_channels=4)
    assert str(plain) == str(told)
    for mine, other in zip(plain.state_dict().values(), told.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=0)


@pytest.mark.usefixtures("_forgets")
def test_names_are_registered_once_and_have_no_signs_of_sums_and_options():
    with pytest.raises(ValueError, match="'dtc' is already registered"):
        register_upsampling("dtc")(nn.Identity)
    for name in ("", "a+b", "a.b"):
        with pytest.raises(ValueError, match="leave out"):
            register_upsampling(name)(nn.Identity)
    with pytest.raises(ValueError, match="its option 'sigma' has no default"):
        register_upsampling("new")(lambda i, o, scale, dims, *, sigma: nn.Identity())


@pytest.mark.usefixtures("_forgets")
def test_the_kind_of_the_documentation_comes_from_an_installed_package(tmp_path, monkeypatch):
    install(tmp_path, "blurred_upsampling", code_of("explanation/upsampling.md"), "deconvseg.upsampling")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("deconvseg.system.plugins._loaded", set())
    assert "blurred" in list_upsampling()
    layer = create_upsampling({"kind": "blurred", "width": 5, "edge": "same"}, 2, 4, 2, 2)
    assert layer(torch.rand(1, 2, 6, 8)).shape == (1, 4, 12, 16)
    # Its edges are those of the image: a constant stays one.
    expected = layer.project.bias.view(1, 4, 1, 1).expand(1, 4, 8, 8)
    torch.testing.assert_close(layer(torch.zeros(1, 2, 4, 4)), expected)


def test_every_file_of_the_folder_registers_a_kind():
    files = {path.rpartition(".")[2] for path in (kind.build.__module__ for kind in registry._KINDS.values())}
    assert files == set(list_upsampling())


def test_the_former_tuple_of_names_is_deprecated():
    import deconvseg.nn as layers

    with pytest.warns(DeprecationWarning, match=r"UPSAMPLING_KINDS is deprecated: call list_upsampling\(\)"):
        assert sorted(layers.UPSAMPLING_KINDS) == sorted(UPSAMPLINGS)
    with pytest.raises(AttributeError, match="UPSAMPLING_KIND"):
        _ = layers.UPSAMPLING_KIND


def test_former_arguments_of_the_functions_are_deprecated():
    with pytest.warns(DeprecationWarning, match="kind, receptive_field: deprecated as arguments, give upsampling="):
        layer = create_upsampling(kind="dtc", in_channels=4, out_channels=4, receptive_field=3)
    assert layer.receptive_field == 3
    model = PEERS["DynUNet"].make()
    with pytest.warns(
        DeprecationWarning, match="kind, init: deprecated as arguments, give upsampling={'kind': 'dtc', 'ini"
    ):
        upgrade_upsampling(model, kind="dtc", init="zero")
    assert {module.init for module in model.modules() if hasattr(module, "coordinates")} == {"zero"}
