"""What upsamplings the tests go through: every registered kind, and its sum with DTC."""

from deconvseg.nn import list_upsampling
from deconvseg.nn.upsampling.registry import registered_kinds

# DTC that adds nothing before it is trained.
ZERO = {"kind": "dtc", "init": "zero"}
# The kinds that are also called with the skip connection.
WITH_SKIP = [name for name, kind in registered_kinds().items() if kind.takes_skip]
UPSAMPLINGS = [*list_upsampling(), *(f"dtc+{kind}" for kind in list_upsampling() if kind != "dtc")]


def takes_skip(kind):
    """Return whether a kind or sum is called with the skip connection."""
    return any(part in WITH_SKIP for part in kind.split("+"))
