"""What UPGRADING.md promises of every deprecated name and argument: a warning at the caller's own line."""

import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import deconvseg
from deconvseg import data, experiments, nn, planning
from deconvseg.errors import InputError

UNET = {"in_channels": 1, "out_channels": 1, "spatial_dims": 2}
IMAGE = Path("a.png")
DEPRECATED: dict[str, Callable[[], Any]] = {
    "a constant": lambda: data.IMAGE_SUFFIXES,
    "a name that moved": lambda: planning.choose_device,
    "a class": lambda: experiments.FoldTask,
    "an argument of a function": lambda: data.read_image(IMAGE, readers=[]),
    "arguments that became one": lambda: deconvseg.create_model("unet", **UNET, upsampling="dtc", receptive_field=4),
    "an argument of a network": lambda: deconvseg.models.UNet(
        1, 1, spatial_dims=2, upsampling="dtc", receptive_field=4
    ),
    "an argument by another name": lambda: nn.upgrade_upsampling(deconvseg.create_model("unet", **UNET), kind="dtc"),
    "progress": lambda: deconvseg.predict(IMAGE, [], "masks", progress=print),
}


@pytest.mark.parametrize("call", DEPRECATED.values(), ids=DEPRECATED)
def test_what_is_deprecated_warns_at_the_line_of_its_caller(call: Callable[[], Any]) -> None:
    with warnings.catch_warnings(record=True) as told, suppress(InputError):
        warnings.simplefilter("always")
        call()
    (warning,) = (entry for entry in told if issubclass(entry.category, DeprecationWarning))
    assert Path(warning.filename) == Path(__file__)
    assert warning.lineno == call.__code__.co_firstlineno
