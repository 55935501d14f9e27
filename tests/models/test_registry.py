import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import deconvseg
from deconvseg.catalog import PRESETS
from deconvseg.errors import InputError
from deconvseg.models import Deconver, create_model, list_models, model_name, register_model


def test_the_registered_names_are_listed():
    assert "deconver" in list_models()
    assert list_models() == sorted(list_models())
    assert deconvseg.list_models() == list_models()


def test_a_preset_fixes_the_network_and_arguments_win():
    model = create_model("deconver", "glas", widths=[4, 8])
    assert isinstance(model, Deconver)
    assert model.config["widths"] == [4, 8]
    for name in ("in_channels", "out_channels", "spatial_dims"):
        assert model.config[name] == PRESETS["glas"].ends[name]


def test_a_variant_brings_all_that_it_changes():
    with torch.device("meta"):
        model = create_model("unet", "busi", variant="UNet, transposed, with DTC", norm="instance")
    chosen = {name: model.config[name] for name in ("upsampling", "norm")}
    assert chosen == {"upsampling": {"kind": "dtc+transposed", "receptive_field": 10}, "norm": "instance"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("unet", "busi", "UNet, transposed with DTC"), "variant 'UNet, transposed with DTC' is unknown: did you mean"),
        (("unet", "busi", "SegMamba"), "variant 'SegMamba' is unknown: .*choose from UNet, linear, UNet, linear, with"),
        (("unet", None, "SegMamba"), "variant='SegMamba': a variant is one of a preset: name that too"),
    ],
)
def test_a_variant_is_one_of_the_preset_s_networks_of_that_name(arguments, message):
    name, preset, variant = arguments
    with pytest.raises(InputError, match=message):
        create_model(name, preset, variant=variant)


def test_the_name_of_a_network_is_that_of_its_class():
    assert model_name(create_model("deconver", in_channels=1, out_channels=1, widths=[4])) == "deconver"

    class Unregistered(Deconver):
        pass

    with pytest.raises(InputError, match="Unregistered is not registered"):
        model_name(Unregistered(1, 1, 2, (4,)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("deconvr",), "model 'deconvr' is unknown: did you mean 'deconver'"),
        (("deconver", "isles"), "preset 'isles' is unknown: did you mean .*'isles22'"),
        (("deconver", "acdc"), "choose from isles22, brats23, glas, fives"),
        (("deconver",), "model 'deconver' needs in_channels, out_channels"),
    ],
)
def test_unknown_names_suggest_the_nearest(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model(*arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": 3}, "argument 'kernel' is unknown: did you mean 'kernel_size'"),
        ({"widths": "wide"}, "argument widths='wide': give Sequence"),
        ({"widths": [4, 8.5]}, r"argument widths=\[4, 8.5\]: give Sequence"),
        ({"groups": "8"}, "argument groups='8': give int"),
        ({"deep_supervision_heads": "false"}, "argument deep_supervision_heads='false': give int"),
        ({"ratio": None}, "argument ratio=None: give float"),
    ],
)
def test_unknown_arguments_and_wrong_types_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        create_model("deconver", "isles22", **arguments)


def test_a_model_that_the_papers_of_a_preset_do_not_have_is_refused():
    with pytest.raises(InputError, match="preset 'glas' has no 'swin_unetr_v2': choose from its deconver, nnunet, "):
        create_model("swin_unetr_v2", "glas")


def test_every_registered_model_has_the_inherited_tests():
    files = Path(__file__).parent.glob("test_*.py")
    tested = {name for file in files for name in re.findall(r'^    name = "(\w+)"$', file.read_text(), re.MULTILINE)}
    assert tested == set(list_models())


def test_no_other_package_is_imported_before_its_network_is_made():
    others = "monai", "dynamic_network_architectures"
    code = f"import sys, deconvseg.models; print([name for name in {others} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match="'deconver' is already registered"):
        register_model("deconver")(Deconver)
