"""Networks in other software: exports with a contract, runs to share, plans for nnU-Net, imported models."""

from deconvseg.integrations.exporting.contract import Contract, Parity, Quantisation, read_contract
from deconvseg.integrations.exporting.export import export
from deconvseg.integrations.hub import Pushed, push
from deconvseg.integrations.nnunet import (
    NNUNetConfiguration,
    NNUNetPlan,
    NNUNetUpgrade,
    PlannedNetwork,
    UpsampledUNet,
    import_nnunet,
    nnunet_environment,
    plan_for_nnunet,
    upgrade_nnunet,
)
from deconvseg.integrations.official import import_official
from deconvseg.integrations.sharing import pack

__all__ = [
    "Contract",
    "NNUNetConfiguration",
    "NNUNetPlan",
    "NNUNetUpgrade",
    "Parity",
    "PlannedNetwork",
    "Pushed",
    "Quantisation",
    "UpsampledUNet",
    "export",
    "import_nnunet",
    "import_official",
    "nnunet_environment",
    "pack",
    "plan_for_nnunet",
    "push",
    "read_contract",
    "upgrade_nnunet",
]
