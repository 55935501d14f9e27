"""nnU-Net v2: its plans with the networks of this package, DTC in its own networks, trainers of the papers' recipes."""

from deconvseg.integrations.nnunet.networks import PlannedNetwork, UpsampledUNet
from deconvseg.integrations.nnunet.planning import NNUNetConfiguration, NNUNetPlan, plan_for_nnunet

__all__ = ["NNUNetConfiguration", "NNUNetPlan", "PlannedNetwork", "UpsampledUNet", "plan_for_nnunet"]
