"""What nnU-Net finds in this folder, by ``nnUNet_extTrainer``: trainers that stay importable after its search."""

from deconvseg.integrations.nnunet.recipes import DeconverTrainer, DTCTrainer

__all__ = ["DTCTrainer", "DeconverTrainer"]
