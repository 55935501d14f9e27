"""Networks in other software: exports with a contract, runs to share, plans for nnU-Net."""

from deconvseg.integrations.exporting.contract import Contract, Parity, Quantisation, read_contract
from deconvseg.integrations.exporting.export import export
from deconvseg.integrations.hub import Pushed, push
from deconvseg.integrations.nnunet import (
    NNUNetConfiguration,
    NNUNetPlan,
    NNUNetUpgrade,
    PlannedNetwork,
    UpsampledUNet,
    nnunet_environment,
    plan_for_nnunet,
    upgrade_nnunet,
)
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
    "nnunet_environment",
    "pack",
    "plan_for_nnunet",
    "push",
    "read_contract",
    "upgrade_nnunet",
]
