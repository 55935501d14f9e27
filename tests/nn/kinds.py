"""What upsamplings the tests go through: every registered kind, and its sum with DTC."""

from deconvseg.nn import list_upsampling

# DTC that adds nothing before it is trained.
ZERO = {"kind": "dtc", "init": "zero"}
UPSAMPLINGS = [*list_upsampling(), *(f"dtc+{kind}" for kind in list_upsampling() if kind != "dtc")]
