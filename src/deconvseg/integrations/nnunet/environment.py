"""The variable by which nnU-Net finds the trainers of this package."""

import os
from pathlib import Path

from deconvseg.integrations.nnunet.installed import FINDS_TRAINERS, check_nnunet

_VARIABLE = "nnUNet_extTrainer"


def nnunet_environment() -> dict[str, str]:
    """Return the variable that nnU-Net's commands need to find the trainers of this package, with its present value.

    Raises :class:`~deconvseg.errors.MissingPackageError` without ``nnunetv2``, and
    :class:`~deconvseg.errors.InputError` for a version before 2.8, which looks for trainers only in itself.

    Example:
        >>> from deconvseg.integrations.nnunet import nnunet_environment
        >>> list(nnunet_environment())  # doctest: +SKIP
        ['nnUNet_extTrainer']

    """
    check_nnunet(FINDS_TRAINERS, "a search for trainers outside of nnU-Net")
    own = str(Path(__file__).with_name("trainers"))
    others = [path for path in os.environ.get(_VARIABLE, "").split(os.pathsep) if path and path != own]
    return {_VARIABLE: os.pathsep.join([own, *others])}
