import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
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
        (("unet", None, "SegMamba"), "variant='SegMamba': a variant belongs to a preset: name the preset too"),
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


NETWORK = '''
"""A network that is one file."""

from torch import Tensor, nn

from deconvseg.models.network import Network
from deconvseg.models.registry import register_model
from deconvseg.nn import create_upsampling


@register_model("shallow")
class Shallow(Network):
    """Segment at half the resolution."""

    def __init__(self, in_channels: int, out_channels: int, spatial_dims: int = 3, channels: int = 4) -> None:
        config = dict(locals())
        ends = {"in_channels": in_channels, "out_channels": out_channels, "spatial_dims": spatial_dims}
        super().__init__(config, **ends, size_multiple=[2] * spatial_dims)
        conv = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        self.down = conv(in_channels, channels, kernel_size=2, stride=2)
        self.up = create_upsampling("doubled", channels, out_channels, 2, spatial_dims)

    @classmethod
    def fitted(cls, grid, patch):
        """Yield its width."""
        for channels in (4, 8):
            yield f"width {channels}", {"channels": channels}

    def forward(self, x: Tensor) -> Tensor:
        """Segment."""
        self.check_input(x)
        return self.up(self.down(x))
'''
UPSAMPLING = '''
"""An upsampling that is one file."""

from torch import nn

from deconvseg.nn.upsampling.registry import register_upsampling


@register_upsampling("doubled")
def doubled(in_channels: int, out_channels: int, scale: tuple[int, ...], spatial_dims: int) -> nn.Module:
    """Repeat every pixel."""
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
    return nn.Sequential(conv(in_channels, out_channels, kernel_size=1), nn.Upsample(scale_factor=scale))
'''
USE = """
import sys, torch
from deconvseg.models import Grid, create_model, fit_model
from deconvseg.nn import describe_upsampling
from deconvseg.planning.fitting import check_fittable, fit_network

assert sys.modules["deconvseg"].__file__.startswith(sys.argv[1])
ends = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
assert create_model("shallow", **ends)(torch.zeros(1, 1, 4, 6)).shape == (1, 2, 4, 6)
check_fittable("shallow")
grid = Grid("cpu", (33.0, 40.0), False, ((1, 1), (2, 2)), ((True, True),) * 2)
patch, sizes = fit_network("shallow", ends, grid)
assert patch == (32, 40) and [label for label, _ in sizes] == ["width 4", "width 8"], (patch, sizes)
assert "doubled (2D, 3D): Repeat every pixel." in describe_upsampling()
"""


def test_a_new_network_and_a_new_upsampling_are_one_file_each(tmp_path):
    installed = Path(deconvseg.__file__).parent
    package = tmp_path / "deconvseg"
    for folder in (package, package / "models", package / "nn", package / "nn" / "upsampling"):
        folder.mkdir()
    added = {Path("models"): NETWORK, Path("nn/upsampling/kinds"): UPSAMPLING}
    (package / "nn" / "upsampling" / "kinds").mkdir()
    # The package as it is, by links, and one file more in each of two folders.
    for file in installed.rglob("*"):
        place = package / file.relative_to(installed)
        if not place.exists() and place.parent.is_dir() and not place.parent.is_symlink():
            place.symlink_to(file)
    for folder, text in added.items():
        (package / folder / "added.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", USE, str(tmp_path)]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)


def test_numbers_of_numpy_are_written_as_json_and_build_the_same_network():
    given = {"kind": "dtc", "receptive_field": np.float32(2.5)}
    with torch.device("meta"):
        model = create_model("unet", in_channels=1, out_channels=2, widths=[4, 8], upsampling=given)
        kept = json.loads(json.dumps(model.config, allow_nan=False))
        assert kept["upsampling"] == {"kind": "dtc", "receptive_field": 2.5}
        assert create_model("unet", **kept).config == model.config
