"""nnU-Net v2: its plans with the networks of this package, DTC in its own networks, its trained models as runs."""

from deconvseg.integrations.nnunet.environment import nnunet_environment
from deconvseg.integrations.nnunet.importing import import_nnunet
from deconvseg.integrations.nnunet.networks import PlannedNetwork, UpsampledUNet
from deconvseg.integrations.nnunet.planning import NNUNetConfiguration, NNUNetPlan, plan_for_nnunet
from deconvseg.integrations.nnunet.upgrading import NNUNetUpgrade, upgrade_nnunet

__all__ = [
    "NNUNetConfiguration",
    "NNUNetPlan",
    "NNUNetUpgrade",
    "PlannedNetwork",
    "UpsampledUNet",
    "import_nnunet",
    "nnunet_environment",
    "plan_for_nnunet",
    "upgrade_nnunet",
]
