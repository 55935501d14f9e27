"""Conversion of weights of the authors' repository, github.com/pashtari/deconver."""

import re
from collections.abc import Mapping

from torch import Tensor

from deconvseg.errors import InputError
from deconvseg.models.deconver import Deconver

# Left: names of this package. Right: the authors' names, in which a pointwise convolution is called `linear`.
_RENAMED = (
    (r"^encoder\.(\d+)\.downsampling\.", r"encoder.blocks.\1.downsample."),
    (r"^decoder\.(\d+)\.upsampling\.", r"decoder.blocks.\1.upsample."),
    (r"^decoder\.(\d+)\.fusion\.", r"decoder.blocks.\1.block.adapter.linear."),
    (r"^(encoder|decoder)\.(\d+)\.blocks\.(\d+)\.", r"\1.blocks.\2.block.blocks.\3."),
    (r"\.mixer\.project_(in|out)\.", r".dcm.\1_proj.linear."),
    (r"\.mixer\.ndc\.filters$", r".dcm.deconv.init.h0"),
    (r"\.mixer\.ndc\.initial_source\.", r".dcm.deconv.init.linear.linear."),
    (r"\.mlp\.0\.", r".mlp.block.0.linear."),
    (r"\.mlp\.2\.", r".mlp.block.3.linear."),
)


def load_official(model: Deconver, state_dict: Mapping[str, Tensor]) -> None:
    """Load a state dict of the authors' repository (package ``deconver``) into a Deconver of the same shape.

    Their networks with ``num_deep_supr=n`` correspond to ``deep_supervision_heads=n - 1``. Outputs agree for equal
    ``eps`` (their default is 1e-16). If names or shapes do not fit, nothing is loaded and an
    :class:`~deconvseg.errors.InputError` lists them.

    Example:
        >>> from deconvseg.models import Deconver, load_official
        >>> from deconvseg.models.official import official_name
        >>> trained, network = (Deconver(1, 2, spatial_dims=2, widths=(8, 16)) for _ in range(2))
        >>> load_official(network, {official_name(name): tensor for name, tensor in trained.state_dict().items()})
        >>> all(tensor.equal(trained.state_dict()[name]) for name, tensor in network.state_dict().items())
        True

    """
    ours = model.state_dict()
    supervised = "heads.0.weight" in state_dict
    theirs = {name: official_name(name, supervised) for name in ours}
    missing = [name for name in theirs.values() if name not in state_dict]
    unexpected = [name for name in state_dict if name not in set(theirs.values())]
    misshapen = [
        f"{official} {tuple(state_dict[official].shape)} instead of {tuple(ours[name].shape)}"
        for name, official in theirs.items()
        if official in state_dict and _core(state_dict[official]) != _core(ours[name])
    ]
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    problems = [f"{what}: {', '.join(names)}" for what, names in found.items() if names]
    if problems:
        raise InputError(
            f"the official weights do not fit this Deconver; {'; '.join(problems)}. Build it with their widths, "
            "depths, kernel size, ratio, groups and heads"
        )
    model.load_state_dict({name: state_dict[key].reshape(ours[name].shape) for name, key in theirs.items()})


def official_name(name: str, supervised: bool = False) -> str:
    """Return the authors' name of a parameter; ``supervised`` says whether their network has deep supervision heads."""
    if supervised:
        name = re.sub(r"^head\.", "heads.0.", name)
        name = re.sub(r"^extra_heads\.(\d+)\.", lambda match: f"heads.{int(match[1]) + 1}.", name)
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def _core(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape without trailing ones, because the authors' pointwise convolutions are 1D."""
    shape = tuple(tensor.shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
